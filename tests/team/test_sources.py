"""A collection on this machine as a dependency of the pipeline: what changes in it runs the stages again, and no more.

The project has this project's own data/sources and params.yaml, and two stages that stand for grid and scrape.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from smallproject import ROOT, Project
from tinyarchive import FOLDERS, TinyArchive, picture

from streetrecall.providers.archive import IMAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "0_0_0_March 2023_2024-01-06 19:02:10.773088.jpg"
PIPELINE = """
stages:
  grid:
    cmd: echo grid >> ran.log && cp data/sources/${provider}.json data/grid.txt
    deps:
      - data/sources/${provider}.json
    params: [provider, "${provider}"]
    outs: [data/grid.txt]
  scrape:
    cmd: echo scrape >> ran.log && cp data/grid.txt data/scrape.txt
    deps: [data/grid.txt]
    params: [train.seed]
    outs: [data/scrape.txt]
"""


@pytest.fixture
def mine(tmp_path: Path, team_env: dict[str, str]) -> Project:
    """A clone with the default provider, and `dvc repro` done."""
    project = Project(tmp_path / "project", team_env | {"STREETRECALL_STORE": str(tmp_path / "store")})
    (project.root / "data/archive").mkdir(parents=True)
    project.git("init", "-q")
    project.dvc("init", "-q")
    shutil.copytree(ROOT / "data/sources", project.root / "data/sources", ignore=shutil.ignore_patterns("archive.json"))
    for name in ("params.yaml", "data/.gitignore", "data/archive/README.md", ".dvcignore"):
        shutil.copyfile(ROOT / name, project.root / name)
    (project.root / ".gitignore").write_text("ran.log\n", encoding="utf-8")
    (project.root / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    project.dvc("repro", "-q")
    project.commit("Run the pipeline")
    assert ran(project) == ["grid", "scrape"]
    return project


@pytest.fixture
def tiny(tmp_path: Path) -> TinyArchive:
    """A collection whose pictures are behind links to folders."""
    tiny = TinyArchive(tmp_path / "archive")
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / NAME).write_bytes(picture(1))
    (disk / NAME.replace("0_0_0", "0_1_0")).write_bytes(picture(2))
    (tiny.root / IMAGES / FOLDERS[0]).mkdir()
    (tiny.root / IMAGES / FOLDERS[0] / "000").symlink_to(disk)
    return tiny


def ran(project: Project) -> list[str]:
    """The stages that ran since the last call."""
    stages = project.ran()
    (project.root / "ran.log").unlink(missing_ok=True)
    return stages


def test_the_default_provider_is_not_touched(mine: Project) -> None:
    said = mine.dvc("repro").stdout
    assert "Data and pipelines are up to date." in said
    assert "fingerprint" not in said
    assert "up to date" in mine.dvc("repro", "--dry").stdout
    assert "up to date" in mine.dvc("status", "dvc.yaml").stdout
    assert "fingerprint" not in mine.dvc("push", "-r", "nowhere", ok=False).stdout
    mine.run("streetrecall", "stale")
    mine.dvc("repro", "-q", "--all-pipelines")
    assert "up to date" in mine.dvc("repro").stdout
    assert ran(mine) == []
    assert mine.git("status", "--porcelain") == "?? data/sources/dvc.lock"
    mine.run("streetrecall", "stale")


def test_what_changes_in_a_collection_runs_the_stages(mine: Project, tiny: TinyArchive, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    mine.set(provider="archive", archive__path=str(tiny.root))
    mine.dvc("repro")
    assert ran(mine) == ["grid", "scrape"]

    def runs(what: str) -> list[str]:
        said = mine.dvc("repro").stdout
        assert "Running stage 'data/sources/dvc.yaml:fingerprint@archive'" in said, what
        return ran(mine)

    assert runs("nothing changed") == []
    (disk / ".DS_Store").write_text("x")
    (disk / "@eaDir").mkdir()
    assert runs("a file manager looked at it") == []
    status = (disk / NAME).stat()
    (disk / NAME).write_bytes(picture(3)[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(disk / NAME, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert runs("a picture behind a link was replaced") == ["grid", "scrape"]
    (disk / NAME.replace("0_0_0", "0_1_0")).unlink()
    assert runs("a picture behind a link was removed") == ["grid", "scrape"]
    os.mkfifo(disk / "pipe.jpg")
    (disk / os.fsdecode(b"\xe9.jpg")).touch()
    (disk / "a.jpg").symlink_to("nowhere")
    (disk / "up").symlink_to(tiny.root)
    assert runs("what DVC cannot hash was added") == ["grid", "scrape"]
    assert runs("nothing changed") == []

    mine.commit("Use a collection")
    assert mine.git("show", "--stat", "--format=").find("archive.json") == -1
    mine.run("streetrecall", "stale")
    clone = mine.clone(tmp_path / "clone")
    clone.run("streetrecall", "stale")
    clone.set(train__seed=8)
    done = clone.run("streetrecall", "stale", ok=False)
    assert done.stderr.splitlines() == [
        "stage 'scrape': parameter train.seed is modified since it last ran: run `dvc repro`"
    ]


def test_experiments_with_a_collection(mine: Project, tiny: TinyArchive, tmp_path: Path) -> None:
    change = ["-S", "provider=archive", "-S", f"archive.path={tiny.root}"]
    mine.dvc("exp", "run", "--temp", "-n", "aside", *change)
    assert mine.git("status", "--porcelain") == ""
    assert ran(mine) == []
    mine.dvc("exp", "run", "-n", "here", *change)
    assert ran(mine) == [], "the copy has run the stages already"
    assert '"files": 8' in (mine.root / "data/scrape.txt").read_text(encoding="utf-8")
    mine.dvc("exp", "run", "-n", "again")
    assert ran(mine) == []
    mine.git("checkout", "-q", ".")
    mine.git("clean", "-fdq")
    mine.dvc("checkout", "-q")
    assert "up to date" in mine.dvc("repro").stdout
    mine.dvc("exp", "apply", "aside")
    assert '"files": 8' in (mine.root / "data/scrape.txt").read_text(encoding="utf-8")
    mine.run("streetrecall", "stale")
    mine.dvc("repro")
    assert ran(mine) == []


def test_a_queue_of_experiments_with_a_collection(mine: Project, tiny: TinyArchive) -> None:
    mine.set(provider="archive", archive__path=str(tiny.root))
    mine.dvc("repro", "-q")
    mine.commit("Use a collection")
    ran(mine)
    mine.dvc("exp", "run", "--queue", "-S", "train.seed=5")
    mine.run("streetrecall", "sweep", "train.seed=6,7", "--jobs", "1")
    names = mine.dvc("exp", "list", "--name-only").stdout.split()
    assert len(names) == 3
    assert mine.git("status", "--porcelain") == ""

    (tiny.root.parent / "linked").symlink_to(tiny.root)
    for path in ("../linked", "data/archive/collection"):
        (mine.root / "data/archive/collection").unlink(missing_ok=True)
        (mine.root / "data/archive/collection").symlink_to(tiny.root)
        done = mine.run("streetrecall", "sweep", "train.seed=8", f"archive.path={path}", ok=False)
        assert done.returncode == 2
        assert f"archive.path: {path}: experiments run in copies" in done.stderr
        assert "absolute path" in done.stderr
    mine.set(archive__path="data/archive/collection")
    mine.dvc("repro", "-q")
    assert ran(mine) == ["grid"], "the path is a parameter of grid; its output is the same"


def test_dvc_does_not_look_into_a_collection_in_the_project(mine: Project, tiny: TinyArchive) -> None:
    inside = mine.root / "data/archive/collection"
    tiny.root.rename(inside)
    os.mkfifo(inside / "dvc.yaml")
    (inside / os.fsdecode(b"caf\xe9")).mkdir()
    (inside / os.fsdecode(b"caf\xe9") / "dvc.yaml").write_text("not a pipeline")
    mine.set(provider="archive", archive__path="data/archive/collection")
    mine.dvc("repro")
    assert ran(mine) == ["grid", "scrape"]
    mine.dvc("status")
    mine.run("streetrecall", "stale")
