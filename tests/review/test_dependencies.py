"""Every module that a stage's command reaches is among the stage's dependencies in dvc.yaml, and none else."""

from __future__ import annotations

from pathlib import Path

import pytest

from streetrecall.cli import main
from streetrecall.imports import PACKAGE, closure, file_of
from streetrecall.review import dependencies

TEXT = (Path(__file__).parents[2] / "dvc.yaml").read_text(encoding="utf-8")
STAGES = dependencies.stages(TEXT)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_depends_on_the_code_that_it_reaches(name: str) -> None:
    assert dependencies.findings(name, STAGES[name]) == []


def test_the_lists_are_those_that_the_command_writes() -> None:
    assert dependencies.rewritten(TEXT) == TEXT


def test_a_list_that_was_changed_by_hand_is_found_and_mended() -> None:
    without = TEXT.replace("src/streetrecall/stages/order.py, ", "")
    assert without != TEXT
    (found,) = dependencies.findings("order", dependencies.stages(without)["order"])
    assert "does not depend on src/streetrecall/stages/order.py" in found
    assert dependencies.rewritten(without) == TEXT
    too_many = TEXT.replace("src/streetrecall/stages/order.py, ", "src/streetrecall/stages/order.py, src/none.py, ")
    (found,) = dependencies.findings("order", dependencies.stages(too_many)["order"])
    assert "does not reach src/none.py" in found


def test_an_edit_of_the_code_of_crop_does_not_train_again() -> None:
    assert PACKAGE / "pictures/cropping.py" in dependencies.reached_by(STAGES["crop"]["cmd"])
    for name in ("train", "index", "evaluate"):
        assert not [d for d in STAGES[name]["deps"] if "cropping" in d or d == "src/streetrecall/pictures"]


def test_neutral_modules_import_nothing_that_decides_a_result() -> None:
    neutral = {file_of(name) for name in (*dependencies.NEUTRAL, "streetrecall.months")}
    for module in dependencies.NEUTRAL.keys() - {"streetrecall", "streetrecall.cli"}:
        reached = {path for path in closure(module, ends=["streetrecall"]) if path.name != "__init__.py"}
        assert reached <= neutral, module


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        (b"stages: caf\xe9\n", "line 1 is not encoded in UTF-8"),
        (b"stages: [", "not valid YAML"),
        (b"", "holds no stages"),
        (b"[]", "holds no stages"),
        (b"stages: [a]", "holds no stages"),
        (b"stages: {a: 1}", "stage a: its cmd is no command of streetrecall"),
        (b"stages: {a: {cmd: ls -l}}", "stage a: its cmd is no command of streetrecall"),
        (b"stages: {a: {cmd: streetrecall check, deps: []}}", "stage a: its cmd is no command of streetrecall"),
        (b"stages: {a: {cmd: streetrecall check nothing, deps: []}}", "stage a: its cmd is no command of streetrecall"),
        (b"stages: {a: {cmd: streetrecall grid}}", "stage a: its deps are no list of paths"),
        (b"stages: {a: {cmd: streetrecall grid, deps: [{a: 1}]}}", "stage a: its deps are no list of paths"),
        (b"stages: {a: {cmd: streetrecall grid, deps: []}}", "its deps are not written as this command writes them"),
    ],
)
def test_a_broken_pipeline_is_one_message(
    content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("dvc.yaml").write_bytes(content)
    assert main(["dependencies", "--write"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("streetrecall dependencies: dvc.yaml: ")
    assert words in said
