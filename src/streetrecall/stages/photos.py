"""Stage `photos`: photos as people take them, with their true positions, to ask the gallery with.

The provider takes them (`streetrecall.providers.base.Provider.photos`). For one that has none they are cut from the
newest panoramas (`streetrecall.providers.cut_photos`); a collection of single crops has none at all. Half of the spots
are for validation and half for test. Some have no panorama of the gallery within 25 m: no answer is right.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Sequence
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
from streetrecall.tables import PHOTOS_OF_A_SPOT, RADII_M, Use

log = logging.getLogger(__name__)

SPOTS_PER_SHARD = 16
_RELATED = ("x", "y", "near", "distance_m", "angle_deg", "provider")  # what the gallery and the stage decide
_SAME_PLACE_M = 1e-3  # panoramas of one place have one position


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--captures", type=Path, required=True, help="folder of captures.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="VIEWS table to read")
    parser.add_argument("--photos", type=Path, required=True, help="folder to write: photos.parquet, shared, local")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.photos / "shared", args.photos / "local")
    run(load(args.params), args.captures, args.views, args.photos, args.metrics)


def run(params: Params, captures: Path, views: Path, photos: Path, metrics: Path) -> None:
    """Write the table PHOTOS, its shards and the counts.

    Raises:
        UserError: a shard of the captures is missing.
    """
    table = tables.read(tables.VIEWS, views)
    gallery = table[table["use"] == Use.GALLERY]
    of_people = provider_class(params.provider).photos(params, gallery)
    taken = list(cut_photos(captures, table, params.photos, params.city.crs) if of_people is None else of_people)
    with fresh_folders(photos, ("shared", "local")) as fresh:
        for folder in ("shared", "local"):
            shards.make_folder(fresh / folder, folder)
        rows = write_shards(taken, fresh)
        made = relate(rows.assign(provider=params.provider), gallery, params.city.crs)
    tables.write(tables.PHOTOS, made, photos / "photos.parquet")
    write_json(metrics, count(made))
    log.info("%d photos of %d spots", len(made), made["spot"].nunique())


def write_shards(taken: Sequence[Photo], photos: Path) -> pd.DataFrame:
    """Write the photos to shards below shared/ or local/; returns the columns of PHOTOS that this decides."""
    spots = pd.DataFrame({"spot": [p.spot for p in taken], "split": [p.split for p in taken]}).drop_duplicates()
    number = dict(zip(spots["spot"], spots.groupby("split").cumcount(), strict=True))  # of a spot within its split
    members: dict[str, list[tuple[str, bytes]]] = {}
    rows: list[dict[str, Any]] = []
    for photo_id, photo in enumerate(taken):
        below = "shared" if photo.shareable else "local"
        shard = f"{below}/{photo.split}-{number[photo.spot] // SPOTS_PER_SHARD:05d}.tar"
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
    table["near"] = distance <= RADII_M[0]
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
