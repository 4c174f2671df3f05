"""No provider's key or token is in a log, an error, the ledger or a file that a stage writes, whatever goes wrong."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path

import pandas as pd
import pytest
from tinyopen import START, TinyOpen, street
from tinyservice import TinyService, serving

from streetrecall import tables
from streetrecall.params.schema import Params
from streetrecall.providers import PROVIDERS, open_provider
from streetrecall.providers.google import provider as google
from streetrecall.stages import metadata
from streetrecall.store.folder import store_folder

# The environment variable of each provider's secret, and of the address of its service; None: it has no secret.
SECRETS = {
    "simulated": None,
    "archive": None,
    "folder": None,
    "panoramax": None,
    "mapillary": "STREETRECALL_MAPILLARY_TOKEN",
    "google": "STREETRECALL_GOOGLE_KEY",
}
SECRET = "AIzaMLYSecretOfTheUser"
FAULTS = {
    "none": lambda path, query, n: None,
    "refused": lambda path, query, n: "429",
    "broken": lambda path, query, n: "500",
    "reset": lambda path, query, n: "reset",
    "cut": lambda path, query, n: "truncated",
}


def test_every_provider_is_here() -> None:
    assert set(SECRETS) == set(PROVIDERS)


@pytest.mark.parametrize("name", [name for name, variable in SECRETS.items() if variable])
@pytest.mark.parametrize("fault", [*FAULTS, "denied", "nobody"])
def test_a_secret_is_nowhere(
    name: str,
    fault: str,
    params: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(str(SECRETS[name]), SECRET)
    limits = {"backoff_s": 0.001, "tries": 2, "breaker_pause_s": 0.001, "breaker_pauses": 1, "breaker_refusals": 2}
    mine = params.model_copy(update={"provider": name, "network": params.network.model_copy(update=limits)})
    grid = pd.DataFrame({"point_id": range(3), "lat": [START[0] + i / 1000 for i in range(3)], "lon": START[1]})
    source = tables.write(tables.GRID, grid, tmp_path / "grid.parquet")
    service = TinyOpen(street(6), FAULTS.get(fault)) if name == "mapillary" else TinyService(FAULTS.get(fault))
    service.retry_after = "0"
    service.token = "OAuth other" if fault == "denied" else f"OAuth {SECRET}"
    text = ""
    with serving(service):
        base = service.base if fault != "nobody" else "http://127.0.0.1:9"
        monkeypatch.setenv("STREETRECALL_MAPILLARY", base)
        monkeypatch.setattr(google, "ENDPOINT", base)
        if fault == "denied" and name == "google":
            monkeypatch.setenv(str(SECRETS[name]), f"wrong{SECRET}")
        try:
            metadata.run(mine, source, tmp_path / "p.parquet", tmp_path / "n.parquet", tmp_path / "m.json")
        except Exception as error:
            text = "".join(traceback.format_exception(error)) + str(error) + repr(error)
        asked = "".join(service.queries) + str(service.headers)
    assert SECRET in asked or fault == "nobody"
    assert (text == "") == (fault == "none")
    shown = text + caplog.text + repr(vars(open_provider(mine)))
    assert SECRET not in shown
    written = [p for folder in (tmp_path, store_folder()) for p in folder.rglob("*") if p.is_file()]
    assert any(p.name == "ledger.sqlite" for p in written)
    assert not any(SECRET.encode() in p.read_bytes() for p in written)
    assert os.environ[str(SECRETS[name])].endswith(SECRET)
