#!/bin/sh
# Install Mapillary's public Python client for `make test-mapillary`, in an environment of its own, .mapillary. Exits 1 where
# that is not possible.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
. scripts/clean_environment.sh
version=1.0.16
if [ "$(cat .mapillary/.ready 2>/dev/null)" != "$version" ]; then
    .venv/bin/uv venv --quiet --clear --python .venv/bin/python .mapillary &&
        .venv/bin/uv pip install --quiet --python .mapillary/bin/python "mapillary==$version" setuptools || {
        echo "mapillary: the client $version cannot be installed" >&2
        exit 1
    }
    echo "$version" >.mapillary/.ready
fi
