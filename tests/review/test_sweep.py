"""Sweeps: keys and values, order of the results, and files that the copies would lack."""

from __future__ import annotations

from pathlib import Path

import pytest
from smallproject import Project

from streetrecall import geo
from streetrecall.cli import main
from streetrecall.errors import UserError
from streetrecall.params.schema import load
from streetrecall.review import copies
from streetrecall.review.revisions import Results
from streetrecall.review.sweep import check_combinations, compare, expand

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("crop.box=[1,2,3,4]", {"crop.box": ["[1,2,3,4]"]}),
        ("crop.box=[1,2,3,4],[5,6,7,8]", {"crop.box": ["[1,2,3,4]", "[5,6,7,8]"]}),
        ("train.phases.0.learning_rate=0.1,1e-5", {"train.phases.0.learning_rate": ["0.1", "1e-05"]}),
        ("train.phases[0].epochs=3,6", {"train.phases.0.epochs": ["3", "6"]}),
        ("archive.path='/a,b',/c", {"archive.path": ["'/a,b'", "/c"]}),
        (
            "city={name:a,crs:'EPSG:1'},{name:b,crs:'EPSG:2'}",
            {"city": ["{name:a,crs:'EPSG:1'}", "{name:b,crs:'EPSG:2'}"]},
        ),
        ("train.seed=1, 2", {"train.seed": ["1", "2"]}),
        ("train.seed=range(1,4)", {"train.seed": ["1", "2", "3"]}),
    ],
)
def test_values_are_split_as_dvc_splits_them(given: str, values: dict[str, list[str]]) -> None:
    ((key, wanted),) = values.items()
    assert [combination[key] for combination in expand([given])] == wanted


@pytest.mark.parametrize(
    "given",
    [
        *("train.seed", "train.seed=", "=1", "train.seed=1,", "train.seed=,1", "crop.box=[1,2", "city.name='a"),
        *("~train.seed", "+train.new=1", "city.name=glob(*)", "train.seed=interval(0,1)"),
    ],
)
def test_what_is_no_list_of_values_is_refused(given: str) -> None:
    with pytest.raises(UserError, match=r"is not KEY=VALUE,VALUE"):
        expand([given])


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"the key 'train\.seed' is given twice"):
        expand(["train.seed=1", "train.seed=2"])


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (["train.phases.7.epochs=1"], "'train.phases' is a list of 2"),
        (["crop.box=[1,2,3]"], "'crop.box' is [1, 2, 3]"),
        (["train.phases.0.epoch=1,2"], "unknown key 'train.phases.0.epoch'"),
        (["google.accept_terms=yes,true"], "'google.accept_terms' is 'yes'"),
        (["train.seed=1,x"], "'train.seed' is 'x'"),
    ],
)
def test_bad_values_are_found_before_anything_is_queued(grid: list[str], words: str) -> None:
    with pytest.raises(UserError) as error:
        check_combinations(ROOT / "params.yaml", expand(grid))
    assert words in str(error.value)


def test_good_values_pass() -> None:
    grid = ["crop.box=[1,2,3,4],[0,0,9,9]", "train.phases.0.learning_rate=1e-5,0.1", "provider=archive,simulated"]
    combinations = expand(grid)
    assert len(combinations) == 8
    check_combinations(ROOT / "params.yaml", combinations)


def results(value: float | None, seed: int) -> Results:
    metrics = {} if value is None else {METRIC: value}
    return Results(metrics, {"train.seed": seed, "crop.box.0": seed, "crop.box.1": 5}, {})  # type: ignore[arg-type]


METRIC = "evaluate.model.validation.newest_vs_older.error_p90_m"


@pytest.mark.parametrize(
    ("metric", "order"),
    [
        (METRIC, ["a", "c", "b", "d"]),
        ("headline.model.test_aurc_margin", ["a", "c", "b", "d"]),
        ("evaluate.index.test.recall_at_1_25m_lost", ["a", "c", "b", "d"]),
        ("evaluate.model.validation.newest_vs_older.recall_at_1_25m", ["b", "c", "a", "d"]),
        ("headline.model.test_radius_coverage", ["b", "c", "a", "d"]),
        ("evaluate.model.test.city.queries", ["a", "b", "c", "d"]),
    ],
)
def test_the_best_comes_first(metric: str, order: list[str]) -> None:
    found = {"b": 30.0, "c": 20.0, "a": 10.0, "d": None}
    sides = {n: Results({} if v is None else {metric: v}, {"train.seed": 1}, {}) for n, v in found.items()}
    table = compare(Results({metric: 20.0}, {"train.seed": 0}, {}), sides, ["train.seed"], metric).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == ["(committed)", *order]


def test_lists_are_shown_with_their_values() -> None:
    table = compare(results(3.0, 1), {"x": results(2.0, 2)}, ["crop.box", "train.seed"], METRIC)
    assert "| x | 2, 5 | 2 | 2 |  | -1 |" in table


def test_a_sweep_over_lists_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ["crop.box=[1,2,3,4],[5,6,7,8]", "train.phases[0].learning_rate=1e-5"]
    metric = "evaluate.test.recall_at_1"
    done = project.run("streetrecall", "sweep", *grid, "--jobs", "1", "--metric", metric)
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line.split("|")[2:4] for line in table[2:]] == [[" 1, 2, 3, 4 ", " 1e-05 "], [" 5, 6, 7, 8 ", " 1e-05 "]]
    (name, *_) = [line.split("|")[1].strip() for line in table[2:]]
    project.dvc("exp", "apply", name)
    assert load(project.root / "params.yaml").train.phases[0].learning_rate == 1e-5


@pytest.fixture
def with_city(project: Project) -> Project:
    """The small project, whose first stage reads a folder of polygons that git tracks."""
    cities = project.root / "data/cities"
    cities.mkdir()
    (cities / "old.geojson").write_text("{}", encoding="utf-8")
    (project.root / "data/.gitignore").write_text("*\n!.gitignore\n!/cities/\n!/cities/*\n", encoding="utf-8")
    pipeline = project.root / "dvc.yaml"
    text = pipeline.read_text(encoding="utf-8").replace("deps: [stages.py]", "deps: [stages.py, data/cities]", 1)
    pipeline.write_text(text, encoding="utf-8")
    project.dvc("repro", "-q")
    project.commit("Read polygons")
    return project


def test_a_polygon_that_git_does_not_track_is_named_before_queueing(
    with_city: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = with_city.root
    monkeypatch.chdir(root)
    with_city.git("config", "user.name", "A Teammate")  # a machine may have none
    with_city.git("config", "user.email", "teammate@example.org")
    assert copies.lacking(root) == ([], [])
    (root / "data/cities/new.geojson").write_text("{}", encoding="utf-8")
    (root / "data/cities/.DS_Store").write_text("", encoding="utf-8")
    (root / ".dvcignore").write_text(".DS_Store\n", encoding="utf-8")
    assert main(["sweep", "train.seed=1,2"]) == 2
    said = capsys.readouterr().err
    assert "git does not track 1 of the files that the pipeline reads: data/cities/new.geojson." in said
    assert "`git add`" in said
    assert with_city.dvc("queue", "status").stdout.count("Queued") == 0
    with_city.git("add", "data/cities/new.geojson")
    assert copies.lacking(root) == ([], []), "what is staged is copied"


def test_a_network_is_read_only_if_params_name_it(with_city: Project) -> None:
    root = with_city.root
    folder = root / "data/networks"
    folder.mkdir()
    for name in ("used.onnx", "unused.onnx"):
        (folder / name).write_bytes(b"x")
    text = (root / "dvc.yaml").read_text(encoding="utf-8").replace("data/cities]", "data/cities, data/networks]")
    (root / "dvc.yaml").write_text(text, encoding="utf-8")
    assert copies.lacking(root) == ([], [])
    network = "networks=[{name: used, file: used.onnx, size: 32, mean: [0, 0, 0], deviation: [1, 1, 1]}]"
    assert main(["set", "--params", str(root / "params.yaml"), f"baseline.{network}"]) == 0
    assert copies.lacking(root) == (["data/networks/used.onnx"], [])
    with pytest.raises(UserError, match=r"`git add --force` for a network"):
        copies.require_tracked(root)


def test_a_file_that_git_ignores_and_one_that_is_outside_are_named(with_city: Project) -> None:
    root = with_city.root
    (root / "data/ignored.csv").write_text("1", encoding="utf-8")
    text = (root / "dvc.yaml").read_text(encoding="utf-8")
    (root / "dvc.yaml").write_text(text.replace("data/cities]", "data/cities, data/ignored.csv]"), encoding="utf-8")
    assert copies.lacking(root) == (["data/ignored.csv"], [])
    (root.parent / "pictures").mkdir()
    (root / "dvc.yaml").write_text(text.replace("data/cities]", "data/cities, ../pictures]"), encoding="utf-8")
    with pytest.raises(UserError, match=r"reads \.\./pictures, which is outside .* give the absolute path"):
        copies.require_tracked(root)
    absolute = text.replace("data/cities]", f"data/cities, {root.parent}/pictures]")
    (root / "dvc.yaml").write_text(absolute, encoding="utf-8")
    assert copies.lacking(root) == ([], [])


def test_a_copy_without_the_polygon_names_git(tmp_path: Path) -> None:
    """The message within `dvc exp run --temp`, which no command of this project can check before."""
    with pytest.raises(UserError, match=r"run `git add` for it: experiments in copies of this folder"):
        geo.city_polygon(tmp_path, "new")
