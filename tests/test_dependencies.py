"""Every module that a stage's command reaches is among the stage's dependencies in dvc.yaml.

So an edit of any code that decides a result runs the stage again, and `streetrecall stale` sees it. The import closure
is read from the source, with imports inside functions. A text that names a module (a line of a registry) counts too.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from streetrecall import cli

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

# Modules that decide no result, and why. Everything else counts.
NEUTRAL = {
    "streetrecall": "holds the version, and calls `environment.fix`",
    "streetrecall.cli": "only chooses the command",
    "streetrecall.errors": "only the class of errors",
    "streetrecall.progress": "only bars on standard error",
    "streetrecall.params": "empty",
    "streetrecall.params.schema": "passes values through; those that a stage reads are its `params` in dvc.yaml",
    "streetrecall.params.checks": "as params.schema",
}

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@cache
def path_of(module: str) -> Path | None:
    """The file of one of the project's own modules."""
    place = SOURCE.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported(module: str) -> set[str]:
    """The project's own modules that ``module`` imports anywhere, or names in a text."""
    path = path_of(module)
    assert path is not None, f"there is no module {module}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if re.fullmatch(r"streetrecall(\.\w+)+", node.value) else set()
    return {name for name in found if name.split(".")[0] == "streetrecall" and path_of(name)}


@cache
def closure(module: str) -> frozenset[str]:
    """``module`` and all that it reaches, packages around a module included. Neutral modules end the way."""
    reached: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        parents = name.split(".")
        pending += [".".join(parents[:depth]) for depth in range(1, len(parents))]
        if name == "streetrecall" or name not in NEUTRAL:
            pending += imported(name)
    return frozenset(reached)


def reached_by(command: str) -> set[Path]:
    """Files that a command of dvc.yaml reaches and that may decide its result; empty `__init__.py` decide nothing."""
    words = command.split()
    assert words[0] == "streetrecall", command
    modules = set(closure(cli.COMMANDS[words[1]][0]))
    if words[1] == "check":
        every = {name for name in modules if name.startswith("streetrecall.expectations.")}
        suites = {name for name in every if name.rpartition(".")[2] in _suites()}
        modules = modules - suites | closure(f"streetrecall.expectations.{words[2]}")
    paths = {path_of(name) for name in modules - NEUTRAL.keys()}
    return {path for path in paths if path is not None and path.stat().st_size}


def _suites() -> set[str]:
    return {stage["cmd"].split()[2] for stage in STAGES.values() if stage["cmd"].split()[1] == "check"}


def covered(path: Path, dependencies: list[str]) -> bool:
    relative = path.relative_to(ROOT).as_posix()
    return any(relative == d or relative.startswith(f"{d}/") for d in dependencies)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_module_that_a_stage_reaches_is_a_dependency(name: str) -> None:
    stage = STAGES[name]
    missing = sorted(
        path.relative_to(ROOT).as_posix() for path in reached_by(stage["cmd"]) if not covered(path, stage["deps"])
    )
    assert not missing, f"dvc.yaml: stage {name} also depends on {', '.join(missing)}"


@pytest.mark.parametrize("name", sorted(STAGES))
def test_no_stage_depends_on_code_that_it_does_not_reach(name: str) -> None:
    reached = {path.relative_to(ROOT).as_posix() for path in reached_by(STAGES[name]["cmd"])}
    code = [d for d in STAGES[name]["deps"] if d.startswith("src/")]
    idle = [d for d in code if not any(path == d or path.startswith(f"{d}/") for path in reached)]
    assert not idle, f"dvc.yaml: stage {name} needs no {', '.join(idle)}"


def test_neutral_modules_import_nothing_that_decides_a_result() -> None:
    for module in NEUTRAL.keys() - {"streetrecall", "streetrecall.cli"}:
        assert imported(module) <= {*NEUTRAL, "streetrecall.months"}, module
