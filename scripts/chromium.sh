#!/bin/sh
# See that Chromium and its driver are there, for the pictures of the default city; Debian gets them by apt.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."

is_there() {
    [ -d "/Applications/Google Chrome.app" ] || [ -d "/Applications/Chromium.app" ] ||
        { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null
}

if is_there && command -v chromedriver >/dev/null; then
    exit 0
fi
scripts/apt.sh chromium chromium-driver && is_there && exit 0
echo "setup: Chromium or its chromedriver is missing; install them (Debian: apt install chromium chromium-driver, macOS: brew install --cask chromium chromedriver)" >&2
exit 1
