"""A real S3 server on loopback, SeaweedFS, which asks for keys; and how a teammate joins it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from smallproject import Project

KEY, SECRET = "teammate", "open-sesame"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {seconds:g} s")


def free_ports(count: int) -> list[int]:
    """Ports that are free, and so are those 10,000 above, which the server takes for gRPC."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 45_000), 500):
        try:
            for number in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


@dataclass(frozen=True)
class Server:
    url: str
    metrics: str
    client: Any

    def keys(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def requests(self) -> float:
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            text = answer.read().decode()
        return sum(float(n) for n in re.findall(r"^SeaweedFS_s3_request_total\{[^}]*\} ([0-9.e+]+)$", text, re.M))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("s3")
    identity = {
        "name": "team",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    s3, master, volume, filer, metrics = free_ports(5)
    command = [
        str(Path(sys.executable).parent / "weed"),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.config={folder / 's3.json'}",
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        f"-metricsPort={metrics}",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=400",
        "-master.volumeSizeLimitMB=128",
    ]
    url = f"http://127.0.0.1:{s3}"
    client = botocore.session.Session().create_client(
        "s3",
        endpoint_url=url,
        region_name="eu-north-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=10),
    )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")[-2000:]
        try:
            client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            wait_for(answers, "the S3 server answers")
            yield Server(url, f"http://127.0.0.1:{metrics}/metrics", client)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            client.close()
            shutil.rmtree(folder)


@pytest.fixture
def bucket(server: Server, request: pytest.FixtureRequest) -> str:
    name = "b" + hashlib.md5(request.node.name.encode(), usedforsecurity=False).hexdigest()[:12]
    server.client.create_bucket(Bucket=name)
    return name


def join(project: Project, server: Server, bucket: str) -> Project:
    """What a teammate of a self-hosted server does: bucket and endpoint in config.local, keys in the environment."""
    project.dvc("remote", "modify", "--local", "team", "url", f"s3://{bucket}/cache")
    project.dvc("remote", "modify", "--local", "team", "endpointurl", server.url)
    project.env.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    return project
