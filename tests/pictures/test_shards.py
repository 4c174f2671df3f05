"""Shards: deterministic tars that anyone can unpack and the pipeline reads by offset."""

from __future__ import annotations

import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetrecall.errors import UserError
from streetrecall.pictures.shards import KEPT_OPEN, PLACES_PER_SHARD, ShardReader, shard_name, write_shard

NAMES = st.text("abcdefghij0123456789_-", min_size=1, max_size=40)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8))
def test_pictures_are_read_back_by_offset_and_by_tar(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    members = write_shard(folder / "a.tar", files.items())
    assert [m.name for m in members] == sorted(files)
    with ShardReader(folder) as reader:
        assert {m.name: reader.read("a.tar", m.offset, m.size) for m in members} == files
    with tarfile.open(folder / "a.tar") as tar:
        assert {i.name: tar.extractfile(i).read() for i in tar} == files  # type: ignore[union-attr]


def test_the_bytes_depend_on_names_and_contents_only(tmp_path: Path) -> None:
    files = [("b", b"2"), ("a", b"1")]
    write_shard(tmp_path / "one.tar", files)
    write_shard(tmp_path / "two.tar", reversed(files))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.tar", "two.tar"]


def test_a_missing_or_short_shard_is_a_clear_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("x", b"12345")])
    with ShardReader(tmp_path) as reader:
        with pytest.raises(UserError, match=r"b\.tar: the shard is missing"):
            reader.read("b.tar", 512, 5)
        with pytest.raises(UserError, match="dvc checkout"):
            reader.read("a.tar", 10**6, 5)


def test_a_new_level_adds_shards_and_renames_none() -> None:
    first = {shard_name("train_v1", 0, i) for i in range(20)}
    assert len(first) == -(-20 // PLACES_PER_SHARD)
    assert first.isdisjoint({shard_name("train_v1", 1, i) for i in range(20)})


def test_many_threads_read_more_shards_than_may_be_open(tmp_path: Path) -> None:
    count = 3 * KEPT_OPEN
    for number in range(count):
        (member,) = write_shard(tmp_path / f"{number}.tar", [("x", f"{number:05d}".encode())])
    with ShardReader(tmp_path) as reader, ThreadPoolExecutor(4) as pool:
        wanted = [number for number in range(count) for _ in range(3)]
        found = list(pool.map(lambda n: reader.read(f"{n}.tar", member.offset, member.size), wanted))
        assert len(reader._open) == KEPT_OPEN
    assert [int(data) for data in found] == wanted
