"""The captures of a panorama as one picture of the whole circle, from which views are cut."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pandas as pd

from streetrecall.pictures.codec import decode
from streetrecall.pictures.projections import Frames, Panorama, Sphere
from streetrecall.pictures.shards import ShardReader
from streetrecall.tables import CaptureStatus, Projection, Use


@dataclass(frozen=True)
class Source:
    """The captures of one panorama: ``row`` of the table of panoramas, and where each picture is."""

    row: int
    place: int
    month: str
    pano_id: str
    projection: str
    fov_deg: float
    horizon: float
    pictures: tuple[tuple[float, str, int, int, str], ...]  # heading, shard, offset, size, sha256

    def key(self, use: Use) -> str:
        """What its views depend on, besides the parameters, as one hash."""
        shown = [(heading, sha256) for heading, _, _, _, sha256 in self.pictures]
        facts = [str(use), self.pano_id, self.projection, self.fov_deg, self.horizon, shown]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def usable_panoramas(taken: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """The panoramas that views can be cut from, one row each with its ``pictures``, and counts of the others.

    A camera that hung gave the same picture at several places, and it is not known which of them is right. All
    panoramas with that picture are left out. Where all of these places but one are of split gallery, only theirs are,
    so that more places of the gallery never change what is trained on.
    """
    good = taken[taken["status"] == CaptureStatus.OK]
    known = good["fov_deg"].notna() & good["horizon"].notna() & good["heading_deg"].notna()
    unknown = good.loc[~known, "pano_id"].nunique()
    good = good[known]
    answers_only = good["split"] == "gallery"
    asked = good["place"].where(~answers_only).groupby(good["sha256"]).transform("nunique")
    every = good["place"].groupby(good["sha256"]).transform("nunique")
    repeated = set(good.loc[asked.where(~answers_only, every) > 1, "pano_id"])
    good = good[~good["pano_id"].isin(repeated)].sort_values(["place", "date_index", "pano_id", "direction"])
    pictures = list(good[["heading_deg", "shard", "offset", "size", "sha256"]].itertuples(index=False, name=None))
    good["pictures"] = pd.Series(pictures, index=good.index, dtype=object)
    panoramas = good.groupby(["place", "pano_id"], sort=False).agg(
        {**{c: "first" for c in good.columns if c not in ("place", "pano_id", "pictures")}, "pictures": tuple}
    )
    left_out = {"unknown_field_of_view": int(unknown), "same_picture_elsewhere": len(repeated)}
    return panoramas.reset_index(), left_out


def open_panorama(source: Source, reader: ShardReader) -> Panorama | None:
    """The decoded pictures of a panorama; None if there is none that can be decoded."""
    decoded = [
        (heading, decode(reader.read(shard, offset, size))) for heading, shard, offset, size, _ in source.pictures
    ]
    whole = [(heading, picture) for heading, picture in decoded if picture is not None]
    if not whole:
        return None
    if source.projection == Projection.EQUIRECTANGULAR:
        heading, sphere = whole[0]
        return Sphere(sphere, heading)
    return Frames([picture for _, picture in whole], [heading for heading, _ in whole], source.fov_deg, source.horizon)
