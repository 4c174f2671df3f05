#!/bin/sh
# Run the pipeline, then print its metrics. With STREETRECALL_ARCHIVE set, on that folder of pictures: params.yaml says
# so afterwards, and `git checkout params.yaml dvc.lock metrics && dvc checkout` goes back to what is committed.
set -eu
unset CDPATH # with it, cd prints
archive=${STREETRECALL_ARCHIVE:-}
if [ -n "$archive" ]; then
    [ -d "$archive" ] || {
        echo "repro: STREETRECALL_ARCHIVE=$archive: there is no such folder" >&2
        exit 2
    }
    archive=$(cd "$archive" && pwd)
fi
cd "$(dirname "$0")/.."
. scripts/clean_environment.sh
if [ -n "$archive" ]; then
    quoted=$(printf %s "$archive" | sed "s/'/''/g")
    streetrecall set provider=archive "archive.path='$quoted'"
fi
# DVC would wait for ever at a pipe, and names nothing but a number when a link leads nowhere.
odd=$(find data/cities data/networks \( ! -type f ! -type d ! -type l -o -type l ! -exec test -e {} \; \) -print -quit \
    2>/dev/null || true)
[ -z "$odd" ] || {
    echo "repro: $odd: neither a file nor a folder, nor a link to one; move it elsewhere" >&2
    exit 2
}
grep -q '^provider: archive' params.yaml || scripts/chromium.sh
dvc repro
streetrecall summary
