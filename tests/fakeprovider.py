"""A provider without a service: a few places of plain pictures, with the faults that a test asks for."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping

import pandas as pd
from PIL import Image

from streetrecall.providers.base import Capture, CaptureRequest, Coverage, Panorama

Fault = Callable[[CaptureRequest, int], Capture | None]  # the request, and how often it was made so far


def picture(text: str, colour: int = 128) -> bytes:
    """A small JPEG that differs with ``text``."""
    file = io.BytesIO()
    image = Image.new("RGB", (32, 16), (colour, colour, colour))
    image.save(file, "JPEG", comment=text.encode())
    return file.getvalue()


def locations(count: int) -> pd.DataFrame:
    """A table LOCATIONS of ``count`` places on two levels: train and test."""
    rows = [
        {
            "place": i, "rank": i, "pano_id": f"pano{i}", "lat": 59.3 + i / 1000, "lon": 18.0, "x": 0.0, "y": 100.0 * i,
            "month": "2022-06", "start_distance_m": 100.0 * i, "radius_m": 100.0 - 25 * (i % 2), "level": i % 2,
            "split": ("train", "test")[i % 2],
        }
        for i in range(count)
    ]  # fmt: skip
    return pd.DataFrame(rows)


class FakeProvider:
    name = "fake"
    namespace = "fake"

    def __init__(self, network: bool = True, fault: Fault | None = None, dates: int = 2, delay_s: float = 0.0) -> None:
        self.network = network
        self.shareable = network
        self.notes: MutableMapping[str, str] = {}
        self.unplanned: list[tuple[str, str]] = []
        self.asked: Counter[tuple[str, float]] = Counter()
        self.points: Counter[int] = Counter()
        self.closed = False
        self._fault, self._dates, self._delay_s = fault, dates, delay_s

    def coverage(self, points: pd.DataFrame, radius_m: float) -> Iterator[Coverage]:
        for point_id, lat, lon in zip(points["point_id"], points["lat"], points["lon"], strict=True):
            self.points[point_id] += 1
            time.sleep(self._delay_s)
            if point_id % 5 == 4:
                yield Coverage(point_id, "ZERO_RESULTS", None)
            else:  # every two points see the same panorama
                name = f"pano{point_id // 2}"
                yield Coverage(point_id, "OK", Panorama(name, round(lat, 3), lon, "2022-06", "CC0-1.0", "© nobody"))

    def plan(self, places: pd.DataFrame) -> Iterator[CaptureRequest]:
        for place, pano, lat, split in zip(
            places["place"], places["pano_id"], places["lat"], places["split"], strict=True
        ):
            for date in range(self._dates):
                panorama = Panorama(f"{pano}-{date}", lat, 18.0, f"{2022 - date}-06", "CC0-1.0", "© nobody")
                for direction in range(4):
                    yield CaptureRequest(int(place), direction, 90.0 * direction, date, panorama, split, f"{split}_v1")

    def capture(self, requests: Iterable[CaptureRequest]) -> Iterator[Capture]:
        for request in requests:
            key = request.panorama.pano_id, request.heading_deg
            self.asked[key] += 1
            time.sleep(self._delay_s)
            special = self._fault(request, self.asked[key]) if self._fault else None
            yield special or Capture(request, "ok", "", picture(f"{key}"))

    def close(self) -> None:
        self.closed = True
