#!/bin/sh
# Install a real Panoramax server (GeoVisio) for `make test-panoramax`: an environment of its own, .geovisio, and PostgreSQL
# with PostGIS. Prints what is missing and exits 1 where that is not possible.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
. scripts/clean_environment.sh
version=2.15.1
server=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
if [ -z "$server" ] || ! ls /usr/share/postgresql/*/extension/postgis.control >/dev/null 2>&1; then
    scripts/apt.sh postgresql postgresql-15-postgis-3 || {
        echo "panoramax: PostgreSQL with PostGIS is missing; install it: apt install postgresql postgresql-15-postgis-3" >&2
        exit 1
    }
fi
if [ "$(cat .geovisio/.ready 2>/dev/null)" != "$version" ]; then
    .venv/bin/uv venv --quiet --clear --python .venv/bin/python .geovisio &&
        .venv/bin/uv pip install --quiet --python .geovisio/bin/python "geovisio==$version" || {
        echo "panoramax: geovisio $version cannot be installed" >&2
        exit 1
    }
    echo "$version" >.geovisio/.ready
fi
