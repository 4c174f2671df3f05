"""What `export` writes can be read back as hloc reads it, and agrees with a loop over all pictures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from tinytown import Town

from streetrecall import cli, tables
from streetrecall.bundle import layout
from streetrecall.bundle.answer import Bundle
from streetrecall.bundle.export import names
from streetrecall.bundle.gallery import Gallery


@pytest.fixture
def gallery(tiny_bundle: Path) -> Gallery:
    return Gallery(tiny_bundle, layout.read_manifest(tiny_bundle))


def export(*arguments: object) -> int:
    return cli.main(["export", *map(str, arguments)])


def test_pairs_are_the_most_similar_pictures_of_other_panoramas(
    tiny_bundle: Path, gallery: Gallery, tmp_path: Path
) -> None:
    assert export("hloc-pairs", tmp_path / "pairs.txt", "--bundle", tiny_bundle, "--neighbours", 3) == 0
    pairs = [tuple(line.split(" ")) for line in (tmp_path / "pairs.txt").read_text().splitlines()]
    named = names(gallery)
    row = {name: i for i, name in enumerate(named.tolist())}
    similarity = gallery.descriptors.astype(np.float32) @ gallery.descriptors.astype(np.float32).T
    panorama = gallery.columns["panorama"]
    similarity[panorama[:, None] == panorama[None]] = -np.inf
    wanted = {frozenset((i, int(j))) for i in range(len(row)) for j in np.argsort(-similarity[i], kind="stable")[:3]}
    found = [frozenset((row[a], row[b])) for a, b in pairs]
    assert len(set(found)) == len(found)
    assert len(wanted ^ set(found)) <= 0.02 * len(wanted), "ties may be broken in another way"


@pytest.mark.parametrize("arguments", [["descriptors", "d.npy"], ["hloc-pairs", "pairs.txt"]])
def test_the_gallery_is_opened_once(
    tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    opened, table = [], Gallery._table
    monkeypatch.setattr(Gallery, "_table", lambda self: (opened.append(self.folder), table(self))[1])
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(photos["jpeg"].iloc[0])
    assert export(*arguments, "--bundle", tiny_bundle, "--photos", "a.jpg") == 0
    assert opened == [tiny_bundle]


def test_photos_are_paired_with_the_gallery(tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photos["jpeg"].iloc[0])
    out = tmp_path / "pairs.txt"
    assert export("hloc-pairs", out, "--bundle", tiny_bundle, "--neighbours", 4, "--photos", tmp_path / "a.jpg") == 0
    pairs = [line.split(" ") for line in out.read_text().splitlines()]
    assert len(pairs) == 4
    assert {a for a, _ in pairs} == {str(tmp_path / "a.jpg")}


@pytest.mark.parametrize("name", ["d.h5", "d.npy"])
def test_descriptors_are_those_of_the_gallery(tiny_bundle: Path, gallery: Gallery, tmp_path: Path, name: str) -> None:
    assert export("descriptors", tmp_path / name, "--bundle", tiny_bundle) == 0
    named = names(gallery).tolist()
    if name.endswith("h5"):
        with h5py.File(tmp_path / name) as file:
            read = np.stack([file[n]["global_descriptor"][()] for n in named])
    else:
        read = np.load(tmp_path / name)
        assert json.loads((tmp_path / "d.json").read_text())["names"] == named
    assert np.array_equal(read, gallery.descriptors.astype(np.float32))


def test_mistakes_are_messages(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("descriptors", tmp_path / "d.csv", "--bundle", tiny_bundle) == 2
    assert export("hloc-pairs", tmp_path / "p.txt", "--bundle", tiny_bundle, "--neighbours", 0) == 2
    (tmp_path / "my photo.jpg").write_bytes(b"x")
    assert export("hloc-pairs", tmp_path / "p.txt", "--bundle", tiny_bundle, "--photos", tmp_path / "my photo.jpg") == 2
    said = capsys.readouterr().err
    assert "such a name" in said and "1 or more" in said and "rename" in said
    assert not (tmp_path / "p.txt").exists()


def test_descriptors_of_photos(tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path) -> None:
    files = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for file, jpeg in zip(files, photos["jpeg"], strict=False):
        file.write_bytes(jpeg)
    assert export("descriptors", tmp_path / "d.h5", "--bundle", tiny_bundle, "--photos", *files) == 0
    bundle = Bundle(tiny_bundle)
    with h5py.File(tmp_path / "d.h5") as read:
        for file in files:
            found = read[str(file)]["global_descriptor"][()]
            assert np.allclose(found, bundle.see(file).descriptors[0], atol=1e-6)


def test_pictures_are_those_of_the_project_under_the_names_of_the_pairs(
    tiny_bundle: Path, town: Town, gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "project/data"
    data.mkdir(parents=True)
    (data / "views").symlink_to(town.views)
    arguments = ("pictures", tmp_path / "out", "--bundle", tiny_bundle, "--project", tmp_path / "project")
    assert export(*arguments) == 0
    written = {p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*.jpg")}
    assert set(written) == set(names(gallery).tolist())
    views = tables.read(tables.VIEWS, town.views / "views.parquet").set_index("view_id")
    for name, picture in zip(names(gallery).tolist(), gallery.columns["picture"].tolist(), strict=True):
        assert hashlib.sha256(written[name].read_bytes()).hexdigest() == views.loc[picture, "sha256"]
    (tmp_path / "project/data/views").unlink()
    other = views.assign(place=views["place"] + 1).reset_index()
    tables.write(tables.VIEWS, other, data / "views/views.parquet")
    assert export(*arguments) == 2
    assert "of another run than the bundle" in capsys.readouterr().err
