#!/bin/sh
# Install Debian packages without asking, where that is possible: apt-get is there, and root or password-less sudo.
# Exits 1, in silence, where it is not.
set -eu
command -v apt-get >/dev/null || exit 1
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo='sudo -n'
else
    exit 1
fi
echo "setup: installing $* by apt"
export DEBIAN_FRONTEND=noninteractive
{ $sudo apt-get -qq update && $sudo apt-get -qq install --no-install-recommends --yes "$@"; } >/dev/null
