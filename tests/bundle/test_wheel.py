"""The package as a colleague installs it: from a wheel, without extras, outside the repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import requests

ROOT = Path(__file__).parents[2]
ABSENT = ("tensorflow", "keras", "dvc", "pandas", "scipy", "great_expectations", "selenium")


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and what it needs; packages come from uv's cache, or else from the network."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on PATH: make setup installs it")
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = run(uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", home, source)
    assert built.returncode == 0, built.stderr
    (wheel,) = home.glob("*.whl")
    assert run(uv, "venv", "--python", sys.executable, home / "venv").returncode == 0
    install = (uv, "pip", "install", "--python", home / "venv/bin/python", "-c", ROOT / "requirements.lock", wheel)
    done = run(*install, "--offline")
    if done.returncode:
        done = run(*install)
    if done.returncode:
        pytest.skip(f"no packages can be had here: {done.stderr.strip().splitlines()[-1]}")
    return home / "venv"


@pytest.mark.slow
def test_locate_answers_from_a_wheel_without_tensorflow(
    environment: Path, tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path
) -> None:
    python = environment / "bin/python"
    listed = run(
        python, "-c", f"import importlib.util as u; print([m for m in {ABSENT} if u.find_spec(m)])", cwd=tmp_path
    )
    assert listed.stdout.strip() == "[]"
    (tmp_path / "photo.jpg").write_bytes(photos["jpeg"].iloc[0])
    alone = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    asked = (environment / "bin/streetrecall", "locate", "photo.jpg", "--bundle", tiny_bundle)
    done = run(*asked, "--json", "--why", "why.png", cwd=tmp_path, env=alone)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["neighbours"][0]["place"] == int(photos["spot"].iloc[0])
    assert (tmp_path / "why.png").stat().st_size > 1000
    stage = run(environment / "bin/streetrecall", "evaluate", "--help", cwd=tmp_path, env=alone)
    assert stage.returncode == 2
    assert "pip install 'streetrecall[pipeline]'" in stage.stderr
    assert "Traceback" not in stage.stderr
    size = sum(p.stat().st_size for p in environment.rglob("*") if p.is_file() and not p.is_symlink())
    print(f"environment: {size / 1e6:.0f} MB")
    assert size < 900e6


@pytest.mark.slow
def test_the_service_answers_from_a_wheel_without_tensorflow(
    environment: Path, tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path
) -> None:
    alone = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [str(environment / "bin/streetrecall"), "serve", "--bundle", str(tiny_bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=alone) as service:
        try:
            assert service.stdout is not None
            words = service.stdout.readline().split()
            url = next(word for word in words if word.startswith("http://"))
            page = requests.get(url, timeout=20)
            assert page.status_code == 200 and "<html" in page.text.lower()
            asked = {"photos": ("photo.jpg", photos["jpeg"].iloc[0], "image/jpeg")}
            answer = requests.post(f"{url}api/locate", files=asked, timeout=60)
            assert answer.status_code == 200, answer.text
            assert answer.json()["neighbours"][0]["place"] == int(photos["spot"].iloc[0])
        finally:
            service.terminate()
