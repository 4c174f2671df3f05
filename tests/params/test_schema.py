"""params.yaml: every key is commented, and a message names each mistake, its place and its cure."""

from __future__ import annotations

import copy
import json
import shutil
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from pydantic import BaseModel

from streetrecall.errors import UserError
from streetrecall.params import schema as params
from streetrecall.params.edit import override

FILE = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def test_the_projects_own_file_is_valid() -> None:
    loaded = params.load(FILE)
    assert loaded.provider == "simulated"
    assert [level.radius_m for level in loaded.order.levels] == [100, 75, 60, 50, 45, 35, 10, 5]


def test_values_pass_through_unchanged(raw: dict[str, Any]) -> None:
    """dvc.yaml tracks params.yaml by value, so a stage must see the value that the file holds."""
    assert json.dumps(params.load(FILE).model_dump(), sort_keys=True) == json.dumps(raw, sort_keys=True)


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """``model`` and every section within it."""

    def within(annotation: Any) -> set[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return sections(annotation)
        return {found for part in typing.get_args(annotation) for found in within(part)}

    return {model}.union(*(within(field.annotation) for field in model.model_fields.values()))


def test_no_key_has_a_default() -> None:
    found = sections(params.Params)
    assert {params.Params, params.Phase, params.GemBranch, params.Checks} <= found
    optional = [f"{m.__name__}.{n}" for m in found for n, field in m.model_fields.items() if not field.is_required()]
    assert optional == []


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


def test_a_mistake_within_a_list_is_named_by_its_key(raw: dict[str, Any]) -> None:
    raw["train"]["phases"][1]["epocs"] = 1
    raw["train"]["head"]["branches"][0]["clusters"] = -1
    with pytest.raises(UserError) as error:
        params.parse(raw)
    message = str(error.value)
    assert "unknown key 'train.phases.1.epocs'; the nearest valid key is 'train.phases.1.epochs'" in message
    assert "'train.head.branches.0.clusters' is -1" in message


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
    for phase in (*raw["train"]["phases"], *raw["train"]["views"]["phases"]):
        phase["start"] = "pca"
    assert params.parse(raw).train.head.components == 1023


def test_what_no_branch_would_heed_is_refused(raw: dict[str, Any]) -> None:
    raw["train"]["head"]["normalise"] = "before"
    with pytest.raises(UserError, match=r"'train\.head': normalise is 'before', which is for gem and average"):
        params.parse(raw)
    raw["train"]["head"]["branches"].append({"pool": "gem", "map": "last", "p": 3.0, "weight": 1.0})
    assert params.parse(raw).train.head.normalise == "before"


CRLF = FILE.read_bytes().replace(b"\n", b"\r\n")
UNREADABLE = {
    "a key twice": (
        b"provider: simulated\ncity: 1\nprovider: archive\n",
        "'provider' occurs twice, in line 1 and in line 3",
    ),
    "a nested key twice": (b"city:\n  name: a\n  name: b\n", "the key 'name' occurs twice, in line 2 and in line 3"),
    "a key twice on a line": (b"city: {name: a, name: b}\n", "the key 'name' occurs twice, in line 1 and in line 1"),
    "Latin-1": ("city:\n  name: \xe5re\n".encode("latin-1"), "line 2 is not encoded in UTF-8"),
    "UTF-16": ("provider: simulated\n".encode("utf-16"), "line 1 is not encoded in UTF-8"),
    "a tab": (b"city:\n\tname: a\n", "not valid YAML"),
    "two documents": (b"a: 1\n---\nb: 2\n", "not valid YAML"),
    "a control character": (b"city: \x01\n", "not valid YAML"),
    "a list": (b"- 1\n", "holds no keys"),
}


@pytest.mark.parametrize(("content", "words"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("command", ["load", "set"])
def test_load_and_set_refuse_the_same_files_in_the_same_words(
    content: bytes, words: str, command: str, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        params.load(path) if command == "load" else override(path, {"train.seed": 2})
    assert words in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert path.read_bytes() == content


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(a folder, not a file\)"):
        params.load(tmp_path)


@pytest.mark.parametrize("content", [CRLF, b"\xef\xbb\xbf" + FILE.read_bytes()], ids=["CRLF", "byte order mark"])
def test_files_of_other_editors_are_read_alike(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert params.load(path) == params.load(FILE)
    assert override(path, {"train.seed": 77})
    assert params.load(path).train.seed == 77
    old, new = FILE.read_text(encoding="utf-8").splitlines(), path.read_text(encoding="utf-8").splitlines()
    assert len(old) == len(new)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


def test_small_numbers_as_dvc_writes_them_are_numbers(tmp_path: Path) -> None:
    """`dvc exp run -S train.weight_decay=0.00001` writes 1e-05, which YAML 1.1 takes for a text."""
    path = tmp_path / "params.yaml"
    shutil.copy(FILE, path)
    apply_overrides(path, ["train.weight_decay=0.00001", "train.phases.0.learning_rate=0.00002"])
    assert "weight_decay: 1e-05" in path.read_text(encoding="utf-8")
    loaded = params.load(path).train
    assert (loaded.weight_decay, loaded.phases[0].learning_rate) == (1e-5, 2e-5)
