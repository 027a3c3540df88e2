#!/bin/sh
# Installs Linewatch from this folder, without a network: ./install.sh [FOLDER]     (default: /opt/linewatch)
#
# Each version gets a virtual environment of its own, FOLDER/VERSION; FOLDER/current leads to the newest one that is
# whole. Another bundle of the same version goes beside it, to VERSION-HASH. To go back, lead `current` to the older
# one again: ln -sfn VERSION FOLDER/current
set -eu
# The service is another user than root, whose umask may keep everybody out.
umask 022
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-/opt/linewatch}
wanted=$(cat "$here/python" 2>/dev/null) || wanted=
version=$(sed -n 's/^linewatch==\([^ ]*\) .*/\1/p' "$here/requirements.txt" 2>/dev/null) || version=
# Without a version the folder of all versions would be taken for a half installation of this one, and removed.
[ -n "$wanted" ] && [ -n "$version" ] || {
    echo "linewatch: the bundle in $here is not whole: copy it again" >&2
    exit 2
}
python=${PYTHON:-python$wanted}

command -v "$python" >/dev/null || {
    echo "linewatch: this bundle is for Python $wanted, and there is no $python; install it, or name one: PYTHON=..." >&2
    exit 2
}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] || {
    echo "linewatch: this bundle is for Python $wanted and $python is $found; make a bundle with that Python" >&2
    exit 2
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "linewatch: $python lacks its venv module; on Debian: apt-get install python3-venv" >&2
    exit 2
}
mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] || {
    echo "linewatch: $folder can't be written: start it with sudo, or name another folder: $0 FOLDER" >&2
    exit 2
}
name=$version
# .whole holds the hashes of what was installed: a bundle mended without another number is another bundle.
if [ -e "$folder/$name/.whole" ] && ! cmp -s "$here/requirements.txt" "$folder/$name/.whole"; then
    name=$version-$(sha256sum "$here/requirements.txt" | cut -c1-8)
fi
if [ -e "$folder/$name/.whole" ]; then
    echo "linewatch: $name is installed in $folder already"
else
    rm -rf "${folder:?}/${name:?}"
    "$python" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install -q --disable-pip-version-check --no-input \
        --no-index --find-links "$here/wheels" --require-hashes -r "$here/requirements.txt"
    "$folder/$name/bin/linewatch" --version >/dev/null
    cp "$here/requirements.txt" "$folder/$name/.part"
    mv "$folder/$name/.part" "$folder/$name/.whole"
fi
ln -sfn "$name" "$folder/current"
echo "linewatch: $name is in $folder; next: $folder/current/bin/linewatch doctor CONFIG"
