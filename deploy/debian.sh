#!/bin/sh
# Makes sure that the Debian packages which `make test-all` plays against are here: installs what is missing when
# run as root on a machine with apt, else names it and fails. Nothing is skipped silently.
set -eu
list=$(dirname "$0")/debian-packages.txt
missing=""
for package in $(cat "$list"); do
    # Not `dpkg -s`, which also knows what was removed and left its config files.
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # A service that starts itself would hold a port the tests don't know of.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
    exit 0
fi
echo "linewatch: these Debian packages are missing:$missing" >&2
echo "linewatch: install them as root: apt-get install$missing" >&2
exit 1
