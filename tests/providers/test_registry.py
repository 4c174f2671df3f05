"""The list of providers, and what it takes to add one."""

from __future__ import annotations

from pathlib import Path

import pytest

from streetrecall import providers
from streetrecall.errors import UserError
from streetrecall.params import schema
from streetrecall.params.schema import Params
from streetrecall.providers.base import Provider
from streetrecall.stages import grid

ROOT = Path(__file__).parents[2]


def test_each_provider_has_its_section_of_params_and_all_that_stages_call() -> None:
    sections = {
        name
        for name, field in Params.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, schema.ProviderSection)
    }
    assert set(providers.PROVIDERS) == sections
    calls = [name for name, member in vars(Provider).items() if not name.startswith("_") and callable(member)]
    calls += [name for name, member in vars(Provider).items() if isinstance(member, classmethod)]
    assert {"open", "polygon", "streets", "photos", "coverage", "plan", "capture", "close"} == set(calls)
    for name in providers.PROVIDERS:
        found = providers.provider_class(name)
        assert all(callable(getattr(found, call)) for call in calls), name


def test_an_unknown_provider_lists_those_there_are(params: Params) -> None:
    with pytest.raises(
        UserError, match=r"no provider 'bing'; there are: simulated, archive, folder, panoramax, mapillary, google"
    ):
        providers.open_provider(params.model_copy(update={"provider": "bing"}))
    raw = params.model_dump() | {"provider": "bing"}
    with pytest.raises(UserError, match=r"'provider' is 'bing': there is no such provider; there are: simulated"):
        schema.parse(raw)


def test_a_new_provider_with_a_city_of_its_own(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class and a line are enough for a stage to use it."""
    monkeypatch.setitem(providers.PROVIDERS, "mine", f"{__name__}:Mine")
    mine = params.model_copy(update={"provider": "mine"})
    cities = ROOT / "data" / "cities"
    assert providers.polygon_path(mine, cities) == Mine.polygon(mine)
    named = mine.model_copy(update={"city": params.city.model_copy(update={"name": "stockholm"})})
    assert providers.polygon_path(named, cities) == cities / "stockholm.geojson"
    assert providers.polygon_path(params, cities) == cities / "stockholm-district.geojson"
    grid.run(mine, tmp_path / "none", tmp_path / "g.parquet", tmp_path / "g.png", tmp_path / "g.json")
    assert isinstance(providers.open_provider(mine), Mine)


class Mine:
    @classmethod
    def open(cls, params: Params) -> Mine:
        return cls()

    @classmethod
    def polygon(cls, params: Params) -> Path:
        return ROOT / "data" / "cities" / "stockholm-district.geojson"
