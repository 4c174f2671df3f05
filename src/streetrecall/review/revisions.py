"""What git holds of the results: metrics, parameters and validation reports of a revision, or of the working tree."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streetrecall.errors import UserError

Value = float | int | str | bool | None
LOW, HIGH = "_ci_low", "_ci_high"


@dataclass(frozen=True)
class Results:
    """Flattened metrics (``FILE.KEY`` -> value, FILE without its suffix), flattened parameters, validation reports."""

    metrics: dict[str, Value]
    params: dict[str, Value]
    validation: dict[str, dict[str, Any]]


def git(root: Path, *arguments: str) -> str:
    """The output of a git command.

    Raises:
        UserError: git says no; its own words are part of the message.
    """
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {' '.join(arguments)}: {done.stderr.strip() or 'failed'}")
    return done.stdout


def common_ancestor(root: Path, base: str) -> tuple[str, str]:
    """The commit that HEAD branched off ``base`` from, and a note; the tip of ``base`` where history is too shallow.

    Raises:
        UserError: ``base`` is not a revision of this clone.
    """
    try:
        tip = git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}").strip()
    except UserError as error:
        remote, _, branch = base.partition("/")
        fetch = f"git fetch --depth=1 {remote} +refs/heads/{branch}:refs/remotes/{base}" if branch else "git fetch"
        raise UserError(f"'{base}' is not a revision of this clone; fetch it first: {fetch}") from error
    try:
        return git(root, "merge-base", tip, "HEAD").strip(), ""
    except UserError:
        return tip, f"This clone is too shallow to know where HEAD left {base}: compared with the tip of {base}."


def at_revision(root: Path, revision: str) -> Results:
    """The results that are committed in ``revision``."""
    names = git(root, "ls-tree", "-r", "-z", "--name-only", revision, "--", "metrics", "params.yaml").split("\0")
    return _results({name: git(root, "show", f"{revision}:{name}") for name in names if _is_result(name)}, revision)


def in_workspace(root: Path) -> Results:
    """The results that lie in the folder now."""
    files = [root / "params.yaml", *sorted((root / "metrics").rglob("*.json"))]
    names = {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    return _results(
        {name: path.read_text(encoding="utf-8") for name, path in names.items() if _is_result(name)}, "the working tree"
    )


def _is_result(name: str) -> bool:
    return name == "params.yaml" or (name.endswith(".json") and not name.startswith("metrics/plots/"))


def _results(texts: dict[str, str], where: str) -> Results:
    metrics: dict[str, Value] = {}
    validation: dict[str, dict[str, Any]] = {}
    params: dict[str, Value] = {}
    for name, text in texts.items():
        try:
            content = yaml.safe_load(text) if name == "params.yaml" else json.loads(text)
        except (yaml.YAMLError, json.JSONDecodeError) as error:
            raise UserError(f"{name} of {where} cannot be read: {error}") from error
        if name == "params.yaml":
            params = flatten(content)
        elif name.startswith("metrics/validation/"):
            validation[Path(name).stem] = content
        else:
            prefix = name.removeprefix("metrics/").removesuffix(".json").replace("/", ".")
            metrics.update(flatten(content, prefix))
    return Results(metrics, params, validation)


def flatten(value: Any, prefix: str = "") -> dict[str, Value]:
    """Nested mappings and lists as one mapping of dotted keys.

    >>> flatten({"a": {"b": 1, "c": [2, {"d": 3}]}})
    {'a.b': 1, 'a.c.0': 2, 'a.c.1.d': 3}
    """
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {prefix: value}
    flat: dict[str, Value] = {}
    for key, inner in pairs:
        flat.update(flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def interval(metrics: dict[str, Value], key: str) -> tuple[float, float] | None:
    """The 95% interval that stands beside the metric ``key``, if one does.

    >>> interval({"r": 0.5, "r_ci_low": 0.4, "r_ci_high": 0.6}, "r")
    (0.4, 0.6)
    """
    low, high = metrics.get(key + LOW), metrics.get(key + HIGH)
    if isinstance(low, int | float) and isinstance(high, int | float):
        return float(low), float(high)
    return None
