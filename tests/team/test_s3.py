"""Sharing by a real S3 server on loopback: what teammates push and pull, and what goes wrong there."""

from __future__ import annotations

import hashlib
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from smallproject import Project

from .s3server import Server, bucket, join, server, wait_for

__all__ = ["bucket", "server"]  # fixtures

pytestmark = pytest.mark.s3
LARGE = 120 * 2**20  # sent in three parts


@pytest.fixture
def shared(project: Project, server: Server, bucket: str) -> Project:
    """The project, pushed."""
    project = Project(project.root, dict(project.env))
    join(project, server, bucket).dvc("push")
    return project


def test_a_teammate_pulls_and_runs_nothing(shared: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    clone = join(shared.clone(tmp_path / "clone"), server, bucket)
    clone.dvc("pull")
    said = clone.dvc("repro").stdout
    assert "Data and pipelines are up to date." in said
    assert clone.ran() == []
    assert "up to date" in clone.dvc("status").stdout
    assert (clone.root / "models/weights.h5").read_bytes() == (shared.root / "models/weights.h5").read_bytes()
    assert "Everything is up to date." in clone.dvc("push").stdout


def test_the_endpoint_may_come_from_the_environment(
    shared: Project, server: Server, bucket: str, tmp_path: Path
) -> None:
    clone = shared.clone(tmp_path / "clone")
    clone.dvc("remote", "modify", "--local", "team", "url", f"s3://{bucket}/cache")
    clone.dvc("pull", "models/weights.h5", AWS_ENDPOINT_URL_S3=server.url)
    assert (clone.root / "models/weights.h5").is_file()


def test_one_split_alone_can_be_pulled(shared: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    clone = join(shared.clone(tmp_path / "clone"), server, bucket)
    clone.dvc("pull", "data/crops/shared/test", "data/crops/images.txt")
    files = sorted(p.relative_to(clone.root).as_posix() for p in (clone.root / "data").rglob("*") if p.is_file())
    assert files == [
        "data/.gitignore",
        "data/crops/images.txt",
        "data/crops/shared/test/README.txt",
        "data/crops/shared/test/test-00000.tar",
    ]


def test_pictures_of_an_archive_are_never_pushed(project: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    project = join(Project(project.root, dict(project.env)), server, bucket)
    origin = tmp_path / "origin.git"
    project.git("clone", "-q", "--bare", ".", str(origin))
    project.git("remote", "add", "origin", str(origin))
    project.dvc("exp", "run", "-n", "private", "-S", "provider=archive")
    project.commit("Use the archive")
    shards = sorted((project.root / "data/crops/local").rglob("*.tar"))
    assert len(shards) == 3
    private = {hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest() for p in shards}

    unshared = {p.name for p in (project.root / ".dvc/unshared").rglob("*") if p.is_file()}
    project.dvc("push", "--run-cache", "--all-commits")
    project.dvc("push", "-r", "team", "data/crops/local/train")
    project.dvc("push", "-r", "team", "crop")
    project.dvc("exp", "push", "origin", "private")
    pushed = server.keys(bucket)
    assert pushed, "what may be shared is pushed"
    names = {re.sub(r"^.*/([0-9a-f]{2})/([0-9a-f]{30})(\.dir)?$", r"\1\2", key) for key in pushed}
    assert not names & private
    assert {p.name for p in (project.root / ".dvc/unshared").rglob("*") if p.is_file()} == unshared
    for key in pushed:
        body = server.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert hashlib.md5(body, usedforsecurity=False).hexdigest() not in private


def test_a_push_that_was_killed_resumes_and_its_leftovers_can_be_removed(
    shared: Project, server: Server, bucket: str, tmp_path: Path
) -> None:
    large = shared.root / "data/large.bin"
    large.write_bytes(random.Random(5).randbytes(2**20) * (LARGE // 2**20))
    small = [shared.root / f"data/small-{n}.bin" for n in range(3)]
    for number, path in enumerate(small):
        path.write_bytes(bytes([number]) * 1000)
    shared.dvc("add", "-q", "--no-commit", str(large), *map(str, small), ok=False)
    (shared.root / "data/.gitignore").write_text("*.bin\n", encoding="utf-8")
    shared.dvc("add", "-q", str(large), *map(str, small))

    push = subprocess.Popen(
        ["dvc", "push"], cwd=shared.root, env=shared.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(
            lambda: server.client.list_multipart_uploads(Bucket=bucket).get("Uploads") or push.poll() is not None,
            "an upload in parts begins",
        )
    finally:
        push.send_signal(signal.SIGKILL)
        push.wait()
    assert push.returncode == -signal.SIGKILL
    digest = hashlib.md5(large.read_bytes(), usedforsecurity=False).hexdigest()
    key = f"cache/files/md5/{digest[:2]}/{digest[2:]}"
    assert key not in server.keys(bucket), "half a file is not a file"

    shared.dvc("push")
    assert server.client.head_object(Bucket=bucket, Key=key)["ContentLength"] == LARGE
    listed = shared.run("streetrecall", "uploads", "--older-than", "0").stdout
    assert f"{bucket}/{key}" in listed
    assert "1 uploads older than 0 hours open" in listed
    assert "No upload was left open." in shared.run("streetrecall", "uploads", "--abort").stdout, "it is young"
    assert "aborted" in shared.run("streetrecall", "uploads", "--older-than", "0", "--abort").stdout
    assert "No upload was left open." in shared.run("streetrecall", "uploads", "--older-than", "0").stdout
    assert server.client.head_object(Bucket=bucket, Key=key)["ContentLength"] == LARGE
    shared.commit("Add files")
    clone = join(shared.clone(tmp_path / "clone"), server, bucket)
    clone.dvc("pull", "data/large.bin.dvc")
    assert (clone.root / "data/large.bin").stat().st_size == LARGE


def test_wrong_keys_are_reported_and_nothing_is_lost(
    shared: Project, server: Server, bucket: str, tmp_path: Path
) -> None:
    shared.set(train__seed=333)
    shared.dvc("repro", "-q")
    before = server.keys(bucket)
    weights = (shared.root / "models/weights.h5").read_bytes()
    refused = shared.dvc("push", ok=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode
    assert "The request signature we calculated does not match" in refused.stderr or "Forbidden" in refused.stderr
    unknown = shared.dvc("push", ok=False, AWS_ACCESS_KEY_ID="nobody")
    assert unknown.returncode
    assert server.keys(bucket) == before
    assert (shared.root / "models/weights.h5").read_bytes() == weights
    shared.dvc("push")
    assert len(server.keys(bucket)) > len(before)
    clone = join(shared.clone(tmp_path / "clone"), server, bucket)
    refused = clone.dvc("pull", ok=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode
    assert clone.dvc("pull").returncode == 0


def test_a_missing_bucket_is_named(shared: Project, tmp_path: Path) -> None:
    shared.dvc("remote", "modify", "--local", "team", "url", "s3://no-such-bucket/cache")
    shared.dvc("push", "-q", ok=False)
    said = shared.dvc("push", ok=False)
    assert said.returncode
    assert "no-such-bucket" in said.stderr or "bucket does not exist" in said.stderr
    assert "up to date" in shared.dvc("status").stdout


def test_a_corrupted_object_is_refused(shared: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    shard = (shared.root / "data/crops/shared/test/test-00000.tar").read_bytes()
    digest = hashlib.md5(shard, usedforsecurity=False).hexdigest()
    key = f"cache/files/md5/{digest[:2]}/{digest[2:]}"
    server.client.put_object(Bucket=bucket, Key=key, Body=b"x" * len(shard))
    clone = join(shared.clone(tmp_path / "clone"), server, bucket)
    said = clone.dvc("pull", ok=False)
    assert said.returncode
    assert not (clone.root / "data/crops/shared/test/test-00000.tar").exists()
    assert (clone.root / "models/weights.h5").is_file(), "the rest arrives"
    server.client.put_object(Bucket=bucket, Key=key, Body=shard)  # a teammate who has it pushes it again
    clone.dvc("pull")
    assert (clone.root / "data/crops/shared/test/test-00000.tar").read_bytes() == shard


def test_gc_keeps_what_branches_and_tags_need(shared: Project, server: Server, bucket: str, tmp_path: Path) -> None:
    states = {"main": 300, "tagged": 310, "branched": 320, "abandoned": 330}
    for name, seed in states.items():
        if name == "main":
            continue
        shared.git("switch", "-qc", name, "main")
        shared.set(train__seed=seed)
        shared.dvc("repro", "-q")
        shared.commit(name)
    shared.dvc("push", "--all-branches")
    shared.git("switch", "-q", "main")
    shared.git("tag", "release", "tagged")
    shared.git("branch", "-qD", "tagged", "abandoned")
    shared.dvc("checkout", "-q")
    before = set(server.keys(bucket))
    shared.dvc("gc", "--workspace", "--all-branches", "--all-tags", "--cloud", "--force")
    removed = before - set(server.keys(bucket))
    assert len(removed) == 1, "the abandoned branch's weights, nothing else"
    for revision, seed in (("main", 300), ("release", 310), ("branched", 320)):
        clone = join(shared.clone(tmp_path / revision, "--branch", revision), server, bucket)
        clone.dvc("pull")
        assert (clone.root / "models/weights.h5").read_text(encoding="utf-8").startswith(str(seed))


def test_ten_thousand_pictures_take_few_requests(project: Project, server: Server, bucket: str) -> None:
    """With shards, more pictures mean more bytes, not more requests."""
    from streetrecall.pictures.shards import write_shard

    project = join(Project(project.root, dict(project.env)), server, bucket)
    noise = random.Random(1)
    folder = project.root / "data/many"
    for shard in range(40):  # 8 places of some 250 pictures each
        pictures = [(f"{n:05d}.jpg", noise.randbytes(1500)) for n in range(250)]
        write_shard(folder / f"{shard:05d}.tar", pictures)
    (project.root / "data/.gitignore").write_text("many\n", encoding="utf-8")
    project.dvc("add", "-q", "data/many")
    before = server.requests()
    begun = time.monotonic()
    project.dvc("push", "data/many.dvc")
    seconds = time.monotonic() - begun
    spent = server.requests() - before
    print(f"10,000 pictures in 40 shards: {spent:.0f} requests, {seconds:.1f} s")
    assert 41 <= spent <= 100
