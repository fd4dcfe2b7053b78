#!/bin/sh
# Makes the example's bundle, once for each state of its script, and prints where it is.
#
# It and the Python environment that it needs are kept under BERTH_CACHE (default ~/.cache/berth); what is there is used
# as it is, without a network.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=${BERTH_CACHE:-$HOME/.cache/berth}/example
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
state=$(cat "$here/requirements.txt" "$here/train.py" | sha256sum | cut -c1-12)
venv=$cache/venv-$version-$(sha256sum <"$here/requirements.txt" | cut -c1-12)
bundle=$cache/$state/breast-cancer

if [ ! -f "$bundle/model.onnx" ]; then
    exec 3>&1 >&2 # what is printed from here on is for the person who waits
    if [ ! -f "$venv/complete" ]; then
        echo "example: making a Python environment with scikit-learn in $venv"
        rm -rf "$venv"
        mkdir -p "$cache"
        python3 -m venv "$venv" || {
            echo "example: python's venv module is missing: install it (Debian: apt-get install python3-venv)"
            exit 1
        }
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --only-binary :all: -r "$here/requirements.txt"
        touch "$venv/complete"
    fi
    echo "example: fitting a classifier"
    mkdir -p "$cache/$state"
    "$venv/bin/python" "$here/train.py" --out "$bundle"
    exec >&3
fi
echo "$bundle"
