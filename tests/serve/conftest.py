from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from servedcity import Served, make_project, serving
from tinybundle import tiny_params, town_views, write_tiny
from tinytown import Town, make_town

from streetrecall import tables
from streetrecall.params.schema import load
from streetrecall.pictures.shards import ShardReader

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def served_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("served") / "project")


@pytest.fixture(scope="session")
def served_town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"), size=128)


@pytest.fixture(scope="session")
def served_bundle(served_town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny town that withholds nothing."""
    params = tiny_params(load(ROOT / "params.yaml"))
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    return write_tiny(folder, town_views(served_town.views), served_town.views, params)


@pytest.fixture(scope="session")
def town_photos(served_town: Town) -> pd.DataFrame:
    """The town's photos, with their bytes in the column ``jpeg`` and the place that they show in ``spot``."""
    table = tables.read(tables.PHOTOS, served_town.photos / "photos.parquet")
    with ShardReader(served_town.photos) as reader:
        where = zip(table["shard"], table["offset"].tolist(), table["size"].tolist(), strict=True)
        return table.assign(jpeg=[reader.read(*at) for at in where])


@pytest.fixture(scope="session")
def served(served_project: Path, served_bundle: Path) -> Iterator[Served]:
    with serving("--project", str(served_project), "--bundle", str(served_bundle)) as running:
        yield running
