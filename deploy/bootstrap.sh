#!/bin/sh
# Sets up a virtual environment with Linewatch in it: deploy/bootstrap.sh VENV EXTRAS
# or with other packages beside the same torch:       deploy/bootstrap.sh VENV "" PACKAGE...
#
# The build of torch is chosen here and nowhere else, in this order:
#   1. the user's word:           TORCH="torch --index-url ..." make demo
#   2. an NVIDIA driver answers:  the registry's torch, which is the CUDA build
#   3. a CPU wheel among pip's configured find-links (no network, no dependencies: answers at once)
#   4. else the registry's torch, which also runs on a CPU (about 3 GB)
# Where an NVIDIA driver answers, CuPy comes along, for the CUDA that torch was built for.
set -eu
venv=$1
extras=$2
shift 2
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "linewatch: $python is older than Python 3.11; name a newer one: make PYTHON=python3.12" >&2
    exit 2
}
pip="$venv/bin/python -m pip --disable-pip-version-check"
# One that was begun only, for want of Debian's python3-venv or by a Ctrl-C, has a python and no pip.
$pip --version >/dev/null 2>&1 || "$python" -m venv "$venv"

if ! $pip show -q torch 2>/dev/null; then
    if [ -n "${TORCH:-}" ]; then
        $pip install -q $TORCH
    elif nvidia-smi -L >/dev/null 2>&1; then
        $pip install -q torch
    elif ! $pip install -q --no-index --no-deps torch 2>/dev/null; then
        $pip install -q torch
    fi
fi

# The rest must fit the torch that is here, never replace it.
constraint=$(mktemp)
trap 'rm -f "$constraint"' EXIT
"$venv/bin/python" - >"$constraint" <<'PY'
import importlib.metadata
print("torch==" + importlib.metadata.version("torch"))
PY
cuda=
if [ $# -eq 0 ]; then
    set -- -e ".${extras:+[$extras]}"
    nvidia-smi -L >/dev/null 2>&1 &&
        cuda=$("$venv/bin/python" -c 'import torch; print(*(torch.version.cuda or "").split(".")[:1])')
fi
$pip install -q -c "$constraint" "$@"
case $cuda in
12 | 13)
    $pip install -q -c "$constraint" -e ".[cuda$cuda]" ||
        echo "linewatch: without CuPy, which could not be installed, the CPU measures the regions" >&2
    ;;
esac
