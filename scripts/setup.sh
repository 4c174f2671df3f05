#!/bin/sh
# Make .venv from requirements.lock, once: done again only when the lock, pyproject.toml or this file changes.
# Needs Python 3.11 or 3.12 with its venv module (PYTHON=... picks one). Says in one line what is missing.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE # it doubles the time that imports take
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
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

# An environment is not made out of itself.
PATH=$(printf ':%s:' "$PATH" | sed "s#:$PWD/$venv/bin:#:#g; s/^://; s/:\$//")

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_right_python "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or 3.12"
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3 python \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[12].*/bin/python \
        /opt/homebrew/bin/python3.1[12] /usr/local/bin/python3.1[12]; do
        if is_right_python "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or 3.12 is missing; install one (Debian: apt install python3 python3-venv, macOS: brew install python@3.12) or name it: PYTHON=/path/to/python3.12 make setup"
}

# Debian ships the venv module apart from Python.
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
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
# The lock holds setuptools, the build backend, so that the project itself is installed without asking anybody.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
echo "$wanted" >"$stamp"
