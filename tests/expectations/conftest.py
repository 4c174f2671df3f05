"""A small city in tables without a fault. Tests break one thing in it and look which expectation fails."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
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

from streetrecall import geo, tables
from streetrecall.expectations.common import suite_of
from streetrecall.params.schema import Params, load
from streetrecall.pictures import shards
from streetrecall.retrieval.rows import descriptor_rows

ROOT = Path(__file__).parents[2]
MONTHS = ("2022-06", "2014-09")
PATHS = {
    "grid": "data/grid.parquet",
    "panoramas": "data/panoramas.parquet",
    "no_coverage": "data/no_coverage.parquet",
    "locations": "data/locations.parquet",
    "captures": "data/captures/captures.parquet",
    "images": "data/crops/images.parquet",
    "views": "data/views/views.parquet",
    "training": "data/views/training.parquet",
    "photos": "data/photos/photos.parquet",
    "validation": "data/photos/validation.parquet",
    "baseline": "models/baseline/rows.parquet",
    "index": "models/index/rows.parquet",
    "sift_vlad": "models/sift_vlad/rows.parquet",
    "queries": "data/results/queries.parquet",
}
NEEDS = {
    "grid": ("grid",),
    "panoramas": ("panoramas", "no_coverage", "grid"),
    "locations": ("locations", "panoramas"),
    "captures": ("captures", "locations"),
    "crops": ("images", "captures"),
    "views": ("views", "training"),
    "photos": ("photos", "validation", "views"),
    "descriptors": ("images", "baseline", "index", "sift_vlad"),
    "predictions": ("queries", "index"),
}
GEO = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}


@dataclass
class City:
    """Tables by name, and what is not a table: the pictures' folder, the descriptors, the grid's file metadata."""

    frames: dict[str, pd.DataFrame]
    vectors: dict[str, np.ndarray]
    pictures: list[bytes]
    geo_metadata: dict[str, Any]
    polygon: list[tuple[float, float]]  # metres east and north of the start
    params: Params

    def copy(self) -> City:
        return City(
            {name: frame.copy() for name, frame in self.frames.items()},
            {name: vectors.copy() for name, vectors in self.vectors.items()},
            list(self.pictures),
            json.loads(json.dumps(self.geo_metadata)),
            list(self.polygon),
            self.params,
        )

    def set(self, key: str, value: Any) -> None:
        """Change one key of the parameters, such as checks.crops.min_rows."""
        document = self.params.model_dump()
        section = document
        *path, last = key.split(".")
        for name in path:
            section = section[name]
        section[last] = value
        self.params = Params.model_validate(document)

    def degrees(self, east: float, north: float) -> tuple[float, float]:
        """Latitude and longitude of metres east and north of the start."""
        (x,), (y,) = geo.project([self.params.order.start[0]], [self.params.order.start[1]], self.params.city.crs)
        (lat,), (lon,) = geo.unproject([x + east], [y + north], self.params.city.crs)
        return float(lat), float(lon)

    def relay(self) -> None:
        """Tell the tables of captures and images what the pictures are now."""
        for name in ("captures", "images", "views", "photos"):
            rows, order = self[name], self[name]["pictures"]
            rows["size"] = [len(self.pictures[i]) for i in order]
            rows["sha256"] = [hashlib.sha256(self.pictures[i]).hexdigest() for i in order]
            rows["offset"] = [_offsets(self.pictures)[i] for i in order]

    def keep(self, places: list[int], *, extra: Callable[[pd.DataFrame], pd.Series] | None = None) -> None:
        """Keep the captures and images of some places, and of these the rows that ``extra`` picks."""
        for name in ("captures", "images"):
            rows = self[name]
            kept = rows["place"].isin(places)
            self.frames[name] = rows[kept & extra(rows) if extra else kept].reset_index(drop=True)

    def __getitem__(self, name: str) -> pd.DataFrame:
        """A table. Those of a part of the views and of the photos follow them, unless a test gives others."""
        if name in self.frames:
            return self.frames[name]
        if name == "training":
            return self["views"][self["views"]["split"].isin(["train", "validation"])]
        assert name == "validation"
        return self["photos"][(self["photos"]["split"] == "validation") & self["photos"]["near"]]

    def write(self, root: Path, check: str) -> Path:
        """Write what ``check`` reads, at the paths of the pipeline below ``root``; nothing is validated or sorted."""
        for name in NEEDS[check]:
            path = root / PATHS[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pandas(self[name], preserve_index=False)
            if name == "grid":
                table = table.replace_schema_metadata({"geo": json.dumps(self.geo_metadata)})
            pq.write_table(table, path)
            if name in self.vectors:
                np.save(path.with_name("descriptors.npy"), self.vectors[name])
        if check == "grid":
            ring = [self.degrees(*corner)[::-1] for corner in (*self.polygon, self.polygon[0])]
            (root / "data/cities").mkdir(parents=True, exist_ok=True)
            (root / "data/cities/test.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        if check in ("captures", "crops", "views", "photos"):
            members = [(f"{i:05d}.jpg", data) for i, data in enumerate(self.pictures)]
            shards.write_shard(root / "data" / check / "shared" / "all.tar", members)
        return root


def _offsets(pictures: list[bytes]) -> list[int]:
    """Offset of the first byte of each picture in a tar: a header and the pictures before it, in whole blocks."""
    sizes = [tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE)) for data in pictures]
    return [sum(sizes[:i]) + tarfile.BLOCKSIZE for i in range(len(pictures))]


def picture(rng: np.random.Generator, size: int = 224) -> bytes:
    """A JPEG of random coloured areas, different at each call."""
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
    panoramas["beyond"] = False

    no_coverage = grid.loc[~grid["point_id"].isin(panoramas["point_id"]), ["point_id", "lat", "lon"]].iloc[::9]
    no_coverage = no_coverage.assign(status="ZERO_RESULTS")

    pictures: list[bytes] = []
    rows = []
    for place in places.itertuples():
        for direction in range(4):
            for date, month in enumerate(MONTHS):
                pictures.append(picture(rng))
                rows.append(
                    {
                        "place": place.place,
                        "direction": direction,
                        "heading_deg": 90.0 * direction,
                        "projection": "perspective",
                        "fov_deg": 120.0,
                        "horizon": 0.448,
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
    captures["offset"] = _offsets(pictures)
    captures["pictures"] = np.arange(len(pictures))
    images = captures.copy()
    images["image_id"] = np.arange(len(images))
    images["phash"] = [f"{value:016x}" for value in rng.integers(0, 2**64, len(images), dtype=np.uint64)]
    images["luminance_mean"], images["luminance_std"] = rng.uniform(60, 200, (2, len(images)))
    images["quarantine"] = ""
    images.loc[[5, 77], "quarantine"] = ["blank", "duplicate_across_places"]
    descriptors = descriptor_rows(images)
    vectors = {}
    for name in ("baseline", "index", "sift_vlad"):
        drawn = rng.normal(size=(len(descriptors), 16))
        vectors[name] = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    frames = {
        "grid": grid,
        "panoramas": panoramas,
        "no_coverage": no_coverage,
        "locations": places,
        "captures": captures,
        "images": images,
        "views": views_of(captures),
        "photos": photos_of(captures, params.city.crs),
        "baseline": descriptors,
        "index": descriptors.copy(),
        "sift_vlad": descriptors.copy(),
        "queries": answers(descriptors, rng),
    }
    frames = {
        name: frame.astype(tables.TABLES[name].columns) if name in tables.TABLES else frame
        for name, frame in frames.items()
    }
    corners = [(-255.0, -205.0), (255.0, -205.0), (255.0, 205.0), (-255.0, 205.0)]
    city = City(frames, vectors, pictures, GEO, corners, params)
    city.set("city.name", "test")
    city.set("views.directions", 4)
    return city


def views_of(captures: pd.DataFrame) -> pd.DataFrame:
    """The older date of every place in four directions, and the newest one of the training places to train on."""
    gallery = captures[captures["date_index"] == 1].assign(use="gallery", fov_deg=60.0)
    train = captures[(captures["date_index"] == 0) & (captures["split"] == "train")].assign(use="train", fov_deg=70.0)
    views = pd.concat([gallery, train], ignore_index=True)
    return views.assign(view_id=np.arange(len(views)))


def photos_of(captures: pd.DataFrame, crs: str) -> pd.DataFrame:
    """Three photos 10 m east of each place of validation and test, and three from where no place is near."""
    photos = captures[(captures["date_index"] == 0) & (captures["direction"] < 3) & (captures["split"] != "train")]
    photos = photos.sort_values(["place", "direction"], ignore_index=True).assign(month="2024-05")
    photos["x"] += 10
    far = photos.tail(3).assign(place=900, x=photos["x"].max() + 290)
    photos = pd.concat([photos, far], ignore_index=True)
    photos["distance_m"] = cKDTree(captures[["x", "y"]].to_numpy()).query(photos[["x", "y"]].to_numpy())[0]
    photos["lat"], photos["lon"] = geo.unproject(photos["x"], photos["y"], crs)
    photos["near"], photos["spot"] = photos["distance_m"] <= 25, pd.factorize(photos["place"])[0]
    photos = photos.assign(fov_deg=60.0, pitch_deg=0.0, roll_deg=0.0, height_m=1.6, angle_deg=0.0)
    return photos.assign(photo_id=np.arange(len(photos)))


def answers(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Every query of validation and test, answered by a picture of its split: most of its place, some of another."""
    out = []
    for split in ("test", "validation"):
        inside = rows[rows["split"] == split]
        older = inside[inside["role"] == "gallery"]
        for query in inside[inside["role"] == "query"].itertuples():
            for system in ("model", "baseline", "sift_vlad"):
                for protocol in ("newest_vs_older", "city"):
                    right = older[older["place"] == query.place]
                    chosen = (right if rng.random() < 0.7 else older).sample(1, random_state=rng).iloc[0]
                    error = float(np.hypot(chosen["x"] - query.x, chosen["y"] - query.y))
                    out.append(
                        {
                            **{
                                c: getattr(query, c)
                                for c in ("image_id", "place", "direction", "month", "split", "subset")
                            },
                            "system": system,
                            "scope": split,
                            "protocol": protocol,
                            "lat": query.lat,
                            "lon": query.lon,
                            "right_images": len(right),
                            "right_place_direction": 1,
                            **{f"rank_{r}m": 1 if error <= r else 2 for r in (25, 50, 100)},
                            "rank_place_direction": 0,
                            "answer_id": chosen["image_id"],
                            "answer_place": chosen["place"],
                            "similarity": 0.5,
                            "error_m": round(error, 2),
                        }
                    )
    return pd.DataFrame(out).astype(tables.PREDICTIONS.columns)


@pytest.fixture(scope="session")
def pristine() -> City:
    return make_city(load(ROOT / "params.yaml"))


@pytest.fixture
def city(pristine: City) -> City:
    """A city to break."""
    return pristine.copy()


def report_of(city: City, name: str, root: Path) -> dict[str, Any]:
    """The report of the check ``name`` over a city written below ``root``."""
    from streetrecall.expectations.common.validate import validate

    city.write(root, name)
    inputs = {key: root / path for key, path in suite_of(name).INPUTS.items()}
    return validate(name, suite_of(name).batches(city.params, inputs), city.params.checks.listed_ids)


@pytest.fixture
def report(tmp_path: Path) -> Callable[[City, str], dict[str, Any]]:
    return lambda city, name: report_of(city, name, tmp_path)
