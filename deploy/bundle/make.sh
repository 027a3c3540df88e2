#!/bin/sh
# Collects everything that an island needs into one folder: deploy/bundle/make.sh VENV FOLDER EXTRAS
#
# The wheels fit this machine's Python, system and processor, and the torch that VENV has: the CPU's or CUDA's, as
# deploy/bootstrap.sh chose it. FOLDER is replaced when the new one is whole.
set -eu
venv=$1
folder=$2
extras=$3
cd "$(dirname "$0")/../.."
python=$venv/bin/python
pip="$python -m pip --disable-pip-version-check"
torch=torch==$("$python" -c 'import importlib.metadata as m; print(m.version("torch"))')

fresh=$folder.fresh
rm -rf "$fresh"
mkdir -p "$fresh/wheels"
trap 'rm -rf "$fresh"' EXIT

# torch first, by the same words as bootstrap.sh, so that the rest can't bring another build of it.
$pip wheel -q --no-deps -w "$fresh/wheels" --no-index "$torch" 2>/dev/null ||
    $pip wheel -q --no-deps -w "$fresh/wheels" ${TORCH:-"$torch"}
echo "$torch" >"$fresh/constraint"
$pip wheel -q -w "$fresh/wheels" -f "$fresh/wheels" -c "$fresh/constraint" ".${extras:+[$extras]}"
rm "$fresh/constraint"
lacking=$("$python" deploy/bundle/lacking.py "$fresh")
[ -z "$lacking" ] || $pip wheel -q -w "$fresh/wheels" -f "$fresh/wheels" $lacking

"$python" deploy/bundle/pin.py "$fresh"
cp deploy/bundle/install.sh LICENSE "$fresh/"
# As they lie in deploy/, so that what the pages say of each other and of the examples is true there too.
cp -r deploy/*.md deploy/*.png deploy/cameras.example.yaml "$fresh/"
cp README.md "$fresh/LINEWATCH.md"
cp -r deploy/broker deploy/examples deploy/grafana deploy/prometheus deploy/systemd "$fresh/"
find "$fresh/examples" -name __pycache__ -prune -exec rm -rf {} +
rm -rf "$folder"
mv "$fresh" "$folder"
trap - EXIT
echo "$folder: $(du -sh "$folder" | cut -f1), $(ls "$folder/wheels" | wc -l) wheels; on the other machine: $folder/install.sh"
