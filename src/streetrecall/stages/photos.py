"""Stage `photos`: photos as people take them, with their true positions, to ask the gallery with.

The provider takes them (`streetrecall.providers.base.Provider.photos`). For one that has none they are cut from the
newest panoramas (`streetrecall.providers.cut_photos`); a collection of single crops has none at all. Half of the spots
are for validation and half for test. Some have no panorama of the gallery within 25 m: no answer is right.

Photos near a place of their own split are in a folder of that split, all others in ``elsewhere``. Those of validation,
by which a training chooses its best epoch, have a table of their own. More places of split gallery change neither.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from streetrecall import tables
from streetrecall.files import fresh_folders, require_in_project, write_json
from streetrecall.geo import project
from streetrecall.params.schema import Params, load
from streetrecall.pictures import shards
from streetrecall.pictures.inspect import inspect
from streetrecall.providers import provider_class
from streetrecall.providers.base import Photo
from streetrecall.providers.cut_photos import cut_photos
from streetrecall.tables import PHOTOS_OF_A_SPOT, RIGHT_M, TRAINING_SPLITS, Use

log = logging.getLogger(__name__)

SPOTS_PER_SHARD = 16
ELSEWHERE = "elsewhere"  # the part of photos that no place of their own split is near
PARTS = ("validation", "test", ELSEWHERE)
_FOLDERS = [f"{below}/{part}" for below in ("shared", "local") for part in PARTS]
_RELATED = ("x", "y", "near", "distance_m", "angle_deg", "provider")  # what the gallery and the stage decide
_SAME_PLACE_M = 1e-3  # panoramas of one place have one position


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--captures", type=Path, required=True, help="folder of captures.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="VIEWS table to read")
    parser.add_argument("--photos", type=Path, required=True, help="folder to write: tables and shards")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(*(args.photos / folder for folder in _FOLDERS))
    run(load(args.params), args.captures, args.views, args.photos, args.metrics)


def run(params: Params, captures: Path, views: Path, photos: Path, metrics: Path) -> None:
    """Write the table PHOTOS, of all photos (photos.parquet) and of those near places of validation
    (validation.parquet), their shards and the counts. The latter table has distances to the views that a training sees.

    Raises:
        UserError: a shard of the captures is missing.
    """
    table = tables.read(tables.VIEWS, views)
    gallery = table[table["use"] == Use.GALLERY]
    of_people = provider_class(params.provider).photos(params, gallery)
    taken = list(cut_photos(captures, table, params.photos, params.city.crs) if of_people is None else of_people)
    part = parts(taken, gallery, params.city.crs)
    with fresh_folders(photos, _FOLDERS) as fresh:
        for folder in _FOLDERS:
            shards.make_folder(fresh / folder, folder.partition("/")[0])
        rows = write_shards(taken, part, fresh).assign(provider=params.provider)
        made = relate(rows, gallery, params.city.crs)
    choosing = rows[rows["shard"].str.split("/").str[1] == "validation"]
    seen = gallery[gallery["split"].isin(TRAINING_SPLITS)]
    tables.write(tables.PHOTOS, made, photos / "photos.parquet")
    tables.write(tables.PHOTOS, relate(choosing, seen, params.city.crs), photos / "validation.parquet")
    write_json(metrics, count(made))
    log.info("%d photos of %d spots", len(made), made["spot"].nunique())


def parts(taken: Sequence[Photo], gallery: pd.DataFrame, crs: str) -> dict[int, str]:
    """The part of each spot: its split if all its photos are within 25 m of a gallery panorama at a place of that
    split, else `ELSEWHERE`."""
    spots = pd.DataFrame([(p.spot, p.split, p.lat, p.lon) for p in taken], columns=["spot", "split", "lat", "lon"])
    xy = np.column_stack(project(spots["lat"].to_numpy(float), spots["lon"].to_numpy(float), crs))
    near = np.zeros(len(spots), bool)
    for split in PARTS[:-1]:
        own = gallery.loc[gallery["split"] == split, ["x", "y"]].to_numpy(float)
        asked = (spots["split"] == split).to_numpy()
        if len(own) and asked.any():
            near[asked] = cKDTree(own).query(xy[asked])[0] <= RIGHT_M
    whole = pd.Series(near).groupby(spots["spot"]).transform("all")
    return dict(zip(spots["spot"].tolist(), spots["split"].where(whole, ELSEWHERE), strict=True))


def write_shards(taken: Sequence[Photo], part: Mapping[int, str], photos: Path) -> pd.DataFrame:
    """Write the photos to shards below shared/ or local/ in the folder of the ``part`` of their spot.

    Returns the columns of PHOTOS that this decides.
    """
    taken = sorted(taken, key=lambda photo: PARTS.index(part[photo.spot]))
    spots = pd.Series({photo.spot: part[photo.spot] for photo in taken}, dtype=object)
    number = spots.groupby(spots).cumcount()  # of a spot within its part
    members: dict[str, list[tuple[str, bytes]]] = {}
    rows: list[dict[str, Any]] = []
    for photo_id, photo in enumerate(taken):
        below = "shared" if photo.shareable else "local"
        shard = f"{below}/{part[photo.spot]}/{photo.split}-{number[photo.spot] // SPOTS_PER_SHARD:05d}.tar"
        members.setdefault(shard, []).append((f"{photo_id:06d}.jpg", photo.data))
        picture = inspect(photo.data)
        row = {name: value for name, value in vars(photo).items() if name != "data"}
        row |= {"photo_id": photo_id, "shard": shard, "offset": -1, "size": len(photo.data)}
        row |= {"sha256": hashlib.sha256(photo.data).hexdigest(), "width": picture.width, "height": picture.height}
        rows.append(row)
    for shard, pictures in members.items():
        for member in shards.write_shard(photos / shard, pictures):
            rows[int(member.name.partition(".")[0])]["offset"] = member.offset
    decided = [name for name in tables.PHOTOS.columns if name not in _RELATED]
    return pd.DataFrame(rows, columns=decided)


def relate(rows: pd.DataFrame, gallery: pd.DataFrame, crs: str) -> pd.DataFrame:
    """The table PHOTOS: ``rows`` beside their metres, and how far they are from the views of the gallery."""
    table = rows.copy()
    table["x"], table["y"] = project(table["lat"].to_numpy(float), table["lon"].to_numpy(float), crs)
    xy, headings = gallery[["x", "y"]].to_numpy(float), gallery["heading_deg"].to_numpy(float)
    distance, angle = np.full(len(table), np.nan), np.full(len(table), np.nan)
    if len(table):
        tree = cKDTree(xy)
        asked = table[["x", "y"]].to_numpy(float)
        distance = np.asarray(tree.query(asked)[0])
        nearest = tree.query_ball_point(asked, distance + _SAME_PLACE_M)
        for i, views in enumerate(nearest):
            turn = (headings[views] - table["heading_deg"].iloc[i] + 180.0) % 360.0 - 180.0
            angle[i] = np.abs(turn).min()
    table["distance_m"], table["angle_deg"] = distance, angle
    table["near"] = distance <= RIGHT_M
    return table[list(tables.PHOTOS.columns)]


def count(table: pd.DataFrame) -> dict[str, Any]:
    """Numbers of photos and spots, by split, and of the spots that can be answered."""
    near = table[table["near"]]
    return {
        "photos": len(table),
        "spots": int(table["spot"].nunique()),
        "bytes": int(table["size"].sum()),
        "photos_of_a_spot": PHOTOS_OF_A_SPOT,
        "by_split": {
            str(split): {
                "spots": int(rows["spot"].nunique()),
                "near_spots": int(rows.loc[rows["near"], "spot"].nunique()),
            }
            for split, rows in table.groupby("split")
        },
        **({"near_median_distance_m": round(float(near["distance_m"].median()), 1)} if len(near) else {}),
    }
