"""Change values of params.yaml and keep its comments: `streetrecall set provider=archive archive.path=FOLDER`.

A key is dotted; an element of a list is named by its number, counted from 0: `train.phases.0.epochs=3` (or
`train.phases[0].epochs=3`). For a single experiment use `dvc exp run -S KEY=VALUE`, which records what it ran.
"""

from __future__ import annotations

import argparse
import copy
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

from streetrecall.errors import UserError
from streetrecall.files import write_text
from streetrecall.params import document, schema


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("changes", nargs="+", metavar="KEY=VALUE", help="dotted key and YAML value")


def main(args: argparse.Namespace) -> None:
    override(Path(args.params), parse_changes(args.changes))


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` texts; values are YAML.

    >>> parse_changes(["train.seed=3", "city.name=ci", "crop.box=[1, 2, 3, 4]"])
    {'train.seed': 3, 'city.name': 'ci', 'crop.box': [1, 2, 3, 4]}

    Raises:
        UserError: a text has no equals sign, its value is not YAML, or a key is given twice.
    """
    parsed: dict[str, Any] = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign or not key:
            raise UserError(f"'{change}' is not KEY=VALUE")
        key = plain_key(key)
        if key in parsed:
            raise UserError(f"the key '{key}' is given twice")
        parsed[key] = document.parse(value, f"'{change}'")
    return parsed


def plain_key(key: str) -> str:
    """A key with its list indices as DVC takes them, between dots.

    >>> plain_key("train.phases[0].epochs")
    'train.phases.0.epochs'
    """
    return re.sub(r"\[(\d+)\]", r".\1", key)


def override(path: Path, changes: Mapping[str, Any]) -> bool:
    """Write ``changes`` (dotted key -> value) into the parameter file; do not touch it if it holds them already.

    Returns whether the file was changed.

    Raises:
        UserError: the file cannot be read, a key is unknown, or a value is bad. The file is then unchanged.
    """
    schema.load(path)
    library = YAML()
    library.preserve_quotes = True
    library.width = 10_000
    library.indent(mapping=2, sequence=4, offset=2)
    old = document.parse(document.read_text(path), str(path), library)
    new = with_changes(old, changes)
    if new == old:
        return False
    plain = with_changes(document.parse(document.read_text(path), str(path)), changes)
    schema.parse(plain, str(path))
    text = io.StringIO()
    library.dump(new, text)
    if document.parse(text.getvalue(), str(path)) != plain:
        raise UserError(f"{path}: this change cannot be made without harm to the file; edit it by hand")
    write_text(path, text.getvalue())
    return True


def with_changes(content: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of nested mappings and lists with values set at dotted keys; keys that are missing are added.

    >>> with_changes({"a": {"b": 1}, "e": [{"f": 1}]}, {"a.b": 2, "c.d": 3, "e.0.f": 2})
    {'a': {'b': 2}, 'e': [{'f': 2}], 'c': {'d': 3}}

    Raises:
        UserError: a key leads through a value that holds no keys, or names an element that a list does not have.
    """
    content = copy.deepcopy(content)
    for key, value in changes.items():
        parts = plain_key(key).split(".")
        _set(content, parts, parts, value)
    return content


def _set(node: Any, parts: list[str], key: list[str], value: Any) -> None:
    """Set ``value`` at ``parts`` below ``node``; ``key``, which ends with ``parts``, is for messages."""
    here = ".".join(key[: len(key) - len(parts)])
    first: str | int = parts[0]
    if isinstance(node, list):
        if not parts[0].isdigit() or int(parts[0]) >= len(node):
            raise UserError(f"'{here}' is a list of {len(node)}: its elements are numbered from 0, not '{parts[0]}'")
        first, rest = int(parts[0]), parts[1:]
    elif isinstance(node, dict):
        whole = ".".join(parts)  # the keys below `guard` hold dots
        first, rest = (whole, []) if whole in node else (parts[0], parts[1:])
        node.setdefault(first, {})
    else:
        raise UserError(f"'{here}' is {node!r}, which holds no key '{parts[0]}'")
    if rest:
        _set(node[first], rest, key, value)
    elif isinstance(node, CommentedMap | CommentedSeq):
        old, node[first] = node[first], _styled(value, node[first])
        if isinstance(old, CommentedSeq) and isinstance(node, CommentedMap) and isinstance(node[first], CommentedSeq):
            _keep_comments(node, first, old)
    else:
        node[first] = value


def _keep_comments(node: CommentedMap, key: str | int, old: CommentedSeq) -> None:
    """Give the list at ``key`` the comments of ``old``, which it replaces.

    The library keeps a comment with what stands before it: those that follow a list in brackets with the list, those
    that follow any other list with its end. Comments of elements that are gone move below the list.
    """
    new = node[key]
    kept = node.ca.items.get(key) or [None] * 4
    behind, above = kept[2], kept[3] or []  # behind the key or the brackets; between the key and the first element
    below: list[Any] = []
    for number, tokens in sorted(old.ca.items.items()):
        if number < len(new) and not new.fa.flow_style():
            new.ca.items[number] = tokens
        else:
            below += tokens[1] or []
    below += old.ca.end
    if new.fa.flow_style():
        lines = "".join(" " * token.start_mark.column + token.value for token in above + below)
        if lines:
            behind = CommentToken(
                (behind.value if behind else "\n") + lines, behind.start_mark if behind else CommentMark(0)
            )
        node.ca.items[key] = [*kept[:2], behind, None]
        return
    if behind and old.fa.flow_style(not old):  # an empty list is always in brackets
        first, _, rest = behind.value.partition("\n")
        behind = CommentToken(f"{first}\n", behind.start_mark) if first else None
        below = [CommentToken(rest, CommentMark(0)), *below] if rest else below
        node.ca.items[key] = [*kept[:2], behind, kept[3]]
    if below:
        new.ca.comment, new.ca.end = [None, None], below


def _styled(value: Any, old: Any) -> Any:
    """``value`` in place of ``old`` in a commented document.

    A mapping is changed key by key, so that its comments stay. What is new is written on one line, a list of mappings
    with one line for each.
    """
    if isinstance(value, dict):
        if not isinstance(old, CommentedMap):
            old = CommentedMap()
            old.fa.set_flow_style()
        for key in [key for key in old if key not in value]:
            del old[key]
        for key, element in value.items():
            old[key] = _styled(element, old.get(key))
        return old
    if isinstance(value, list):
        styled = CommentedSeq([_styled(element, None) for element in value])
        if not any(isinstance(element, dict) for element in value):
            styled.fa.set_flow_style()
        return styled
    return value
