"""Stage `fingerprint`: one small file that changes when a collection on this machine changes.

DVC can hash a folder itself, but it does not follow links, it stops at a pipe or at a name that is not UTF-8, and it
counts what file managers leave. So the stages depend on this file instead (data/sources/dvc.yaml). It covers the paths
and contents of all files that the provider reads.

Contents are not read again while a file keeps its size, its inode and its times of modification and of change. Those
are kept in the store. On file systems without a time of change (FAT and some network drives) a file that is replaced by
another one of the same size and modification time is therefore not noticed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from streetrecall.files import write_json, write_text
from streetrecall.params.schema import Params, load
from streetrecall.progress import progress
from streetrecall.providers import open_local
from streetrecall.providers.folders import Found, UnreadableError, opened, printable
from streetrecall.store.folder import store_folder

log = logging.getLogger(__name__)

SETTLED_NS = 2_000_000_000  # a file that changed less than this before it was read may change again unnoticed


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("provider", help="a provider that reads files of this machine")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    run(load(args.params), args.provider, args.output)


def run(params: Params, name: str, output: Path) -> None:
    """Write the fingerprint of the collection that the provider ``name`` reads.

    Raises:
        UserError: the provider cannot be used, or it reads no files of this machine.
    """
    if params.provider != name:  # dvc repro --all-pipelines runs the stage whatever the provider is
        write_json(output, {"provider": name, "used": False})
        return
    begun = time.time_ns()
    provider = open_local(params)
    kept = store_folder() / "fingerprints" / f"{hashlib.sha256(provider.namespace.encode()).hexdigest()[:16]}.json"
    found = provider.files()
    write_json(output, fingerprint(name, found, hash_files(provider.root, found, kept, begun)))


def fingerprint(name: str, found: Sequence[Found], contents: Sequence[Content]) -> dict[str, Any]:
    """What depends on paths and contents alone: counts, one hash of everything, and what cannot be read.

    ``contents`` are those of ``found``.
    """
    whole = hashlib.sha256()
    for entry, content in zip(found, contents, strict=True):
        whole.update(b"\0".join((os.fsencode(entry.path), content.sha256.encode(), content.problem.encode(), b"")))
    return {
        "provider": name,
        "used": True,
        "files": sum(not content.problem for content in contents),
        "bytes": sum(content.size for content in contents),
        "sha256": whole.hexdigest(),
        "not_read": [
            {"path": printable(entry.path), "reason": content.problem}
            for entry, content in zip(found, contents, strict=True)
            if content.problem
        ],
    }


@dataclass(frozen=True)
class Content:
    """Hash and size in bytes of a file's content, or the problem for which it cannot be read."""

    sha256: str = ""
    size: int = 0
    problem: str = ""


def hash_files(root: Path, found: Sequence[Found], kept: Path, looked_at_ns: int) -> list[Content]:
    """The contents of ``found``, in order. Hashes are kept in the file ``kept`` while a file looks the same.

    Args:
        looked_at_ns: when the collection was walked, nanoseconds since the epoch.
    """
    known = _load(kept)
    fresh: dict[str, list[Any]] = {}
    contents = []
    unknown = sum(not entry.problem and known.get(entry.path, [])[:-1] != _look(entry) for entry in found)
    log.info("%s: %d files, %d of them to read", root, len(found), unknown)
    try:
        with progress(unknown, "fingerprint", "file") as bar:
            for entry in found:
                contents.append(content := _content(root, entry, known, bar))
                # A file that has just changed may change again within one tick of its clock.
                if not content.problem and entry.status and entry.status.st_ctime_ns < looked_at_ns - SETTLED_NS:
                    fresh[entry.path] = [*_look(entry), content.sha256]
    finally:  # a run that is stopped has not read in vain
        if len(contents) < len(found):
            fresh = known | fresh
        if fresh != known:
            write_text(kept, json.dumps(fresh))
    return contents


def _content(root: Path, entry: Found, known: Mapping[str, list[Any]], bar: tqdm) -> Content:
    if entry.problem or entry.status is None:
        return Content(problem=entry.problem)
    row = known.get(entry.path, [])
    if row[:-1] == _look(entry):
        return Content(row[-1], entry.status.st_size)
    bar.update()
    try:
        with opened(root / entry.path) as file:
            return Content(hashlib.file_digest(file, "sha256").hexdigest(), entry.status.st_size)
    except UnreadableError as error:
        return Content(problem=str(error))


def _look(entry: Found) -> list[int]:
    """What changes with a file's content: its size, inode and times."""
    status = entry.status
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns] if status else []


def _load(kept: Path) -> dict[str, list[Any]]:
    """The hashes of the last run; none if there was none or its file is damaged."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        return {path: row for path, row in content.items() if len(row) == 5 and isinstance(row[-1], str)}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}
