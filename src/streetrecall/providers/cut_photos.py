"""Photos cut from the newest panoramas of a collection, for providers that have no photos of people.

A photo has a random heading, lens, tilt and tone, upright or lying, as photos have. Unlike a person's it is taken from
where the camera car drove, and by its camera, so recall on these photos is higher than on people's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall import tables
from streetrecall.geo import project
from streetrecall.params.schema import Photos
from streetrecall.pictures import tone
from streetrecall.pictures.codec import encode_jpeg
from streetrecall.pictures.handheld import FOV_DEG, PITCH_DEG, ROLL_DEG
from streetrecall.pictures.nearby import Floats, nearest_m, nearest_of_month_m
from streetrecall.pictures.panoramas import Source, open_panorama, usable_panoramas
from streetrecall.pictures.projections import Panorama, View
from streetrecall.pictures.shards import ShardReader
from streetrecall.providers.base import Photo
from streetrecall.tables import PHOTOS_OF_A_SPOT, RIGHT_M, SAME_MONTH_M

_TRIES = 40  # views that are drawn for a photo until the pictures hold one


def cut_photos(captures: Path, views: pd.DataFrame, settings: Photos, crs: str) -> Iterator[Photo]:
    """Photos of ``settings.spots`` panoramas of each of validation and test, and of some without an answer nearby.

    ``captures`` is the folder of captures.parquet and its shards; ``views`` has VIEWS columns. None of the photos shows
    a panorama of the gallery, a month of one nearby, or a place of training. For those with an answer nearby, at a
    place of their own split, places of split gallery do not count: their views of a photo's own month never answer it.
    So more of these places change none of these photos, which come before all others.

    Raises:
        UserError: a shard is missing.
    """
    panoramas, _ = usable_panoramas(tables.read(tables.CAPTURES, captures / "captures.parquet"))
    gallery = views[views["use"] == tables.Use.GALLERY].drop_duplicates(["place", "pano_id"])
    if panoramas.empty or gallery.empty:
        return
    panoramas = panoramas[(panoramas["date_index"] == 0) & (panoramas["month"] != "")]
    panoramas = panoramas.reset_index(drop=True)
    xy = np.column_stack(project(panoramas["lat"].to_numpy(float), panoramas["lon"].to_numpy(float), crs))
    untrained = nearest_m(xy, views[views["split"] == "train"]) > RIGHT_M
    asked = views["split"] != "gallery"
    spot = 0
    with ShardReader(captures) as reader:
        random = {split: np.random.default_rng([settings.seed, n]) for n, split in enumerate(("validation", "test"))}
        for near, spots in ((True, settings.spots), (False, round(settings.far_share * settings.spots))):
            heeded = views[asked] if near else views
            fit = untrained & _shown_by_none(panoramas, xy, heeded)
            for split, rng in random.items():
                answering = gallery[gallery["split"] == split] if near else gallery
                fits = fit & ((nearest_m(xy, answering) <= RIGHT_M) == near)
                made = 0
                for row in rng.permutation(np.flatnonzero(fits & (panoramas["split"] == split).to_numpy())).tolist():
                    if made == spots:
                        break
                    taken = list(_photos_of(panoramas.iloc[row], reader, settings, spot, rng))
                    if len(taken) == PHOTOS_OF_A_SPOT:
                        yield from taken
                        made, spot = made + 1, spot + 1


def _photos_of(
    panorama: pd.Series, reader: ShardReader, settings: Photos, spot: int, rng: np.random.Generator
) -> Iterator[Photo]:
    source = Source(
        0, int(panorama["place"]), panorama["month"], panorama["pano_id"], panorama["projection"],
        float(panorama["fov_deg"]), float(panorama["horizon"]), panorama["pictures"],
    )  # fmt: skip
    opened = open_panorama(source, reader)
    if opened is None:
        return
    for _ in range(PHOTOS_OF_A_SPOT):
        view = _draw(opened, settings.long_side, rng)
        if view is None:
            return
        data = encode_jpeg(tone.phone(opened.cut(view), rng), tone.jpeg_quality(rng))
        yield Photo(
            spot, panorama["split"], source.month, float(panorama["lat"]), float(panorama["lon"]), view.heading_deg,
            view.fov_deg, view.pitch_deg, view.roll_deg, float("nan"), data, panorama["licence"],
            panorama["attribution"], source.pictures[0][1].startswith("shared/"),
        )  # fmt: skip


def _draw(panorama: Panorama, long_side: int, rng: np.random.Generator) -> View | None:
    """A view as a person takes it; None if the pictures hold none of those drawn."""
    for _ in range(_TRIES):
        width, height = long_side, long_side * 3 // 4
        if rng.random() < 0.5:
            width, height = height, width
        heading, fov = rng.uniform(0, 360), rng.uniform(*FOV_DEG)
        pitch, roll = rng.uniform(*PITCH_DEG), rng.uniform(*ROLL_DEG)
        view = View(round(heading, 1) % 360.0, round(fov, 1), width, height, round(pitch, 1), round(roll, 1))
        if panorama.holds(view):
            return view
    return None


def _shown_by_none(panoramas: pd.DataFrame, xy: Floats, views: pd.DataFrame) -> NDArray[np.bool_]:
    """Which of the panoramas, at ``xy``, are not among the views, and have no gallery view of their month nearby."""
    new = ~panoramas["pano_id"].isin(set(views["pano_id"])).to_numpy()
    gallery = views[views["use"] == tables.Use.GALLERY]
    return np.asarray(new & (nearest_of_month_m(xy, panoramas["month"], gallery) >= SAME_MONTH_M))
