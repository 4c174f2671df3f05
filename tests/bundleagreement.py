"""Do a project's bundle and its evaluation answer photos in the same way?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streetrecall import tables
from streetrecall.bundle.answer import Bundle
from streetrecall.geo import distance_m
from streetrecall.params.schema import load
from streetrecall.pictures.shards import ShardReader
from streetrecall.scoring.photos import confidence

CLOSE = 5e-4  # descriptors have half precision, so scores differ by so much; confidence has the margin twice more


def differences(root: Path) -> tuple[int, list[str]]:
    """The number of photos compared, and those that the bundle below ``root`` answers otherwise than the evaluation.

    Each photo is asked as in the evaluation, without pictures of its own month.
    """
    photos = tables.read(tables.PHOTOS, root / "data/photos/photos.parquet").set_index("photo_id")
    answers = tables.read(tables.PHOTO_ANSWERS, root / "data/results/photos.parquet")
    answers = answers[answers["protocol"] == "photos"].set_index("query")
    answers["confidence"] = confidence(answers, load(root / "params.yaml").evaluate)
    bundle = Bundle(root / "models/bundle")
    found = []
    with ShardReader(root / "data/photos") as reader:
        for photo_id, row in photos.iterrows():
            seen = bundle.see(reader.read(str(row["shard"]), int(row["offset"]), int(row["size"])))
            got, expected = bundle.answer_seen([seen], month=str(row["month"])), answers.loc[photo_id]
            tie = expected["margin"] < CLOSE or abs(expected["confidence"] - (got.threshold or -np.inf)) < 3 * CLOSE
            moved = float(distance_m(got.lat, got.lon, expected["position_lat"], expected["position_lon"]))
            same = (
                got.neighbours[0].place == expected["answer_place"]
                and got.withheld == (not expected["answered"])
                and moved < 0.5
                and abs((got.radius_m or 0) - np.nan_to_num(expected["radius_m"])) < 0.5
            )
            if abs(got.confidence - expected["confidence"]) > 3 * CLOSE or not (same or tie):
                found.append(
                    f"photo {photo_id}: place {got.neighbours[0].place} and {expected['answer_place']}, confidence "
                    f"{got.confidence:.6f} and {expected['confidence']:.6f}, {moved:.2f} m apart"
                )
    return len(photos), found
