"""Writes a folder of captures as the scrape stage does, for tests of the stages behind it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from PIL import Image

from streetrecall import tables
from streetrecall.pictures import shards
from streetrecall.providers.base import Capture


def write_captures(taken: Iterable[Capture], locations: pd.DataFrame, folder: Path, provider: str = "archive") -> Path:
    """Write ``captures.parquet`` and the shards of ``taken`` below ``folder``, in the layout of the pipeline."""
    below = "local" if provider == "archive" else "shared"
    spot = {}
    for level, group in locations.sort_values("place").groupby("level"):
        spot.update({place: (level, i) for i, place in enumerate(group["place"])})
    rows, content = [], {}
    for number, capture in enumerate(taken):
        request, data = capture.request, capture.data
        shard, width, height, form = "", 0, 0, ""
        if capture.status in ("ok", "blank"):
            shard = f"{below}/{request.split}/{shards.shard_name(request.subset, *spot[request.place])}"
            content.setdefault(shard, []).append((f"{number:06d}", data))
            try:
                with Image.open(io.BytesIO(data)) as picture:
                    width, height, form = picture.width, picture.height, str(picture.format)
            except OSError:
                form = "JPEG"
        row = {
            c: getattr(request, c)
            for c in (
                "place",
                "direction",
                "heading_deg",
                "date_index",
                "split",
                "subset",
                "source",
                "projection",
                "fov_deg",
                "horizon",
            )
        }
        row |= {c: getattr(request.panorama, c) for c in ("pano_id", "lat", "lon", "month", "licence", "attribution")}
        row |= {"status": capture.status, "reason": capture.reason, "shard": shard, "offset": -1, "size": len(data)}
        row |= {"sha256": hashlib.sha256(data).hexdigest() if data else "", "width": width, "height": height}
        rows.append(row | {"format": form, "provider": provider})
    for part in ("shared", "local"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for shard, members in content.items():
        for member in shards.write_shard(folder / shard, members):
            rows[int(member.name)]["offset"] = member.offset
    tables.write(tables.CAPTURES, pd.DataFrame(rows), folder / "captures.parquet")
    return folder
