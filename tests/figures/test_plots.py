import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image
from small_city import SmallCity, build, use_exact_index

from streetrecall import cli, tables
from streetrecall.figures import plots
from streetrecall.figures.sheets import choose, draw
from streetrecall.params.schema import load
from streetrecall.review.summary import summary

ROOT = Path(__file__).parents[2]
CURVES = sorted(p.stem for stage in [yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]]
                for item in stage["plots"] for p in [Path(next(iter(item)))] if p.suffix == ".csv")  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> SmallCity:
    city = build(tmp_path_factory.mktemp("evaluated"), noise=(1.3, 1.8))
    with pytest.MonkeyPatch.context() as patch:
        use_exact_index(patch)
        city.evaluate(load(ROOT / "params.yaml"))
    return city


@pytest.fixture
def project(evaluated: SmallCity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results in a repository with the project's dvc.yaml and templates."""
    folder = tmp_path / "project"
    shutil.copytree(evaluated.folder, folder)
    subprocess.run(["git", "init", "-q", folder], check=True)
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for curve in (ROOT / "metrics/plots").glob("photos_by_*.csv"):  # the small city has no photos
        shutil.copy(curve, folder / "metrics/plots")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    return folder


@pytest.mark.slow
def test_one_page_holds_every_plot_and_loads_nothing(project, capsys):
    assert cli.main(["plots"]) == 0
    assert capsys.readouterr().out.strip() == (project / "dvc_plots/index.html").as_uri()
    page = (project / "dvc_plots/index.html").read_text()
    for name in CURVES:
        assert (project / f"dvc_plots/{name}.svg").read_text().startswith("<svg")
        with Image.open(project / f"dvc_plots/{name}.png") as picture:
            assert picture.width > 400
    assert page.count("<svg ") == len(CURVES)
    assert page.count("<img ") == 3  # the map, the wrong and the right ones
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|url\(([^)]+)\)|@import""", page)
    assert loaded
    assert all((a or b).lstrip("'\"").startswith(("data:", "#")) for a, b in loaded)
    assert "<script" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


@pytest.mark.slow
def test_curves_without_rows_are_left_out_of_the_page(project, evaluated):
    """A collection without photos, such as the archive, has empty curves of photos."""
    empty = list((evaluated.folder / "metrics/plots").glob("photos_by_*.csv"))
    assert len(empty) == 3
    for path in empty:
        assert len(path.read_text().splitlines()) == 1
        shutil.copy(path, project / "metrics/plots")
    assert cli.main(["plots"]) == 0
    assert (project / "dvc_plots/index.html").read_text().count("<svg ") == len(CURVES) - 3


@pytest.mark.slow
def test_each_plot_is_shown_once_with_title_and_labels(project):
    shown = plots._filled_plots(str(project / "scratch"))
    curves = [name for name in shown if name.endswith(".csv")]
    assert sorted(Path(name).stem for name in curves) == CURVES
    for name in curves:
        (variant,) = shown[name]
        text = variant["content"] if isinstance(variant["content"], str) else json.dumps(variant["content"])
        assert "<DVC_METRIC" not in text, name
        assert json.loads(text)["title"], name


@pytest.mark.slow
def test_a_speed_of_training_is_drawn_where_there_is_one(project, caplog):
    with caplog.at_level("INFO"):
        plots.draw(project, Path("without"))
    assert "metrics/plots/train_speed.csv: left out, because its stage has not run in this folder" in caplog.text
    (project / "metrics/plots/train_speed.csv").write_text("phase,epoch,images_per_second,waiting\n1,1,99.5,0.01\n")
    caplog.clear()
    with caplog.at_level("INFO"):
        drawn = plots.draw(project, Path("with"))
    assert project / "with/train_speed.svg" in drawn
    text = (project / "with/train_speed.svg").read_text()
    assert re.findall(r">(images per second|waiting|learning rate)<", text) == ["images per second", "waiting"]
    assert "train_speed" not in caplog.text


def test_without_pictures_the_sheets_are_left_out(evaluated, tmp_path, caplog):
    (tmp_path / "crops").mkdir()
    shutil.copy(evaluated.crops / "images.parquet", tmp_path / "crops")
    with caplog.at_level("INFO"):
        assert plots.contact_sheets(tmp_path, evaluated.folder / "data/results", tmp_path / "crops", 3) == []
    assert "all.tar: the shard is missing" in caplog.text


def test_a_sheet_frames_right_and_wrong_answers(evaluated):
    results = evaluated.folder / "data/results"
    predictions = tables.read(tables.PREDICTIONS, results / "queries.parquet")
    neighbours = tables.read(tables.NEIGHBOURS, results / "neighbours.parquet")
    model = predictions.query("system == 'model' and scope == 'test' and protocol == 'newest_vs_older'")
    neighbours = neighbours.query("scope == 'test' and protocol == 'newest_vs_older'")
    images = tables.read(tables.IMAGES, evaluated.crops / "images.parquet")
    for right in (True, False):
        queries = choose(model, right, 2)
        assert len(queries) == 2
        assert ((queries["error_m"] <= 25) == right).all()
        sheet = draw("x", "Title", queries, neighbours, images, evaluated.crops).image
        assert sheet.getpixel((12 + 212 + 1, 62 + 1)) == ((26, 127, 196) if right else (200, 55, 74))


def test_the_summary_says_what_the_metrics_say(evaluated, capsys, monkeypatch):
    monkeypatch.chdir(evaluated.folder)
    shutil.copy(ROOT / "params.yaml", evaluated.folder)
    assert cli.main(["summary"]) == 0
    printed = capsys.readouterr().out
    measured = json.loads((evaluated.folder / "metrics/evaluate.json").read_text())
    line = next(x for x in printed.splitlines() if x.startswith("R@1, test, newest against older"))
    for system in evaluated.systems:
        assert f"{100 * measured[system]['test']['newest_vs_older']['recall_at_1_25m']:.1f} (" in line
    assert "32 queries of 8 places, 96 in the gallery" in line
    assert summary(measured, Path("metrics/plots")) == printed.rstrip("\n")


def test_the_summary_before_any_evaluation_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["summary"]) == 2
    assert "dvc repro evaluate" in capsys.readouterr().err
