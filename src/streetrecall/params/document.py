"""Read params.yaml as YAML. Every command reads it here, and DVC reads it by the same library.

The library is ruamel.yaml, which DVC brings along: YAML 1.2. PyYAML reads YAML 1.1, where ``1e-05`` (as DVC writes a
small number) is a text and ``no`` is false.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from streetrecall.errors import UserError
from streetrecall.reading import open_regular


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UserError: there is no such file, it cannot be read, or it is not encoded in UTF-8.
    """
    try:
        with open_regular(path) as file:
            return decode(file.read(), str(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run from the project's folder") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def decode(content: bytes, where: str) -> str:
    """The text of ``content``, whose source is ``where``.

    Raises:
        UserError: it is not UTF-8; the message names the first such line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{where}: line {line} is not encoded in UTF-8; save the file in that encoding") from error


def parse(text: str, where: str, library: YAML | None = None) -> Any:
    """What the YAML ``text`` holds; ``where`` is its source. ``library`` may keep comments (``YAML()``).

    Raises:
        UserError: it is not valid YAML, or a key occurs twice in the same mapping.
    """
    try:
        return (library or YAML(typ="safe")).load(text)
    except DuplicateKeyError as error:
        found = re.search(r'duplicate key "(.*?)" with value', str(error.problem), re.DOTALL)
        key = found[1] if found else "?"
        lines = " and in line ".join(str(m.line + 1) for m in (error.context_mark, error.problem_mark) if m)
        raise UserError(f"{where}: the key '{key}' occurs twice, in line {lines}; remove one of them") from error
    except YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {_first_lines(error)}") from error
    except RecursionError as error:
        raise UserError(f"{where}: not valid YAML: nested too deeply") from error


def _first_lines(error: YAMLError) -> str:
    """The library's message without its notes for programmers."""
    for name in ("note", "warn"):
        if hasattr(error, name):
            setattr(error, name, None)
    return str(error)
