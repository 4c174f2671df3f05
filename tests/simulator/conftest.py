"""The default city and its service, shared by the tests of this folder: the renderer is compiled or loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streetrecall.params.schema import Params, load
from streetrecall.simulator.city.plan import City, open_city
from streetrecall.simulator.service.server import running

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def city_params() -> Params:
    return load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def city(city_params: Params) -> City:
    """The default city."""
    return open_city(city_params, ROOT)


@pytest.fixture(scope="session")
def base(city_params: Params) -> Iterator[str]:
    """Base URL of the service over the default city, without a plan of faults."""
    with running(city_params, root=ROOT) as url:
        yield url


@pytest.fixture(scope="session")
def pano(city: City) -> str:
    """A panorama with many dates, near the middle, whose picture is its own."""
    ids = max(city.spot_panos, key=lambda ids: (len(ids), ids[0]))
    return next(city.panos[i].pano_id for i in ids if not city.panos[i].dark and not city.panos[i].shown)
