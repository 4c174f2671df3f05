"""Advice can be followed: each command exists and takes its options, each stage and key of params.yaml exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from dvc.cli.parser import get_main_parser

from streetrecall.cli import build_parser
from streetrecall.commands import COMMANDS
from streetrecall.expectations.common import NAMES, suite_of
from streetrecall.params.schema import valid_keys

from .conftest import ROOT, City

KEYS = set(valid_keys())


def advice(city: City, name: str, root: Path) -> set[str]:
    """The remedies of the suite ``name``."""
    city.write(root, name)
    inputs = {key: root / path for key, path in suite_of(name).INPUTS.items()}
    return {e.meta["remedy"] for batch in suite_of(name).batches(city.params, inputs) for e in batch.suite}


def problem(text: str) -> str:
    """What is wrong with the commands and keys of an advice; empty if nothing is."""
    outside = re.sub(r"`[^`]*`", "", text)
    if re.search(r"streetrecall |dvc |make |[a-z]\.[a-z_]+\.[a-z_]+", outside):
        return "a command or key outside backticks"
    for quoted in re.findall(r"`([^`]*)`", text):
        words = shlex.split(quoted)
        try:
            if words[0] == "streetrecall":
                build_parser(words[1]).parse_args(words[1:])
            elif words[0] == "dvc":
                targets = get_main_parser().parse_args(words[1:]).targets
                stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
                if not set(targets) <= set(stages):
                    return f"{quoted}: not a stage"
            elif quoted not in KEYS:
                return f"{quoted}: neither a command nor a key of params.yaml"
        except SystemExit:
            return f"{quoted}: refused by the parser"
        except Exception as error:  # DVC's parser raises its own
            return f"{quoted}: {error!r}"
    return ""


@pytest.mark.parametrize("name", NAMES)
def test_all_advice_can_be_followed(name: str, city: City, tmp_path: Path) -> None:
    found = advice(city, name, tmp_path)
    assert found
    assert {text: problem(text) for text in found if problem(text)} == {}


def test_the_test_finds_advice_that_cannot_be_followed() -> None:
    assert "refused" in problem("run `streetrecall scrape --retry-failed`")
    assert "not a stage" in problem("run `dvc checkout data/captures`")
    assert "neither" in problem("lower `train.learning_rate`")
    assert "outside" in problem("run dvc repro scrape")
    assert "order" in COMMANDS and problem("run `dvc repro --force order`; see `order.levels`") == ""
