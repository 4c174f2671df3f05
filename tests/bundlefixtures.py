"""Fixtures of the rooms that answer from a bundle."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tinybundle import tiny_params, town_views, write_tiny
from tinytown import Town, make_town

from streetrecall import tables
from streetrecall.params.schema import load
from streetrecall.pictures.shards import ShardReader

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"), size=128)


@pytest.fixture(scope="session")
def tiny_bundle(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny town that withholds nothing."""
    params = tiny_params(load(ROOT / "params.yaml"))
    return write_tiny(tmp_path_factory.mktemp("bundle") / "bundle", town_views(town.views), town.views, params)


@pytest.fixture(scope="session")
def photos(town: Town) -> pd.DataFrame:
    """The town's photos, with their bytes in the column ``jpeg`` and the place that they show in ``spot``."""
    table = tables.read(tables.PHOTOS, town.photos / "photos.parquet")
    with ShardReader(town.photos) as reader:
        where = zip(table["shard"], table["offset"].tolist(), table["size"].tolist(), strict=True)
        return table.assign(jpeg=[reader.read(*at) for at in where])
