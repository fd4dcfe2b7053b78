#!/bin/sh
# Checks that the machine has what the recipes need: Rust, a C compiler, Python 3.11 or newer with pip and venv.
#
# What Debian's packages have is installed when this may be done without asking for a password; the rest is named.
set -eu

missing=''
command -v cc >/dev/null || missing="$missing gcc libc6-dev"
command -v git >/dev/null || missing="$missing git"
command -v curl >/dev/null || missing="$missing curl"
command -v python3 >/dev/null || missing="$missing python3"
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"

if [ -n "$missing" ]; then
    sudo=''
    [ "$(id -u)" = 0 ] || sudo='sudo -n'
    if command -v apt-get >/dev/null && $sudo true 2>/dev/null; then
        echo "tools: installing$missing"
        $sudo apt-get update -q
        # shellcheck disable=SC2086 # one word for each package
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
    else
        echo "tools: missing:$missing (names of Debian's packages); install them and try again" >&2
        exit 1
    fi
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "tools: $(python3 --version) is too old: install Python 3.11 or newer and put it first in PATH as python3" >&2
    exit 1
}
command -v cargo >/dev/null || {
    echo "tools: cargo is missing: install Rust with rustup, which then takes the version that rust-toolchain.toml names" >&2
    exit 1
}
