#!/bin/sh
# Run the pipeline, then print its metrics. With STREETRECALL_ARCHIVE set, as an experiment on that folder of pictures:
# params.yaml says afterwards what was run, and `dvc exp show` sets it beside the committed result.
set -eu
archive=${STREETRECALL_ARCHIVE:-}
if [ -n "$archive" ]; then
    [ -d "$archive" ] || { echo "repro: STREETRECALL_ARCHIVE=$archive: there is no such folder" >&2; exit 2; }
    archive=$(cd "$archive" && pwd)
fi
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE
if [ -z "$archive" ]; then
    scripts/chromium.sh
    dvc repro
else
    # An experiment is a commit, and a fresh machine has not said who commits.
    if ! git config user.email >/dev/null; then
        export GIT_AUTHOR_NAME=streetrecall GIT_AUTHOR_EMAIL=streetrecall@localhost
        export GIT_COMMITTER_NAME=streetrecall GIT_COMMITTER_EMAIL=streetrecall@localhost
    fi
    dvc exp run -S provider=archive -S "archive.path=$archive"
fi
streetrecall summary
