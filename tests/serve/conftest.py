from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bundlefixtures import photos, tiny_bundle, town
from servedcity import Served, make_project, serving

__all__ = ["photos", "tiny_bundle", "town"]


@pytest.fixture(scope="session")
def served_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("served") / "project")


@pytest.fixture(scope="session")
def served(served_project: Path, tiny_bundle: Path) -> Iterator[Served]:
    with serving("--project", str(served_project), "--bundle", str(tiny_bundle)) as running:
        yield running
