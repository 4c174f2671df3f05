"""A small city in tables, whole and right; tests break one thing in it and see which expectation notices."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image
from scipy.spatial import cKDTree

from streetrecall import geo, shards, tables
from streetrecall.params import Params, load
from streetrecall.retrieval.rows import descriptor_rows
from streetrecall.stages import check

ROOT = Path(__file__).parents[2]
MONTHS = ("2022-06", "2014-09")
GEO = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}


@dataclass
class City:
    """Tables by name, and what is not a table: the pictures' folder, the descriptors, the grid's file metadata."""

    frames: dict[str, pd.DataFrame]
    vectors: dict[str, np.ndarray]
    pictures: list[bytes]
    geo_metadata: dict[str, Any]
    params: Params

    def copy(self) -> City:
        return City(
            {name: frame.copy() for name, frame in self.frames.items()},
            {name: vectors.copy() for name, vectors in self.vectors.items()},
            list(self.pictures),
            json.loads(json.dumps(self.geo_metadata)),
            self.params,
        )

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.frames[name]

    def write(self, root: Path) -> Path:
        """Everything at the paths of the pipeline below ``root``, as it is: nothing is checked or sorted."""
        for name, path in {
            "panoramas": "data/panoramas.parquet",
            "no_coverage": "data/no_coverage.parquet",
            "locations": "data/locations.parquet",
            "captures": "data/captures/captures.parquet",
            "images": "data/crops/images.parquet",
            "floor": "models/floor/rows.parquet",
            "index": "models/index/rows.parquet",
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pandas(self[name], preserve_index=False), root / path)
        grid = pa.Table.from_pandas(self["grid"], preserve_index=False)
        pq.write_table(grid.replace_schema_metadata({"geo": json.dumps(self.geo_metadata)}), root / "data/grid.parquet")
        for folder in ("data/captures", "data/crops"):
            shards.write_shard(
                root / folder / "shared" / "all.tar", [(f"{i:05d}.jpg", data) for i, data in enumerate(self.pictures)]
            )
        for name, vectors in self.vectors.items():
            np.save(root / "models" / name / "descriptors.npy", vectors)
        return root


def picture(rng: np.random.Generator, size: int = 224) -> bytes:
    """A JPEG of coloured blotches that no other draw gives."""
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((size, size), Image.Resampling.BILINEAR).save(out, "JPEG", quality=60)
    return out.getvalue()


def make_city(params: Params) -> City:
    rng = np.random.default_rng(5)
    crs = params.city.crs
    start_lat, start_lon = params.order.start
    (start_x,), (start_y,) = geo.project([start_lat], [start_lon], crs)

    steps = np.stack(np.meshgrid(np.arange(-250, 250, 10.0), np.arange(-200, 200, 10.0), indexing="ij"), -1)
    xy = steps.reshape(-1, 2) + np.array([start_x, start_y])
    lat, lon = geo.unproject(*xy.T, crs)
    grid = pd.DataFrame({"point_id": np.arange(len(xy)), "lat": lat, "lon": lon})
    grid["geometry"] = shapely.to_wkb(shapely.points(lon, lat))

    corners = [(x, y, 0) for x in (-195, -65, 65, 195) for y in (-130, 0, 130)]
    centres = [(x, y, 1) for x in (-130, 0, 130) for y in (-65, 65)]
    edges = [(x, y, 3) for x in (-130, 0, 130) for y in (-130, 0, 130)]
    places = pd.DataFrame(corners + centres + edges, columns=["x", "y", "level"])
    places["x"] += start_x + rng.uniform(-1, 1, len(places))
    places["y"] += start_y + rng.uniform(-1, 1, len(places))
    places["lat"], places["lon"] = geo.unproject(places["x"], places["y"], crs)
    places["x"], places["y"] = geo.project(places["lat"], places["lon"], crs)
    places["start_distance_m"] = geo.distance_m(places["lat"], places["lon"], start_lat, start_lon)
    places = places.sort_values(["level", "start_distance_m"], ignore_index=True)
    places["place"] = np.arange(len(places))
    places["rank"] = places["start_distance_m"].rank().astype("int64") - 1
    places["pano_id"] = [f"pano{i:04d}" for i in range(len(places))]
    places["month"] = MONTHS[0]
    places["radius_m"] = [params.order.levels[i].radius_m for i in places["level"]]
    places["split"] = [params.order.levels[i].split for i in places["level"]]

    panoramas = places[["pano_id", "lat", "lon", "month"]].copy()
    panoramas["point_id"] = cKDTree(xy).query(places[["x", "y"]].to_numpy())[1]
    found = grid.loc[panoramas["point_id"]]
    panoramas["offset_m"] = geo.distance_m(found["lat"], found["lon"], panoramas["lat"], panoramas["lon"])
    panoramas["provider"], panoramas["licence"], panoramas["attribution"] = "simulated", "CC0-1.0", "nobody"

    no_coverage = grid.loc[~grid["point_id"].isin(panoramas["point_id"]), ["point_id", "lat", "lon"]].iloc[::9]
    no_coverage = no_coverage.assign(status="ZERO_RESULTS")

    pictures: list[bytes] = []
    rows = []
    for place in places.itertuples():
        for slot in range(4):
            for date, month in enumerate(MONTHS):
                pictures.append(picture(rng))
                rows.append(
                    {
                        "place": place.place,
                        "slot": slot,
                        "heading_deg": 90.0 * slot,
                        "date_index": date,
                        "month": month,
                        "pano_id": place.pano_id if date == 0 else f"{place.pano_id}-{date}",
                        "split": place.split,
                        "subset": f"{place.split}_v1",
                        "lat": place.lat,
                        "lon": place.lon,
                        "x": place.x,
                        "y": place.y,
                        "status": "ok",
                        "reason": "",
                        "shard": "shared/all.tar",
                        "sha256": hashlib.sha256(pictures[-1]).hexdigest(),
                        "width": 224,
                        "height": 224,
                        "format": "JPEG",
                        "size": len(pictures[-1]),
                        "provider": "simulated",
                        "licence": "CC0-1.0",
                        "attribution": "nobody",
                        "source": "",
                    }
                )
    captures = pd.DataFrame(rows)
    padded = [512 + -(-len(data) // 512) * 512 for data in pictures]
    captures["offset"] = np.concatenate([[0], np.cumsum(padded)[:-1]]) + 512
    images = captures.copy()
    images["image_id"] = np.arange(len(images))
    images["phash"] = [f"{value:016x}" for value in rng.integers(0, 2**64, len(images), dtype=np.uint64)]
    images["luminance_mean"], images["luminance_std"] = rng.uniform(60, 200, (2, len(images)))
    images["quarantine"] = ""
    images.loc[[5, 77], "quarantine"] = ["blank", "duplicate_across_places"]
    descriptors = descriptor_rows(images)
    vectors = {}
    for name in ("floor", "index"):
        drawn = rng.normal(size=(len(descriptors), 16))
        vectors[name] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    frames = {
        "grid": grid,
        "panoramas": panoramas,
        "no_coverage": no_coverage,
        "locations": places,
        "captures": captures,
        "images": images,
        "floor": descriptors,
        "index": descriptors.copy(),
    }
    frames = {
        name: frame.astype(tables.TABLES[name].columns) if name in tables.TABLES else frame
        for name, frame in frames.items()
    }
    return City(frames, vectors, pictures, GEO, params)


@pytest.fixture(scope="session")
def pristine() -> City:
    return make_city(load(ROOT / "params.yaml"))


@pytest.fixture
def city(pristine: City) -> City:
    """A city to break."""
    return pristine.copy()


Failures = list[tuple[str, str, str]]


@pytest.fixture
def failures(tmp_path: Path) -> Callable[[City, str], Failures]:
    """Runs a gate over a city; returns (table, expectation, column) of each that failed."""

    def run(city: City, name: str) -> Failures:
        return [
            (r["table"], r["expectation"], r["column"])
            for r in report_of(city, name, tmp_path)["results"]
            if not r["success"]
        ]

    return run


def report_of(city: City, name: str, root: Path) -> dict[str, Any]:
    from streetrecall.expectations import gate

    city.write(root)
    inputs = {key: root / path for key, path in check.suite(name).INPUTS.items()}
    return gate.validate(name, check.suite(name).batches(city.params, inputs), city.params.checks.listed_ids)
