"""The files of this package that a module reaches by its imports, read from the source without running it."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent
NAME_OF_A_MODULE = re.compile(r"streetrecall(\.\w+)+(:\w+)?")


def closure(*modules: str, ends: Collection[str] = ()) -> list[Path]:
    """Files of the modules and of all that they import from this package, directly or not, sorted.

    Imports inside functions count, and so does a text that names a module (a line of a registry, which importlib
    reads). Imports under ``if TYPE_CHECKING`` do not. Imports of the modules ``ends`` are not followed.

    >>> {"tables.py", "files.py"} < {path.name for path in closure("streetrecall.tables")}
    True

    Raises:
        ValueError: a module is not one of this package.
    """
    found: set[Path] = set()
    waiting = list(modules)
    for module in modules:
        if file_of(module) is None:
            raise ValueError(f"there is no module {module} in {PACKAGE}")
    while waiting:
        module = waiting.pop()
        path = file_of(module)
        if path is None or path in found:
            continue
        found.add(path)
        if "." in module:
            waiting.append(module.rpartition(".")[0])  # Python runs the package's own file first
        if module not in ends:
            waiting += _names(path.read_bytes())
    return sorted(found)


def code_digest(*modules: str) -> str:
    """SHA-256 of the source of `closure`: it changes with each file that may decide a result of these modules."""
    digest = hashlib.sha256()
    for path in closure(*modules):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def file_of(module: str) -> Path | None:
    """The file of a module of this package; None if it is of another package, or no module but a name in one."""
    root, *parts = module.split(".")
    if root != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*parts)
    candidates = [path / "__init__.py", path.with_suffix(".py")] if parts else [path / "__init__.py"]
    return next((each for each in candidates if each.is_file()), None)


@lru_cache(maxsize=1024)
def _names(source: bytes) -> frozenset[str]:
    return frozenset(_imported(ast.parse(source)))


def _imported(node: ast.AST) -> Iterator[str]:
    """Names that the source imports; ``from a import b`` counts as a and a.b, since b may be a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _imported(other)
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            if NAME_OF_A_MODULE.fullmatch(child.value):
                yield child.value.split(":")[0]
        else:
            yield from _imported(child)
