"""The simulator: a simulated city behind a local street-view service with Google's and Panoramax's contracts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streetrecall.params.schema import Params

_SUFFIXES = {".py", ".html", ".js", ".css"}


def fingerprint(params: Params, root: Path | None = None) -> str:
    """16 hexadecimal digits that differ wherever the pictures may: this package's source files, the polygon's file
    below ``root`` and ``params.simulated``. A store keyed by it never answers for a changed city."""
    from streetrecall.simulator.city.plan import polygon_path

    digest = hashlib.sha256()
    for path in sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in _SUFFIXES):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    polygon = polygon_path(params, root)
    digest.update(polygon.read_bytes() if polygon.exists() else b"")
    digest.update(params.simulated.model_dump_json().encode())
    return digest.hexdigest()[:16]
