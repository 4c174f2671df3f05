#!/bin/sh
# Make .venv from requirements.lock, once; make it again only when the lock, pyproject.toml or this file changes.
# Needs Python 3.11, 3.12 or 3.13 with its venv module (PYTHON=... chooses one). Says in one line what is missing.
set -eu
unset CDPATH # with it, cd prints
cd "$(dirname "$0")/.."
. scripts/clean_environment.sh
uv_version=0.13.9
venv=.venv
stamp=$venv/.ready

fail() {
    echo "setup: $*" >&2
    exit 1
}

# What this environment was made from; the folder too, because an environment that is moved does not work.
wanted=$({ pwd; cat requirements.lock pyproject.toml scripts/setup.sh; } | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

is_right_python() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# Look for Python outside the environment that is about to be made.
set -f
IFS=:
others=
for folder in $PATH; do
    [ "$folder" = "$PWD/$venv/bin" ] || others=$others${others:+:}$folder
done
unset IFS
set +f
PATH=$others

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_right_python "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3 python \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[123].*/bin/python \
        /opt/homebrew/bin/python3.1[123] /usr/local/bin/python3.1[123]; do
        if is_right_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 is missing; install one (Debian: apt install python3 python3-venv, macOS: brew install python@3.12) or name it: PYTHON=/path/to/python3.12 make setup"
}

# On Debian the venv module is a package of its own.
require_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    package=python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    scripts/apt.sh "$package" && "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    fail "the venv module of $1 is missing; install it: apt install $package"
}

python=$(find_python)
command -v git >/dev/null || scripts/apt.sh git || fail "git is missing; install it (Debian: apt install git, macOS: xcode-select --install)"
require_venv "$python"

echo "setup: making $venv with $("$python" --version)"
rm -f "$stamp"
"$python" -m venv --clear "$venv"
# Downloaded by the user's pip.conf, for the index that it names, and installed without it, for it may name a target,
# a prefix or a root.
"$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$venv/uv" "uv==$uv_version"
PIP_CONFIG_FILE=/dev/null "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index \
    --find-links "$venv/uv" "uv==$uv_version"
# The lock holds setuptools, the build backend, so the project itself is installed without the network.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
echo "$wanted" >"$stamp"
