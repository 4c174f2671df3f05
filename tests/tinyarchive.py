"""A tiny collection in the original layout, generated: no real picture is ever copied into the project."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from streetrecall.params.schema import Params
from streetrecall.providers.archive import GAPS, IMAGES, LEVELS, POLYGON

FOLDERS = {0: "Cropped_Training_v1_buffer_100", 1: "Cropped_Test_v1_buffer_75", 2: "Cropped_Test_v2_buffer60"}
RING = [[18.06, 59.32], [18.07, 59.32], [18.07, 59.33], [18.06, 59.33], [18.06, 59.32]]


def of_archive(params: Params, root: Path) -> Params:
    """``params`` with the provider `archive` of the collection in ``root``."""
    return params.model_copy(
        update={"provider": "archive", "archive": params.archive.model_copy(update={"path": str(root)})}
    )


def picture(seed: int, size: tuple[int, int] = (224, 224), kind: str = "JPEG", noise: float = 40.0) -> bytes:
    """A picture of coarse blocks, another one for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, noise, (7, 7, 3)).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST).save(out, kind)
    return out.getvalue()


class TinyArchive:
    """Places 0-2 at levels of 100, 75 and 60 m; place 3 is listed and has no picture."""

    def __init__(self, root: Path, points: Sequence[tuple[float, float]] | None = None) -> None:
        self.root = root
        self.points = points or [(59.3210, 18.0610), (59.3230, 18.0630), (59.3250, 18.0650), (59.3270, 18.0670)]
        polygon = root / POLYGON
        polygon.parent.mkdir(parents=True)
        polygon.write_text(json.dumps({"type": "Polygon", "coordinates": [RING]}))
        (root / LEVELS).mkdir(parents=True)
        for level, radius in enumerate((100, 75, 60, 50)):
            lat, lon = self.points[level]
            row = {
                "new_order_idx": level,
                "sorted_idx": level,
                "Location_idx": level,
                "Location": f"{lat}, {lon}",
                "Copyright": "© Somebody",
                "Date": "2023-03",
                "Latitude": lat + 1e-4,
                "Longitude": lon,
                "PanoID": f"pano-{level}",
            }
            pd.DataFrame([row]).to_csv(root / LEVELS / f"new_order_buffer_{radius}.csv", index=False)
        (root / GAPS).parent.mkdir(parents=True)
        pd.DataFrame({"Location_idx": [9], "Location": ["59.329, 18.069"]}).to_csv(root / GAPS, index=False)
        (root / IMAGES).mkdir(parents=True)

    def add(self, name: str, data: bytes | None = None, folder: str = FOLDERS[0], below: str = "000") -> Path:
        path = self.root / IMAGES / folder / below / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(len(name)) if data is None else data)
        return path

    def locations(self) -> pd.DataFrame:
        rows = [
            {"place": i, "rank": i, "pano_id": f"pano-{i}", "lat": lat + 1e-4, "lon": lon, "x": 0.0, "y": 0.0}
            for i, (lat, lon) in enumerate(self.points)
        ]
        frame = pd.DataFrame(rows).assign(month="2023-03", start_distance_m=1.0)
        return frame.assign(
            radius_m=[100.0, 75.0, 60.0, 50.0], level=range(4), split=["train", "test", "test", "validation"]
        )
