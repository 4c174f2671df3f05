"""The last step of the stage `scrape`: shards and the table CAPTURES from the plan and the store alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd

from streetrecall import tables
from streetrecall.files import fresh_folders
from streetrecall.pictures import shards
from streetrecall.providers.base import CaptureRequest, Provider
from streetrecall.store.ledger import Entry, Key, Ledger
from streetrecall.tables import WITH_PICTURE

SUFFIX = {"JPEG": "jpg", "PNG": "png"}


class LostPicturesError(Exception):
    """The store should have the pictures ``keys`` and does not."""

    def __init__(self, keys: list[Key]) -> None:
        super().__init__(f"{len(keys)} pictures are lost or damaged")
        self.keys = keys


def materialise(
    ledger: Ledger,
    namespace: str,
    plan: Sequence[CaptureRequest],
    places: pd.DataFrame,
    provider: Provider,
    captures: Path,
) -> pd.DataFrame:
    """Write the shards and the table CAPTURES from plan and store alone; returns the table.

    Raises:
        LostPicturesError: the store should have pictures and does not; then nothing is written.
    """
    entries = ledger.entries(namespace)
    part = "shared" if provider.shareable else "local"
    in_level = places.sort_values("place").groupby("level").cumcount().reindex(places.index)
    position = dict(zip(places["place"], zip(places["level"], in_level, strict=True), strict=True))
    rows: list[dict[str, Any]] = []
    members: dict[str, list[int]] = {}  # the rows in each shard
    for request in plan:
        entry = entries[request.key]
        shard = ""
        if entry.status in WITH_PICTURE:
            level, index = position[request.place]
            shard = f"{part}/{request.split}/{shards.shard_name(request.subset, int(level), int(index))}"
            members.setdefault(shard, []).append(len(rows))
        rows.append(_row(request, entry, shard, provider.name))
    lost: list[Key] = []
    with fresh_folders(captures, ("shared", "local")) as fresh:
        for name in ("shared", "local"):
            shards.make_folder(fresh / name, name)
        for shard, of_shard in sorted(members.items()):
            lost += _write_shard(fresh / shard, of_shard, plan, rows, ledger)
        if lost:
            raise LostPicturesError(lost)
        table = tables.conform(tables.CAPTURES, pd.DataFrame(rows))
    tables.write(tables.CAPTURES, table, captures / "captures.parquet")
    return table


def _row(request: CaptureRequest, entry: Entry, shard: str, provider: str) -> dict[str, Any]:
    """A row of the table CAPTURES, its place in the shard left out."""
    p = request.panorama
    return {
        "place": request.place, "direction": request.direction, "heading_deg": request.heading_deg,
        "projection": str(request.projection), "fov_deg": request.fov_deg, "horizon": request.horizon,
        "date_index": request.date_index, "month": p.month, "pano_id": p.pano_id, "split": request.split,
        "subset": request.subset, "lat": p.lat, "lon": p.lon, "status": str(entry.status), "reason": entry.reason,
        "shard": shard, "offset": -1, "size": entry.size, "sha256": entry.sha256, "width": entry.width,
        "height": entry.height, "format": entry.format, "provider": provider, "licence": p.licence,
        "attribution": p.attribution, "source": request.source,
    }  # fmt: skip


def _write_shard(
    path: Path, members: Sequence[int], plan: Sequence[CaptureRequest], rows: list[dict[str, Any]], ledger: Ledger
) -> list[Key]:
    """Write the pictures of the rows ``members`` to a shard and set their offsets; returns the keys of lost ones."""
    lost = []
    pictures: dict[str, tuple[bytes, int]] = {}
    for i in members:
        data = ledger.objects.read(rows[i]["sha256"])
        if data is None:
            ledger.objects.discard(rows[i]["sha256"])
            lost.append(plan[i].key)
        else:
            pictures[member_name(plan[i], rows[i]["format"])] = data, i
    for member in shards.write_shard(path, [(name, data) for name, (data, _) in pictures.items()]):
        rows[pictures[member.name][1]]["offset"] = member.offset
    return lost


def member_name(request: CaptureRequest, kind: str) -> str:
    """A picture's name in its shard: unique within the plan, readable, and short enough for a tar.

    >>> from streetrecall.providers.base import Panorama
    >>> panorama = Panorama("abc", 59.3, 18.0, "2019-04", "", "")
    >>> member_name(CaptureRequest(7, 2, 180.0, 0, panorama, "test", "test_v1"), "JPEG")
    '000007_2_2019-04_abc.jpg'
    """
    pano = request.panorama.pano_id
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", pano):
        pano = blake2b(pano.encode(), digest_size=12).hexdigest()
    return f"{request.place:06d}_{request.direction}_{request.panorama.month or 'undated'}_{pano}.{SUFFIX[kind]}"
