"""`streetrecall set` takes the keys that DVC takes, and changes nothing but what was asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from streetrecall.cli import main
from streetrecall.errors import UserError
from streetrecall.params.edit import override, parse_changes
from streetrecall.params.schema import load

FILE = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    shutil.copy(FILE, tmp_path)
    return tmp_path / "params.yaml"


def changed_lines(path: Path) -> list[str]:
    """Lines that differ from the project's own file, which has as many."""
    old, new = FILE.read_text(encoding="utf-8").splitlines(), path.read_text(encoding="utf-8").splitlines()
    assert len(old) == len(new)
    return [b for a, b in zip(old, new, strict=True) if a != b]


def at(document: Any, key: str) -> Any:
    for part in key.split("."):
        document = document[int(part)] if part.isdigit() else document[part]
    return document


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.phases.0.learning_rate", 0.5),
        ("train.phases.1.epochs", 9),
        ("train.head.branches.0.clusters", 32),
        ("order.start.1", 18.5),
        ("checks.captures.frames.0.1", 700),
        ("crop.box", [1, 2, 3, 4]),
        ("scrape.headings_deg", [0.0, 180.0]),
        ("crop.quarantine.reasons", []),
        ("crop.quarantine.reasons", ["blank"]),
    ],
)
def test_keys_of_lists_and_whole_lists_are_what_dvc_takes(key: str, value: Any, path: Path) -> None:
    text = str(value).replace("'", "")
    override(path, parse_changes([f"{key}={text}"]))
    assert at(yaml.safe_load(path.read_text(encoding="utf-8")), key) == value
    assert len(changed_lines(path)) == 1, "comments, style and every other line are as they were"
    other = path.with_name("by_dvc.yaml")
    shutil.copy(FILE, other)
    apply_overrides(other, [f"{key}={text}"])
    assert load(other) == load(path)


def test_an_index_may_stand_in_brackets(path: Path) -> None:
    assert main(["set", "--params", str(path), "train.phases[1].patience=4"]) == 0
    assert load(path).train.phases[1].patience == 4


def test_a_section_as_a_whole_keeps_its_comments(path: Path) -> None:
    assert main(["set", "--params", str(path), "city={name: small, crs: 'EPSG:32633'}"]) == 0
    assert [line.split("#")[0].strip() for line in changed_lines(path)] == ["name: small", "crs: EPSG:32633"]


def test_a_guard_is_named_by_its_metric(path: Path) -> None:
    override(path, {"guard.evaluate.model.test.city.recall_at_1_25m": 0.05})
    assert load(path).guard["evaluate.model.test.city.recall_at_1_25m"] == 0.05
    assert len(changed_lines(path)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.phases.2.epochs=1", "'train.phases' is a list of 2: its elements are numbered from 0, not '2'"),
        ("train.phases.first.epochs=1", "'train.phases' is a list of 2"),
        ("train.phases.-1.epochs=1", "'train.phases' is a list of 2"),
        ("crop.box.4=1", "'crop.box' is a list of 4"),
        ("train.seed.x=1", "'train.seed' is 1, which holds no key 'x'"),
        ("crop.box=[1,2,3]", "'crop.box' is [1, 2, 3]: list should have at least 4 items"),
        ("order.levels=[]", "params.yaml: 'order.levels' is []: list should have at least 1 item"),
        ("crop.box=[1,2", "not valid YAML"),
        ("train.sede=1", "unknown key 'train.sede'; the nearest valid key is 'train.seed'"),
        (
            "train.phases.0.epoch=1",
            "unknown key 'train.phases.0.epoch'; the nearest valid key is 'train.phases.0.epochs'",
        ),
        ("=1", "'=1' is not KEY=VALUE"),
    ],
)
def test_a_bad_change_is_refused_and_the_file_stays(change: str, words: str, path: Path) -> None:
    with pytest.raises(UserError) as error:
        override(path, parse_changes([change]))
    assert words in str(error.value)
    assert changed_lines(path) == []


PHASE = "{start: pca, trains_after: block4c_add, epochs: 6, steps: 0, learning_rate: 0.0003, patience: 3}"
NETWORK = "{name: a, file: a.onnx, size: 224, mean: [0.4, 0.4, 0.4], deviation: [0.2, 0.2, 0.2]}"
LEVELS = [f"{{radius_m: {100 - n}, split: {s}, apart_m: 0.0}}" for n, s in enumerate(("train", "test", "validation"))]


@pytest.mark.parametrize(
    "changes",
    [
        ["train.phases=[]", "train.start_from=models/a"],
        ["train.phases=[]", "train.views.phases=[]", "train.start_from=models/a"],
        [f"train.phases=[{PHASE}]"],
        [f"train.phases=[{PHASE}, {PHASE}, {PHASE}]"],
        [f"order.levels=[{', '.join(LEVELS)}]"],
        [f"order.levels=[{', '.join(LEVELS + LEVELS[2:] * 6)}]"],
        [f"baseline.networks=[{NETWORK}]"],
        [f"baseline.networks=[{NETWORK}]", "crop.quarantine.reasons=[]"],
    ],
)
def test_a_list_that_grows_or_shrinks_keeps_all_comments(changes: list[str], path: Path) -> None:
    def comments(text: str) -> list[str]:
        return [line[line.index("#") :] for line in text.splitlines() if "#" in line]

    def before_keys(text: str) -> list[str]:
        """The lines that are comments or keys, so that a comment stays before the key that it is about."""
        lines = [line.partition(":")[0].strip() for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith(("- ", "#  "))]

    old = FILE.read_text(encoding="utf-8")
    override(path, parse_changes(changes))
    new = path.read_text(encoding="utf-8")
    assert comments(new) == comments(old)
    assert before_keys(new) == before_keys(old)
    back = {key: at(yaml.safe_load(old), key) for key in parse_changes(changes)}
    override(path, back)
    assert comments(path.read_text(encoding="utf-8")) == comments(old)
    assert load(path) == load(FILE)


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"the key 'train\.phases\.0\.epochs' is given twice"):
        parse_changes(["train.phases.0.epochs=1", "train.phases[0].epochs=2"])
