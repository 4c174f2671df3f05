"""The fingerprint of a collection: the same for the same paths and contents, another one for any other."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tinyarchive import FOLDERS, TinyArchive, of_archive, picture

from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers import PROVIDERS, folders, is_local, open_local
from streetrecall.providers.archive import IMAGES, LEVELS
from streetrecall.stages import fingerprint

ROOT = Path(__file__).parents[2]
NAME = "0_0_0_March 2023_2024-01-06 19:02:10.773088.jpg"


@pytest.fixture
def tiny(tmp_path: Path) -> TinyArchive:
    """A collection with pictures in a folder and in a folder behind a link."""
    tiny = TinyArchive(tmp_path / "archive")
    tiny.add(NAME)
    tiny.add(NAME.replace("0_0_0", "0_1_0"), picture(1))
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / NAME.replace("0_0_0", "0_2_0")).write_bytes(picture(2))
    (tiny.root / IMAGES / FOLDERS[0] / "001").symlink_to(disk)
    return tiny


def of(params: Params, tiny: TinyArchive) -> dict:
    output = tiny.root.parent / "fingerprint.json"
    fingerprint.run(of_archive(params, tiny.root), "archive", output)
    return json.loads(output.read_text())


def test_counts(params: Params, tiny: TinyArchive) -> None:
    found = of(params, tiny)
    assert (found["provider"], found["used"], found["not_read"]) == ("archive", True, [])
    assert found["files"] == 3 + 6  # pictures, tables, polygon
    assert found["bytes"] == sum(
        p.stat().st_size for p in [*tiny.root.rglob("*"), *(tiny.root.parent / "disk").iterdir()] if p.is_file()
    )


def below(tiny: TinyArchive, *parts: str) -> Path:
    return tiny.root / IMAGES / FOLDERS[0] / Path(*parts)


def replaced(path: Path) -> None:
    """Another picture of the same size and modification time."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# A change of the collection, and whether results may depend on it.
CHANGES: dict[str, tuple[Callable[[TinyArchive], object], bool]] = {
    "nothing": (lambda t: None, False),
    "a picture replaced": (lambda t: replaced(below(t, "000", NAME)), True),
    "a picture replaced behind a link": (lambda t: replaced(next(below(t, "001").iterdir())), True),
    "a picture removed behind a link": (lambda t: next(below(t, "001").iterdir()).unlink(), True),
    "a picture renamed": (lambda t: below(t, "000", NAME).rename(below(t, "000", NAME.replace("March", "May"))), True),
    "a table changed": (lambda t: (t.root / LEVELS / "new_order_buffer_75.csv").write_text("x"), True),
    "a link gone": (lambda t: below(t, "001").unlink(), True),
    "a link to nothing": (lambda t: below(t, "000", "a.jpg").symlink_to("nowhere"), True),
    "a pipe": (lambda t: os.mkfifo(below(t, "000", "a.jpg")), True),
    "a name that is not UTF-8": (lambda t: below(t, "000", os.fsdecode(b"\xe9.jpg")).touch(), True),
    "a folder with a wrong name": (lambda t: (t.root / IMAGES / "Croped_Test_v1_buffer_75").mkdir(), True),
    "two pictures change their names": (
        lambda t: [
            below(t, "000", NAME).rename(below(t, "x")),
            below(t, "000", NAME.replace("0_0_0", "0_1_0")).rename(below(t, "000", NAME)),
            below(t, "x").rename(below(t, "000", NAME.replace("0_0_0", "0_1_0"))),
        ],
        True,
    ),
    "a picture touched": (lambda t: below(t, "000", NAME).touch(), False),
    "a picture copied over itself": (
        lambda t: (shutil.copy(below(t, "000", NAME), below(t, "x")), below(t, "x").replace(below(t, "000", NAME))),
        False,
    ),
    "the folder behind the link moved": (
        lambda t: (
            shutil.move(t.root.parent / "disk", t.root.parent / "other"),
            below(t, "001").unlink(),
            below(t, "001").symlink_to(t.root.parent / "other"),
        ),
        False,
    ),
    ".DS_Store": (lambda t: below(t, "000", ".DS_Store").write_bytes(b"x"), False),
    "Thumbs.db": (lambda t: below(t, "Thumbs.db").write_bytes(b"x"), False),
    "@eaDir": (lambda t: below(t, "000", "@eaDir").mkdir(), False),
    "git": (lambda t: (t.root / IMAGES / ".git").mkdir(), False),
    "a notebook beside the pictures": (lambda t: (t.root / "notes.ipynb").write_text("{}"), False),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", CHANGES)
def test_it_changes_with_what_results_may_depend_on(change: str, params: Params, tiny: TinyArchive) -> None:
    make, matters = CHANGES[change]
    before = of(params, tiny)
    make(tiny)
    after = of(params, tiny)
    assert (after != before) == matters
    assert (after["sha256"] != before["sha256"]) == matters
    shutil.rmtree(os.environ["STREETRECALL_STORE"])
    assert of(params, tiny) == after, "hashes that were kept give the same as reading everything"


def test_contents_are_read_once(params: Params, tiny: TinyArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = folders.opened

    def opened(path: Path) -> object:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(fingerprint, "opened", opened)
    before = of(params, tiny)
    assert len(read) == 9
    read.clear()
    assert of(params, tiny) == before
    assert len(read) == 9, "files that have just changed are read again"
    read.clear()
    monkeypatch.setattr(fingerprint, "SETTLED_NS", -time.time_ns())
    of(params, tiny)
    read.clear()
    assert of(params, tiny) == before
    assert read == []
    replaced(below(tiny, "000", NAME))
    assert of(params, tiny) != before
    assert read == [NAME]

    (kept,) = (Path(os.environ["STREETRECALL_STORE"]) / "fingerprints").iterdir()
    for damaged in ("", "{", "[]", '{"a": 1}', '{"a": [1]}'):
        kept.write_text(damaged)
        read.clear()
        of(params, tiny)
        assert len(read) == 9


def test_a_run_that_is_stopped_has_not_read_in_vain(
    params: Params, tiny: TinyArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "SETTLED_NS", -time.time_ns())
    read: list[str] = []
    real = folders.opened

    def opened(path: Path) -> object:
        if len(read) == 5:
            raise KeyboardInterrupt
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(fingerprint, "opened", opened)
    with pytest.raises(KeyboardInterrupt):
        of(params, tiny)
    first = list(read)
    read.clear()
    of(params, tiny)
    assert len(read) == 4
    assert not set(first) & set(read)


def test_a_file_that_cannot_be_read_is_listed(
    params: Params, tiny: TinyArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = of(params, tiny)
    real = os.open

    def denied(path: str | Path, *more: int) -> int:
        if str(path).endswith(NAME):
            raise PermissionError(13, "Permission denied")
        return real(path, *more)

    monkeypatch.setattr(folders.os, "open", denied)
    after = of(params, tiny)
    path = f"{IMAGES}/{FOLDERS[0]}/000/{NAME}"
    assert after["not_read"] == [{"path": path, "reason": "unreadable: Permission denied"}]
    assert after["sha256"] != before["sha256"]
    monkeypatch.undo()


def test_the_path_of_the_collection_does_not_matter(params: Params, tiny: TinyArchive, tmp_path: Path) -> None:
    before = of(params, tiny)
    moved = tmp_path / "another place" / "archive"
    moved.parent.mkdir()
    shutil.copytree(tiny.root, moved, symlinks=True)
    tiny.root = moved
    assert of(params, tiny) == before


def test_another_provider_is_in_use(params: Params, tmp_path: Path) -> None:
    """As in `dvc repro --all-pipelines`."""
    fingerprint.run(params, "archive", tmp_path / "archive.json")
    assert json.loads((tmp_path / "archive.json").read_text()) == {"provider": "archive", "used": False}
    with pytest.raises(UserError, match="'simulated' reads no files of this machine"):
        open_local(params)


def test_there_is_no_collection(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        fingerprint.run(of_archive(params, tmp_path / "none"), "archive", tmp_path / "archive.json")


def test_every_provider_says_when_its_answers_change() -> None:
    """A local one by the stage fingerprint, another by a file in git."""
    import yaml

    stage = yaml.safe_load((ROOT / "data/sources/dvc.yaml").read_text(encoding="utf-8"))["stages"]["fingerprint"]
    assert sorted(stage["foreach"]) == sorted(name for name in PROVIDERS if is_local(name))
    ignored = (ROOT / "data/.gitignore").read_text(encoding="utf-8").splitlines()
    for name in PROVIDERS:
        assert (f"/sources/{name}.json" in ignored) == is_local(name)
        if not is_local(name):
            content = json.loads((ROOT / f"data/sources/{name}.json").read_text(encoding="utf-8"))
            assert content["provider"] == name


def test_stages_that_ask_a_provider_depend_on_its_source() -> None:
    import yaml

    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert "${archive.path}" not in text, "DVC would hash the folder itself"
    stages = yaml.safe_load(text)["stages"]
    asking = {name for name, stage in stages.items() if "src/streetrecall/providers" in stage["deps"]}
    assert asking == {name for name, stage in stages.items() if "data/sources/${provider}.json" in stage["deps"]}
    assert {"grid", "metadata", "scrape", "check_grid"} <= asking
