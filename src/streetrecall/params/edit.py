"""Change values of params.yaml in place, its comments kept: `streetrecall set provider=archive archive.path=FOLDER`.

For one experiment use `dvc exp run -S KEY=VALUE`, which checks nothing before it starts but records what it ran.
"""

from __future__ import annotations

import argparse
import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from streetrecall.errors import UserError
from streetrecall.files import write_text
from streetrecall.params import schema as params


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("changes", nargs="+", metavar="KEY=VALUE", help="dotted key and YAML value")


def main(args: argparse.Namespace) -> None:
    override(Path(args.params), parse_changes(args.changes))


def parse_changes(changes: list[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` texts; values are YAML.

    >>> parse_changes(["train.seed=3", "city.name=ci"])
    {'train.seed': 3, 'city.name': 'ci'}

    Raises:
        UserError: a text has no equals sign, or its value is not YAML.
    """
    parsed = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign:
            raise UserError(f"'{change}' is not KEY=VALUE")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"'{change}': the value is not YAML: {error}") from error
    return parsed


def override(path: Path, changes: Mapping[str, Any]) -> bool:
    """Write ``changes`` (dotted key -> value) into the parameter file; leave it alone when they hold already.

    Returns whether the file was changed.

    Raises:
        UserError: a key is unknown or a value is bad; the file is as it was.
    """
    from ruamel.yaml import YAML  # one of DVC's own parts

    params.load(path)
    loader = YAML()
    loader.preserve_quotes = True
    loader.width = 10_000
    loader.indent(mapping=2, sequence=4, offset=2)
    old = loader.load(path.read_text(encoding="utf-8"))
    new = with_changes(old, changes)
    if new == old:
        return False
    text = io.StringIO()
    loader.dump(new, text)
    params.parse(yaml.safe_load(text.getvalue()), str(path))
    write_text(path, text.getvalue())
    return True


def with_changes(content: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of nested mappings with values set at dotted keys; keys that are not there are made.

    >>> with_changes({"a": {"b": 1}}, {"a.b": 2, "c.d": 3})
    {'a': {'b': 2}, 'c': {'d': 3}}
    """
    content = copy.deepcopy(content)
    for key, value in changes.items():
        node = content
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = value
    return content
