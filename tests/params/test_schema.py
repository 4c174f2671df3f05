"""params.yaml: every key is commented, and every mistake is named with its place and its cure."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from streetrecall.errors import UserError
from streetrecall.params import schema as params

FILE = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def test_the_projects_own_file_is_valid() -> None:
    loaded = params.load(FILE)
    assert loaded.provider == "simulated"
    assert [level.radius_m for level in loaded.order.levels] == [100, 75, 60, 50, 45, 35]


def test_every_key_of_the_file_is_explained_in_a_comment() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    silent = []
    for number, line in enumerate(lines):
        key, _, rest = line.partition(":")
        is_value = bool(key.strip()) and not line.lstrip().startswith(("#", "-")) and rest.strip() != ""
        said_before = number > 0 and lines[number - 1].lstrip().startswith("#")
        if is_value and "#" not in rest and not said_before:
            silent.append(f"{number + 1}: {line.strip()}")
    assert not silent, "keys without a comment beside or above them: " + "; ".join(silent)


@pytest.mark.parametrize(
    ("path", "typo", "nearest"),
    [
        (["grid"], "spacingm", "grid.spacing_m"),
        (["crop"], "boxes", "crop.box"),
        ([], "trian", "train"),
        (["order"], "level", "order.levels"),
    ],
)
def test_an_unknown_key_names_file_key_and_the_nearest_valid_one(
    raw: dict[str, Any], path: list[str], typo: str, nearest: str
) -> None:
    section = raw
    for part in path:
        section = section[part]
    section[typo] = 1
    with pytest.raises(UserError) as error:
        params.parse(raw, "some/params.yaml")
    dotted = ".".join([*path, typo])
    assert f"some/params.yaml: unknown key '{dotted}'; the nearest valid key is '{nearest}'" in str(error.value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("grid", "spacing_m", "ten"),
        ("grid", "spacing_m", -1.0),
        ("grid", "spacing_m", float("nan")),
        ("grid", "decimals", 6.5),
        ("city", "crs", "3006"),
        ("crop", "quality", 101),
        ("google", "accept_terms", "yes"),
    ],
)
def test_a_wrong_type_or_bad_value_names_the_key_and_shows_the_value(
    raw: dict[str, Any], section: str, key: str, value: object
) -> None:
    raw[section][key] = value
    with pytest.raises(UserError) as error:
        params.parse(raw)
    assert f"'{section}.{key}' is {value!r}" in str(error.value)


def test_all_mistakes_are_reported_at_once(raw: dict[str, Any]) -> None:
    raw["grid"]["spacing_m"] = 0
    del raw["city"]
    raw["provider"] = "bing"
    with pytest.raises(UserError) as error:
        params.parse(raw)
    message = str(error.value)
    assert "'grid.spacing_m'" in message
    assert "the key 'city' is missing" in message
    assert "'provider' is 'bing'" in message


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run from the project's folder"):
        params.load(tmp_path / "params.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("grid: [1,\n")
    with pytest.raises(UserError, match="not valid YAML"):
        params.load(broken)
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    with pytest.raises(UserError, match="holds no keys"):
        params.load(empty)


def test_lda_takes_as_many_components_as_a_descriptor_has_dimensions(raw: dict[str, Any]) -> None:
    raw["train"]["head"]["components"] = raw["train"]["head"]["dimensions"] - 1
    with pytest.raises(UserError, match=r"'train': head\.components is 1023, and lda needs at least as many .* 1024"):
        params.parse(raw)
    original = copy.deepcopy(raw)
    original["train"]["recipe"] = "original"  # whose head starts at random
    assert params.parse(original).train.head.components == 1023
    for phase in raw["train"]["phases"]:
        phase["start"] = "pca"
    assert params.parse(raw).train.head.components == 1023


def test_what_no_branch_would_heed_is_refused(raw: dict[str, Any]) -> None:
    raw["train"]["head"]["normalise"] = "before"
    with pytest.raises(UserError, match=r"'train\.head': normalise is 'before', which is for gem and average"):
        params.parse(raw)
    raw["train"]["head"]["branches"].append({"pool": "gem", "map": "last", "p": 3.0, "weight": 1.0})
    assert params.parse(raw).train.head.normalise == "before"
