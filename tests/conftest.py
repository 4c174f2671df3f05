"""Shared fixtures. Tests of real input take the archive's folder from STREETRECALL_ARCHIVE and skip without it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dvc  # noqa: F401  (its log goes to the stderr of its import, which must not be that of one test)
import pytest
from hypothesis import settings

from streetrecall.params.schema import Params, load

ROOT = Path(__file__).parents[1]

# A busy machine may be slow at any example; a test that hangs ends by pytest's own timeout.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Tests run `dvc` and `streetrecall` as a person does. They lie beside this interpreter, on PATH or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


@pytest.fixture(scope="session")
def archive() -> Path:
    """The real archive's folder, in the original layout."""
    folder = os.environ.get("STREETRECALL_ARCHIVE")
    if not folder:
        pytest.skip("STREETRECALL_ARCHIVE is unset: no real pictures to test on")
    return Path(folder).resolve()


@pytest.fixture
def params() -> Params:
    """The project's own params.yaml."""
    return load(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's store of captures."""
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path_factory.mktemp("store")))
