#!/bin/sh
# Installs Linewatch from this folder, without a network: ./install.sh [FOLDER]     (default: /opt/linewatch)
#
# Each version gets a virtual environment of its own, FOLDER/VERSION; FOLDER/current leads to the newest one that is
# whole. To go back, lead it to the older one again: ln -sfn VERSION FOLDER/current
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-/opt/linewatch}
wanted=$(cat "$here/python")
version=$(sed -n 's/^linewatch==\([^ ]*\) .*/\1/p' "$here/requirements.txt")
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
if [ -e "$folder/$version/.whole" ]; then
    echo "linewatch: $version is installed in $folder already"
else
    rm -rf "${folder:?}/$version"
    mkdir -p "$folder"
    "$python" -m venv "$folder/$version"
    "$folder/$version/bin/python" -m pip install -q --disable-pip-version-check --no-input \
        --no-index --find-links "$here/wheels" --require-hashes -r "$here/requirements.txt"
    "$folder/$version/bin/linewatch" --version >/dev/null
    touch "$folder/$version/.whole"
fi
ln -sfn "$version" "$folder/current"
echo "linewatch: $version is in $folder; next: $folder/current/bin/linewatch doctor CONFIG"
