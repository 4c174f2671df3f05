"""Runs the stages from grid to views, with their checks, in a folder of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from streetrecall import tables
from streetrecall.params.schema import Params
from streetrecall.stages import check, crop, grid, metadata, order, scrape, views

ROOT = Path(__file__).parents[1]


class Collection:
    """What the stages wrote below ``folder``; ``failed``: the checks that did not pass."""

    def __init__(self, folder: Path) -> None:
        self.data, self.metrics = folder / "data", folder / "metrics"
        self.failed: list[str] = []

    @property
    def captures(self) -> pd.DataFrame:
        return tables.read(tables.CAPTURES, self.data / "captures/captures.parquet")

    @property
    def images(self) -> pd.DataFrame:
        return tables.read(tables.IMAGES, self.data / "crops/images.parquet")

    @property
    def locations(self) -> pd.DataFrame:
        return tables.read(tables.LOCATIONS, self.data / "locations.parquet")

    @property
    def panoramas(self) -> pd.DataFrame:
        return tables.read(tables.PANORAMAS, self.data / "panoramas.parquet")

    @property
    def views(self) -> pd.DataFrame:
        return tables.read(tables.VIEWS, self.data / "views/views.parquet")


def collect(params: Params, folder: Path, checked: bool = True, cities: Path = ROOT / "data/cities") -> Collection:
    made = Collection(folder)
    data, metrics = made.data, made.metrics

    def checks(*names: str) -> None:
        for name in names if checked else ():
            inputs = {k: folder / p for k, p in check.inputs_of(name, []).items()}
            if check.run(params, name, inputs, metrics / f"check_{name}.json", data / f"checks/{name}.ok"):
                made.failed.append(name)

    data.mkdir(parents=True, exist_ok=True)
    if not (data / "cities").exists():
        shutil.copytree(cities, data / "cities")
    grid.run(params, data / "cities", data / "grid.parquet", metrics / "grid.png", metrics / "grid.json")
    checks("grid")
    metadata.run(
        params, data / "grid.parquet", data / "panoramas.parquet", data / "no_coverage.parquet", metrics / "m.json"
    )
    checks("panoramas")
    order.run(params, data / "panoramas.parquet", data / "locations.parquet", metrics / "order.json")
    checks("locations")
    scrape.run(params, data / "locations.parquet", data / "captures", metrics / "scrape.json")
    checks("captures")
    crop.run(params, data / "captures", data / "locations.parquet", data / "crops", metrics / "crop.json")
    checks("crops")
    views.run(params, data / "captures", data / "locations.parquet", data / "views", metrics / "views.json")
    checks("views")
    return made
