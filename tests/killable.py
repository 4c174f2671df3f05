"""Runs a stage in a process of its own, for a test to kill: python killable.py STAGE INPUT OUTPUT [BASE [PROVIDER]]."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from fakeprovider import FakeProvider

from streetrecall.params.schema import Params, load
from streetrecall.providers.base import Provider
from streetrecall.providers.google.credentials import Credentials
from streetrecall.providers.google.provider import GoogleProvider
from streetrecall.providers.http import Client, Secret
from streetrecall.stages import metadata, scrape

ROOT = Path(__file__).parents[1]


def hasty(params: Params) -> Params:
    """The same params with short waits."""
    update = {"backoff_s": 0.01, "backoff_limit_s": 0.1, "ready_s": 4.0, "timeout_s": 2.0, "breaker_refusals": 1000}
    scraping = params.scrape.model_copy(update={"width": 320, "height": 180})
    return params.model_copy(update={"network": params.network.model_copy(update=update), "scrape": scraping})


def tiny_provider(params: Params, base: str) -> GoogleProvider:
    """Provider `google` pointed at a `tinyservice.TinyService`."""
    provider = GoogleProvider(
        params, endpoint=base, viewer=f"{base}/viewer", credentials=Credentials(Secret("AIzaTiny")), name="tiny",
        namespace="tiny", shareable=True, terms_accepted=True, client=Client(params.network, environment=False),
        isolated=True,
    )  # fmt: skip
    provider.reopen = partial(tiny_provider, params, base)
    return provider


def open_one(params: Params, base: str, name: str) -> Provider:
    """The provider ``name``, or `tiny_provider` without a name."""
    if not name:
        return tiny_provider(params, base)
    from tinyopen import open_box_provider

    return open_box_provider(name, params, base)


def main(stage: str, source: Path, out: Path, base: str = "", name: str = "") -> None:
    params = hasty(load(ROOT / "params.yaml"))
    params = params.model_copy(update={"metadata": params.metadata.model_copy(update={"beyond_m": 0.0})})
    module = metadata if stage == "metadata" else scrape
    module.open_provider = (  # type: ignore[attr-defined]
        lambda *_: open_one(params, base, name) if base else FakeProvider(delay_s=0.004)
    )
    if stage == "metadata":
        metadata.run(params, source, out / "panoramas.parquet", out / "no_coverage.parquet", out / "metrics.json")
    else:
        scrape.run(params, source, out / "captures", out / "metrics.json")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
