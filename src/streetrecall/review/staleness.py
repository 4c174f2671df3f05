"""Does dvc.lock agree with the code, the parameters and the metrics? This needs no data: it works on a pull request.

``dvc repro --dry --allow-missing`` cannot answer this: without data, it may stop at an error of its own. So three
things are compared: DVC's own status, in which only data may be missing; within dvc.lock, the hash of each dependency
with the hash that its producer wrote; and every result that git holds with the hash in dvc.lock.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
from pathlib import Path
from typing import Any

import yaml

from streetrecall.errors import UserError
from streetrecall.external import advice
from streetrecall.params import document, schema

ABSENT = {"deleted", "not in cache"}
SOURCES = "data/sources/dvc.yaml:"  # stages there run in each repro; stages that read what they write are compared
WRITTEN_BY_HAND = ("dvc.yaml", "dvc.lock", "params.yaml")


def configure(parser: argparse.ArgumentParser) -> None:
    """Takes no options of its own."""


def main(args: argparse.Namespace) -> int:
    found = findings(Path.cwd())
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


def findings(root: Path) -> list[str]:
    """Every disagreement, with what to do about it; empty if dvc.lock is up to date."""
    broken = _unreadable(root)
    if broken:
        return broken
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8")) or {}
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8")) or {}
    names = set(pipeline.get("stages") or {})
    # DVC leaves a stage that was renamed or removed in dvc.lock.
    stages = {name: stage for name, stage in (lock.get("stages") or {}).items() if name.partition("@")[0] in names}
    from dvc.exceptions import DvcException

    found = _params(root)
    try:
        found += _status(root) + _results(root, stages)
    except DvcException as error:
        found.append(f"DVC cannot read the pipeline: {advice(str(error), root)}")
    return found + _chain(stages)


def _unreadable(root: Path) -> list[str]:
    found = []
    for name in WRITTEN_BY_HAND:
        path = root / name
        if not path.is_file():
            found.append(f"{name} is missing: run `dvc repro` and commit it")
            continue
        try:
            text = document.read_text(path)
            if any(line.startswith(("<<<<<<< ", ">>>>>>> ")) for line in text.splitlines()):
                found.append(
                    f"{name} holds a merge conflict: take either side (`git checkout --ours {name}`), "
                    "then run `dvc repro` and commit"
                )
                continue
            document.parse(text, name)
        except UserError as error:
            found.append(_local(error, root))
    return found


def _local(error: UserError, root: Path) -> str:
    """The message with paths as seen from ``root``."""
    return str(error).replace(f"{root}/", "")


def _params(root: Path) -> list[str]:
    try:
        schema.load(root / "params.yaml")
    except UserError as error:
        return _local(error, root).splitlines()
    return []


def _status(root: Path) -> list[str]:
    from dvc.repo import Repo

    with contextlib.chdir(root), Repo() as repo:  # DVC gives paths relative to the current folder
        frozen = [
            f"stage '{stage.addressing}' is frozen in dvc.yaml: DVC does not compare its dependencies"
            for stage in repo.index.stages
            if stage.frozen
        ]
        status = repo.status()
    return frozen + [
        f"stage '{stage}': {line}"
        for stage, parts in status.items()
        if not stage.startswith(SOURCES)
        for part in parts
        for line in _lines(part)
    ]


def _lines(part: str | dict[str, dict[str, Any]]) -> list[str]:
    """One entry of a stage's status, such as ``{"changed deps": {"params.yaml": {"train.seed": "modified"}}}``."""
    if isinstance(part, str):
        return [f"{part} since it last ran: run `dvc repro`"]
    lines = []
    for kind, entries in part.items():
        for path, state in entries.items():
            if isinstance(state, dict):
                lines += [
                    f"parameter {key} is {what} since it last ran: run `dvc repro`" for key, what in state.items()
                ]
            elif state not in ABSENT:
                what = "depends on" if kind == "changed deps" else "wrote"
                lines.append(f"{what} {path}, which is {state} since it last ran: run `dvc repro`")
    return lines


def _hash(entry: dict[str, Any]) -> str | None:
    return entry.get("md5") or entry.get("hash")


def _chain(stages: dict[str, Any]) -> list[str]:
    """Dependencies in dvc.lock whose hash is not the one that their producer wrote."""
    made = {out["path"]: (name, _hash(out)) for name, stage in stages.items() for out in stage.get("outs", [])}
    found = []
    for name, stage in stages.items():
        for dep in stage.get("deps", []):
            producer, wanted = made.get(dep["path"], (None, None))
            if producer is not None and _hash(dep) != wanted:
                found.append(
                    f"stage '{name}' last ran on another {dep['path']} than '{producer}' wrote: run `dvc repro`"
                )
    return found


def _results(root: Path, stages: dict[str, Any]) -> list[str]:
    """Metrics and plots in git that are missing, or are not those of dvc.lock."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        kept_by_git = {
            Path(out.fs_path).relative_to(root.resolve()).as_posix()
            for out in repo.index.outs
            if not out.use_cache and Path(out.fs_path).is_relative_to(root.resolve())
        }
    found = []
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            path = root / out["path"]
            if out["path"] not in kept_by_git or path.is_dir():
                continue
            if not path.is_file():
                found.append(f"stage '{name}' wrote {out['path']}, which is not committed: git add it")
            elif hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != _hash(out):
                found.append(
                    f"stage '{name}' wrote another {out['path']} than the one here: edited by hand? run `dvc repro`"
                )
    return found
