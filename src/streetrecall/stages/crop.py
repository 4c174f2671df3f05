"""Stage `crop`: cut the viewer's chrome away, rescale to the model's size, and quarantine blanks and duplicates."""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.geo import project
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Crop, Params, Quarantine
from streetrecall.pictures import shards

log = logging.getLogger(__name__)

BLANK = "blank"
UNDECODABLE = "undecodable"
WRONG_SHAPE = "wrong_shape"
ACROSS_SPLITS = "duplicate_across_splits"
ACROSS_PLACES = "duplicate_across_places"
WITHIN_PLACE = "duplicate_within_place"

_SPLITS = ("test", "train", "validation")
_FEW = 400  # so many pictures are done before another process has started


@dataclass(frozen=True)
class Source:
    """A capture's picture: where it lies, and the name of the picture made of it."""

    row: int
    shard: str
    offset: int
    size: int
    name: str


@dataclass(frozen=True)
class Result:
    """What became of it: where it lies now and what it looks like; ``flaw`` is a reason for quarantine or empty."""

    row: int
    shard: str
    offset: int
    size: int
    sha256: str
    phash: str
    luminance_mean: float
    luminance_std: float
    width: int
    height: int
    flaw: str
    unchanged: bool


@dataclass(frozen=True)
class Picture:
    """An encoded picture with its hash (16 hexadecimal digits) and luminance (0-255), and what is wrong with it."""

    data: bytes
    phash: str
    luminance_mean: float
    luminance_std: float
    width: int
    height: int
    flaw: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--captures", type=Path, required=True, help="folder of captures.parquet and its shards")
    parser.add_argument("--locations", type=Path, required=True, help="LOCATIONS table to read")
    parser.add_argument("--crops", type=Path, required=True, help="folder to write: images.parquet, shared, local")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    run(parameters.load(args.params), args.captures, args.locations, args.crops, args.metrics)


def run(params: Params, captures: Path, locations: Path, crops: Path, metrics: Path) -> None:
    """Write the IMAGES table, its shards and the counts.

    Raises:
        UserError: there is no picture, a capture's place is unknown, or a shard does not hold what its table says.
    """
    taken = tables.read(tables.CAPTURES, captures / "captures.parquet")
    taken = taken[taken["status"].isin(["ok", "blank"])].reset_index(drop=True)
    if taken.empty:
        raise UserError(
            f"{captures / 'captures.parquet'}: not one picture; see metrics/scrape.json for what went wrong"
        )
    work = plan(taken, tables.read(tables.LOCATIONS, locations), locations)

    crops.mkdir(parents=True, exist_ok=True)
    for leftover in crops.glob(".new-*"):
        shutil.rmtree(leftover)
    fresh = crops / f".new-{os.getpid()}"
    folders = [f"{below}/{split}" for below in ("shared", "local") for split in _SPLITS]
    try:
        for folder in folders:
            shards.make_folder(fresh / folder, folder.partition("/")[0])
        results = list(make(params.crop, captures, fresh, work))

        table = assemble(taken, results, params)
        for folder in folders:
            if (crops / folder).exists():
                shutil.rmtree(crops / folder)
            (crops / folder).parent.mkdir(exist_ok=True)
            (fresh / folder).replace(crops / folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    tables.write(tables.IMAGES, table, crops / "images.parquet")
    write_json(metrics, measure(table, sum(r.unchanged for r in results)))
    out = table[table["quarantine"] != ""]
    log.info("%d pictures, %d of them in quarantine", len(table), len(out))
    for row in out[out["quarantine"].isin([UNDECODABLE, WRONG_SHAPE])].head(20).to_dict("records"):
        log.warning(
            "%s: place %d, direction %d, %s %s",
            row["quarantine"],
            row["place"],
            row["direction"],
            row["month"],
            row["source"],
        )


def plan(taken: pd.DataFrame, places: pd.DataFrame, where: Path) -> dict[str, list[Source]]:
    """Which pictures go into which shard: whole places, numbered within their level, shared or local as they were."""
    places = places.sort_values("place")
    index = places.groupby("level").cumcount()
    spot = dict(zip(places["place"].tolist(), zip(places["level"].tolist(), index.tolist(), strict=True), strict=True))
    work: dict[str, list[Source]] = {}
    for row, capture in enumerate(taken.to_dict("records")):
        if capture["place"] not in spot:
            raise UserError(f"{where}: place {capture['place']} of the captures is unknown; run dvc repro scrape")
        below = str(capture["shard"]).split("/", 1)[0]
        shard = f"{below}/{capture['split']}/{shards.shard_name(str(capture['subset']), *spot[capture['place']])}"
        panorama = hashlib.blake2b(str(capture["pano_id"]).encode(), digest_size=6).hexdigest()
        name = f"{capture['place']:06d}_{capture['direction']}_{capture['month'] or 'undated'}_{panorama}.jpg"
        work.setdefault(shard, []).append(
            Source(row, str(capture["shard"]), int(capture["offset"]), int(capture["size"]), name)
        )
    return work


def make(crop: Crop, captures: Path, crops: Path, work: dict[str, list[Source]]) -> Iterator[Result]:
    """Make the shards of ``work`` below ``crops``, on all cores; what comes out does not depend on their number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = sum(map(len, work.values()))
    one = partial(make_shard, crop, captures, crops)
    with tqdm(total=count, desc="crop", unit="picture", file=sys.stderr) as bar:
        if count <= _FEW or cores == 1:
            for item in sorted(work.items()):
                yield from _counted(one(item), bar)
            return
        # spawn: a fork would copy whatever threads and locks the caller holds.
        with ProcessPoolExecutor(min(cores, len(work)), multiprocessing.get_context("spawn")) as pool:
            for results in pool.map(one, sorted(work.items())):
                yield from _counted(results, bar)


def _counted(results: list[Result], bar: Any) -> list[Result]:
    bar.update(len(results))
    return results


def make_shard(crop: Crop, captures: Path, crops: Path, item: tuple[str, list[Source]]) -> list[Result]:
    """Make one shard of pictures below ``crops``."""
    shard, sources = item
    with closing(shards.ShardReader(captures)) as reader:
        made = [(s, data := reader.read(s.shard, s.offset, s.size), render(data, crop)) for s in sources]
    placed = {m.name: m for m in shards.write_shard(crops / shard, [(s.name, p.data) for s, _, p in made])}
    return [
        Result(
            s.row, shard, placed[s.name].offset, placed[s.name].size, hashlib.sha256(p.data).hexdigest(), p.phash,
            p.luminance_mean, p.luminance_std, p.width, p.height, p.flaw, p.data == data,
        )
        for s, data, p in made
    ]  # fmt: skip


def render(data: bytes, crop: Crop) -> Picture:
    """The model's picture of a captured one.

    A JPEG of the right size passes byte for byte. Of a frame that holds ``crop.box``, the box is cut out and rescaled,
    by Pillow's bicubic filter, the one that the published collection was made with. A square picture that is smaller
    than the box is rescaled whole. Of any other shape the middle is taken and flagged, and what cannot be decoded is
    kept as it is and flagged.
    """
    import imagehash

    flaw = ""
    try:
        with _decode_png(data) or Image.open(io.BytesIO(data)) as frame:
            frame.load()
            if frame.size == (crop.size, crop.size) and frame.format == "JPEG" and frame.mode in ("RGB", "L"):
                return _picture(data, frame.convert("L"), flaw)
            box, flaw = _cut(frame.width, frame.height, crop)
            cut = frame.crop(box).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # SyntaxError: a broken PNG
        return Picture(data, str(imagehash.ImageHash(np.zeros((8, 8), bool))), 0.0, 0.0, 0, 0, UNDECODABLE)
    encoded = io.BytesIO()
    cut.resize((crop.size, crop.size), Image.Resampling.BICUBIC).save(encoded, "JPEG", quality=crop.quality)
    with Image.open(encoded) as made:  # hash what will be read, not what was written
        return _picture(encoded.getvalue(), made.convert("L"), flaw)


def _picture(data: bytes, grey: Image.Image, flaw: str) -> Picture:
    import imagehash

    luminance = np.asarray(grey, dtype=np.float64)
    mean, std = round(float(luminance.mean()), 3), round(float(luminance.std()), 3)
    return Picture(data, str(imagehash.phash(grey)), mean, std, grey.width, grey.height, flaw)


def _decode_png(data: bytes) -> Image.Image | None:
    """A PNG's pixels by OpenCV, which takes two thirds of the time that Pillow does; None where it can't."""
    import cv2

    if not data.startswith(b"\x89PNG"):
        return None
    with Image.open(io.BytesIO(data)) as image:
        image.verify()  # OpenCV would make up what is missing of a truncated file
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return None if pixels is None else Image.fromarray(pixels)


def _cut(width: int, height: int, crop: Crop) -> tuple[tuple[int, int, int, int], str]:
    left, top, right, bottom = crop.box
    if width >= right and height >= bottom:
        return (left, top, right, bottom), ""
    side = min(width, height)
    x, y = (width - side) // 2, (height - side) // 2
    return (x, y, x + side, y + side), "" if width == height >= crop.size else WRONG_SHAPE


def assemble(taken: pd.DataFrame, results: list[Result], params: Params) -> pd.DataFrame:
    """The IMAGES table of the captures ``taken`` and what `make` made of them."""
    made = pd.DataFrame(results).set_index("row").sort_index()
    table = taken[[c for c in tables.CAPTURES.columns if c in tables.IMAGES.columns]].copy()
    for column in ("shard", "offset", "size", "sha256", "phash", "luminance_mean", "luminance_std", "width", "height"):
        table[column] = made[column]
    table["x"], table["y"] = project(table["lat"], table["lon"], params.city.crs)
    table["flaw"] = made["flaw"].where(made["flaw"] != "", taken["status"].map({"ok": "", "blank": BLANK}))
    table = table.sort_values(
        ["split", "place", "direction", "month", "date_index", "pano_id"],
        ascending=[True, True, True, False, True, True],
        ignore_index=True,
    )
    table["image_id"] = np.arange(len(table))
    table["quarantine"] = quarantine(table, params.crop.quarantine)
    return table[list(tables.IMAGES.columns)]


def quarantine(table: pd.DataFrame, policy: Quarantine) -> pd.Series:
    """Why each picture takes no part, or the empty string; the first that applies of what ``policy.reasons`` lists.

    - ``blank``: said so by the scrape, or luminance mean or spread at or below the thresholds.
    - ``duplicate_across_splits``, ``duplicate_across_places``: the same file, or the same frame encoded anew, stands
      for several places. Which one it shows cannot be known: all copies go. A frame encoded anew has the same month and
      a perceptual hash within ``policy.phash_distance`` bits.
    - ``duplicate_within_place``: the same file stands for several months or directions of one place: the viewer
      had not yet turned. The newest stays.

    ``table`` has IMAGES columns, in image_id order, and ``flaw``: reasons found before, which always count.
    """
    reason = table["flaw"].to_numpy(dtype=object).copy()
    allowed = set(policy.reasons)
    reason[(reason == BLANK) & (BLANK not in allowed)] = ""
    if BLANK in allowed:
        dark = table["luminance_mean"].to_numpy() <= policy.blank_mean
        flat = table["luminance_std"].to_numpy() <= policy.blank_std
        reason[(reason == "") & (dark | flat)] = BLANK

    def candidates() -> NDArray[np.int64]:
        return np.flatnonzero(reason == "")

    place, split = table["place"].to_numpy(), table["split"].to_numpy()
    groups = list(table.iloc[candidates()].groupby("sha256", sort=False).indices.values())
    shared = [candidates()[g] for g in groups if len(g) > 1]
    shared = [g for g in shared if len(np.unique(place[g])) > 1]
    shared += [np.array(pair) for pair in alike(table.iloc[candidates()], policy.phash_distance)]
    for name, label in ((ACROSS_SPLITS, split), (ACROSS_PLACES, place)):
        if name in allowed:
            for group in shared:
                if len(np.unique(label[group])) > 1:
                    free = group[reason[group] == ""]
                    reason[free] = name
    if WITHIN_PLACE in allowed:
        left = table.iloc[candidates()].sort_values(["month", "image_id"], ascending=[False, True], kind="stable")
        repeats = left.index[left.duplicated(["place", "sha256"])]
        reason[repeats] = WITHIN_PLACE
    return pd.Series(reason, index=table.index, dtype="str")


def alike(table: pd.DataFrame, distance: int) -> list[tuple[int, int]]:
    """Pairs (index labels of ``table``) of one month but two places whose hashes differ in ``distance`` bits or fewer.

    The month is what makes it safe: among many thousand street views some differ as little by chance, but rarely in
    the same month, and a frame that two places share was taken in one.
    """
    pairs = []
    for _, group in table.groupby("month", sort=True):
        labels, place = group.index.to_numpy(), group["place"].to_numpy()
        hashes = np.array([int(h, 16) for h in group["phash"]], dtype=np.uint64)
        for i in range(len(group) - 1):
            near = np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= distance
            near &= place[i + 1 :] != place[i]
            pairs += [(int(labels[i]), int(labels[i + 1 + j])) for j in np.flatnonzero(near)]
    return pairs


def measure(table: pd.DataFrame, unchanged: int) -> dict[str, Any]:
    """Counts of pictures, by subset and by reason of quarantine."""
    kept = table["quarantine"] == ""
    out = table[~kept]
    return {
        "images": len(table),
        "kept": int(kept.sum()),
        "passed_unchanged": unchanged,
        "places": int(table.loc[kept, "place"].nunique()),
        "quarantined": {str(k): int(v) for k, v in out.groupby("quarantine").size().items()},
        "subsets": {
            str(subset): {"images": len(group), "kept": int((group["quarantine"] == "").sum())}
            for subset, group in table.groupby("subset")
        },
    }
