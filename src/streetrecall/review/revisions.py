"""The results that git holds: metrics, parameters and validation reports of a revision, or of the working tree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.external import GitError, git
from streetrecall.params import document
from streetrecall.printing import Value, is_number
from streetrecall.review.metrics import HIGH, LOW


@dataclass(frozen=True)
class Results:
    """Flattened metrics (``FILE.KEY`` -> value, FILE without its suffix), flattened parameters, validation reports."""

    metrics: dict[str, Value]
    params: dict[str, Value]
    validation: dict[str, dict[str, Any]]


def require_clone(root: Path) -> None:
    """Make sure that git can read the folder ``root``.

    Raises:
        UserError: it cannot; the message holds git's own words and what to do.
    """
    git(root, "rev-parse", "--git-dir")


def common_ancestor(root: Path, base: str) -> tuple[str, str]:
    """The commit at which HEAD left ``base``, and a note; the tip of ``base`` if the clone is too shallow to tell.

    Raises:
        UserError: ``root`` is no clone that git can read, or ``base`` is not a revision of it.
    """
    require_clone(root)
    tip = commit(root, base)
    try:
        return git(root, "merge-base", tip, "HEAD").strip(), ""
    except GitError as error:
        if error.code != 1:
            raise
    if _is_shallow(root):
        return tip, f"This clone is too shallow to know where HEAD left {base}: compared with the tip of {base}."
    return tip, f"HEAD and {base} have no common commit: compared with the tip of {base}."


def commit(root: Path, revision: str) -> str:
    """The commit that ``revision`` names.

    Raises:
        UserError: this clone has no such revision; the message holds git's own words and how to fetch it.
    """
    try:
        return git(root, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    except GitError as error:
        raise UserError(
            f"'{revision}' is not a revision of this clone (git: {error.words}); fetch it first: "
            f"{_fetch(root, revision)}"
        ) from error


def _is_shallow(root: Path) -> bool:
    return git(root, "rev-parse", "--is-shallow-repository").strip() == "true"


def _fetch(root: Path, base: str) -> str:
    """The command that fetches ``base``, which may be a branch of a remote, such as origin/main."""
    remote, _, branch = base.partition("/")
    if not branch or remote not in git(root, "remote").split():
        return "git fetch --unshallow" if _is_shallow(root) else "git fetch --all --tags"
    depth = "--depth=1 " if _is_shallow(root) else ""
    return f"git fetch {depth}{remote} +refs/heads/{branch}:refs/remotes/{base}"


def at_revision(root: Path, revision: str) -> Results:
    """The results that are committed in ``revision``."""
    names = git(root, "ls-tree", "-r", "-z", "--name-only", revision, "--", "metrics", "params.yaml").split("\0")
    texts = {}
    for name in filter(_is_result, names):
        content = git(root, "show", f"{revision}:{name}").encode("utf-8", "surrogateescape")
        texts[name] = document.decode(content, f"{name} of {revision}")
    return _results(texts, revision)


def in_workspace(root: Path) -> Results:
    """The results that are in the folder now."""
    files = [root / "params.yaml", *sorted((root / "metrics").rglob("*.json"))]
    names = {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    texts = {name: document.read_text(path) for name, path in names.items() if _is_result(name)}
    return _results(texts, "the working tree")


def _is_result(name: str) -> bool:
    return name == "params.yaml" or (name.endswith(".json") and not name.startswith("metrics/plots/"))


def _results(texts: dict[str, str], where: str) -> Results:
    metrics: dict[str, Value] = {}
    validation: dict[str, dict[str, Any]] = {}
    params: dict[str, Value] = {}
    for name, text in texts.items():
        if name == "params.yaml":
            params = flatten(document.parse(text, f"{name} of {where}"))
            continue
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{name} of {where}: not valid JSON ({error})") from error
        if name.startswith("metrics/validation/"):
            validation[Path(name).stem] = content
        else:
            prefix = name.removeprefix("metrics/").removesuffix(".json").replace("/", ".")
            metrics.update(flatten(content, prefix))
    return Results(metrics, params, validation)


def flatten(value: Any, prefix: str = "") -> dict[str, Value]:
    """Nested mappings and lists as one mapping of dotted keys; an empty one is a text.

    >>> flatten({"a": {"b": 1, "c": [2, {"d": 3}]}, "e": []})
    {'a.b': 1, 'a.c.0': 2, 'a.c.1.d': 3, 'e': '[]'}
    """
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {prefix: value}
    if prefix and not pairs:
        return {prefix: str(value)}
    flat: dict[str, Value] = {}
    for key, inner in pairs:
        flat.update(flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def interval(metrics: dict[str, Value], key: str) -> tuple[float, float] | None:
    """The 95% interval of the metric ``key``, if there is one.

    >>> interval({"r": 0.5, "r_ci_low": 0.4, "r_ci_high": 0.6}, "r")
    (0.4, 0.6)
    """
    low, high = metrics.get(key + LOW), metrics.get(key + HIGH)
    if is_number(low) and is_number(high):
        return float(low), float(high)  # type: ignore[arg-type]
    return None
