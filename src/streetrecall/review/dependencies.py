"""Does each stage of dvc.yaml depend on the code that its command reaches?

So an edit of any code that decides a result runs the stage again, and `streetrecall stale` notices it. The import
closure is read from the source (`streetrecall.imports`). Where a stage reaches most files of a room, it depends on the
whole room.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from streetrecall.commands import COMMANDS
from streetrecall.errors import UserError
from streetrecall.files import write_text
from streetrecall.imports import PACKAGE, closure, file_of
from streetrecall.params import document

# Modules that decide no result, and why. Everything else counts.
NEUTRAL = {
    "streetrecall": "holds the version, and calls `environment.fix`",
    "streetrecall.cli": "only chooses the command",
    "streetrecall.errors": "only the class of errors",
    "streetrecall.progress": "only bars on standard error",
    "streetrecall.reading": "only opens files",
    "streetrecall.params": "empty",
    "streetrecall.params.document": "reads the file of params.schema",
    "streetrecall.params.fields": "kinds of values of params.schema",
    "streetrecall.store.folder": "says where caches lie",
    "streetrecall.params.schema": "passes values through; those that a stage reads are its `params` in dvc.yaml",
    "streetrecall.params.checks": "as params.schema",
}
MOST = 0.75  # a stage that reaches this share of a room's files depends on the room
WIDTH = 120


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help="write the code that each stage reaches into dvc.yaml")


def main(args: argparse.Namespace) -> int:
    path = Path("dvc.yaml")
    text = document.read_text(path)
    if args.write:
        write_text(path, rewritten(text))
        return 0
    found = [line for name, stage in stages(text).items() for line in findings(name, stage)]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


def stages(text: str) -> dict[str, Any]:
    """The stages of a dvc.yaml whose text is given.

    Raises:
        UserError: it is no pipeline of commands of this project.
    """
    content = document.parse(text, "dvc.yaml")
    found = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise UserError("dvc.yaml: holds no stages")
    for name, stage in found.items():
        command = stage.get("cmd") if isinstance(stage, dict) else None
        words = command.split() if isinstance(command, str) else []
        known = words[:1] == ["streetrecall"] and len(words) > 1 and words[1] in COMMANDS
        if known and words[1] == "check":
            known = len(words) > 2 and file_of(f"streetrecall.expectations.{words[2]}") is not None
        if not known:
            raise UserError(f"dvc.yaml: stage {name}: its cmd is no command of streetrecall")
        if not isinstance(stage.get("deps"), list) or not all(isinstance(path, str) for path in stage["deps"]):
            raise UserError(f"dvc.yaml: stage {name}: its deps are no list of paths")
    return found


def findings(name: str, stage: dict[str, Any]) -> list[str]:
    """What one stage should also depend on, and what it need not depend on; one sentence each."""
    reached = {_relative(path) for path in reached_by(stage["cmd"])}
    code = [dependency for dependency in stage["deps"] if dependency.startswith("src/")]
    missing = sorted(path for path in reached if not any(_holds(dependency, path) for dependency in code))
    idle = [dependency for dependency in code if not any(_holds(dependency, path) for path in reached)]
    return [
        f"dvc.yaml: stage {name} {verb} {', '.join(paths)}: run `streetrecall dependencies --write`"
        for verb, paths in (("does not depend on", missing), ("does not reach", idle))
        if paths
    ]


def rewritten(text: str) -> str:
    """The text of dvc.yaml with the code dependencies of each stage as its command needs them; the rest is kept."""
    for name, stage in stages(text).items():
        data = sorted(dependency for dependency in stage["deps"] if not dependency.startswith("src/"))
        # "${" begins a value of params.yaml, and braces have a meaning in a list in brackets.
        words = [f'"{path}"' if "{" in path else path for path in (*data, *_summed_up(reached_by(stage["cmd"])))]
        lines = textwrap.wrap(
            ", ".join(words) + "]",
            WIDTH,
            initial_indent="    deps: [",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        block = re.compile(rf"^  {re.escape(name)}:\n(?:    .*\n|\n)*?(    deps:.*\n(?:      .*\n)*)", re.MULTILINE)
        found = block.search(text)
        if found is None:
            raise UserError(f"dvc.yaml: stage {name}: its deps are not written as this command writes them")
        text = text[: found.start(1)] + "\n".join(lines) + "\n" + text[found.end(1) :]
    return text


@cache
def reached_by(command: str) -> frozenset[Path]:
    """Files that a command of dvc.yaml reaches and that may decide its result; a mere docstring decides nothing."""
    words = command.split()
    paths = set(closure(COMMANDS[words[1]][0], ends=NEUTRAL.keys() - {"streetrecall"}))
    if words[1] == "check":  # the command names one suite of the registry
        paths -= {path for path in (PACKAGE / "expectations").glob("*.py") if path.name != "__init__.py"}
        paths |= set(closure(f"streetrecall.expectations.{words[2]}", ends=NEUTRAL.keys() - {"streetrecall"}))
    return frozenset(path for path in paths - _neutral() if _has_code(path))


def _summed_up(paths: frozenset[Path]) -> list[str]:
    """Files and rooms, sorted: a room in place of its files where most of them are reached."""
    rooms = {room for path in paths for room in path.parents if PACKAGE in room.parents}
    for room in sorted(rooms, key=lambda room: len(room.parts)):
        files = {path for path in room.rglob("*.py") if _has_code(path)} - _neutral()
        inside = paths & files
        if len(files) > 1 and len(inside) >= MOST * len(files):
            return sorted({_relative(room), *_summed_up(paths - inside)})
    return sorted(map(_relative, paths))


@cache
def _neutral() -> frozenset[Path]:
    return frozenset(path for path in map(file_of, NEUTRAL) if path)


@cache
def _has_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def _holds(dependency: str, path: str) -> bool:
    return path == dependency or path.startswith(f"{dependency}/")


def _relative(path: Path) -> str:
    return f"src/{path.relative_to(PACKAGE.parent).as_posix()}"
