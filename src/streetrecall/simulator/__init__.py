"""The simulator: a made-up city behind a local street-view service with Google's and Panoramax's contracts.

`city` plans it, `render` draws it, and `service` serves it over HTTP; each builds on those before it. `photos` takes
photos in it as people do.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streetrecall.params.schema import Params

_SUFFIXES = {".py", ".html", ".js", ".css"}


def source_hash(*folders: Path) -> str:
    """SHA-256 of all source files in and below some folders, with their paths."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def fingerprint(params: Params, root: Path | None = None) -> str:
    """16 hexadecimal digits that differ wherever the city's pictures or positions may.

    They follow from the source files of plan, renderer and service, the polygon's file below ``root``, ``city.crs`` and
    ``params.simulated``. A store keyed by them never answers for a changed city.
    """
    from streetrecall.simulator.city.plan import polygon_path

    polygon = polygon_path(params, root)
    here = Path(__file__).parent
    digest = hashlib.sha256(source_hash(here / "city", here / "render", here / "service").encode())
    digest.update(polygon.read_bytes() if polygon.exists() else b"")
    digest.update(params.city.crs.encode())
    digest.update(params.simulated.model_dump_json().encode())
    return digest.hexdigest()[:16]
