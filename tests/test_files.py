"""Folders that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from streetrecall.errors import UserError
from streetrecall.files import fresh_folders, require_in_project

NAMES = ("shared/test", "local")


def _content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_folders_are_replaced_when_the_block_ends(tmp_path: Path) -> None:
    for word in ("old", "new"):
        with fresh_folders(tmp_path / "data", NAMES) as fresh:
            for name in NAMES:
                assert list((fresh / name).iterdir()) == []
                (fresh / name / word).write_text(word)
    assert _content(tmp_path) == {"data/shared/test/new": "new", "data/local/new": "new"}
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["local", "shared"]


def test_after_an_exception_everything_is_as_before_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with fresh_folders(tmp_path, NAMES) as fresh:
        (fresh / "local" / "kept").write_text("old")
    (tmp_path / ".new-1").mkdir()  # of a process that was killed
    with pytest.raises(OSError, match="disk is full"), fresh_folders(tmp_path, NAMES) as fresh:
        (fresh / "local" / "half").write_text("new")
        raise OSError("the disk is full")
    assert _content(tmp_path) == {"local/kept": "old"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["local", "shared"]


# What is linked, where to, and whether DVC takes `data/captures/shared` then.
LINKS = {
    "nothing": ("", "", True),
    "the folder above": ("data/captures", "{outside}", False),
    "the output itself": ("data/captures/shared", "{outside}", False),
    "a folder that does not exist yet": ("data/captures", "{outside}/later", False),
    "the folder of all data": ("data", "{outside}", False),
    "a relative link out": ("data/captures", "../../outside", False),
    "a link that stays in the project": ("data/captures", "../elsewhere", True),
}


@pytest.mark.parametrize("case", LINKS)
def test_an_output_that_a_link_leads_out_of_the_project(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, to, taken = LINKS[case]
    project = tmp_path / "project"
    for folder in (project / ".git", project / "elsewhere", tmp_path / "outside"):
        folder.mkdir(parents=True)
    if link:
        (project / link).parent.mkdir(parents=True, exist_ok=True)
        (project / link).symlink_to(to.format(outside=tmp_path / "outside"))
    (tmp_path / "linked").symlink_to(project)  # the project itself may lie behind a link
    for here in (project, tmp_path / "linked"):
        monkeypatch.chdir(here)
        if taken:
            require_in_project(Path("data/captures/shared"), Path("data/captures/local"))
            continue
        with pytest.raises(UserError, match=rf"^{link}: a link to .*outside of the project.*cache\.type symlink"):
            require_in_project(Path("data/captures/local"), Path("data/captures/shared"))
    (project / ".git").rmdir()
    require_in_project(Path("data/captures/shared"))  # without git, DVC takes it
    require_in_project(tmp_path / "outside")
