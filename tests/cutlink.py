"""Runs `scrape` here and then on a cluster, in a network namespace of its own: python cutlink.py FOLDER SCHEDULER HOST.

It serves the pictures at HOST. It prints "both" when both workers have asked, for a test to cut a link, and JSON
at the end.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path

import pandas as pd
from killable import ROOT, hasty
from tinyopen import START, STEP_DEG, TinyOpen, open_box_provider, street
from tinyservice import serving

from streetrecall import cluster, tables
from streetrecall.params.schema import load
from streetrecall.stages import scrape

PLACES = 12


def locations(folder: Path, count: int = PLACES) -> Path:
    """Places of `tinyopen.street`, or of any panorama id for `tinyservice.TinyService`."""
    place = pd.Series(range(count))
    level = place % 2
    table = pd.DataFrame(
        {
            "place": place, "rank": place, "pano_id": [f"s{n}-2023" for n in place], "lat": START[0] + STEP_DEG * place,
            "lon": START[1], "x": 0.0, "y": 60.0 * place, "month": "2023-06", "start_distance_m": 60.0 * place,
            "radius_m": 100.0 - 25.0 * level, "level": level, "split": [("train", "test")[n] for n in level],
        }
    )  # fmt: skip
    return tables.write(tables.LOCATIONS, table, folder / "locations.parquet")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main(folder: Path, scheduler: str, host: str) -> None:
    params = hasty(load(ROOT / "params.yaml"))
    slow = {"requests_per_second": 2.0, "burst": 1, "timeout_s": 60.0}
    source = locations(folder)
    found = {}
    with serving(TinyOpen(street(PLACES)), host) as service:

        def tell() -> None:
            while len(service.hosts) < 2:
                service.release.wait(0.05)
            print("both", flush=True)

        for name in ("alone", "cluster"):
            service.asked.clear()
            service.hosts.clear()
            os.environ["STREETRECALL_STORE"] = str(folder / f"{name}_store")
            if name == "cluster":
                from distributed import Client

                with Client(scheduler, timeout=300) as client:
                    client.wait_for_workers(2, timeout=300)
                os.environ[cluster.ADDRESS] = scheduler
                params = params.model_copy(update={"network": params.network.model_copy(update=slow)})
                threading.Thread(target=tell, daemon=True).start()
            provider = open_box_provider("panoramax", params, service.base)
            scrape.open_provider = lambda _, opened=provider: opened
            scrape.run(params, source, folder / name / "captures", folder / name / "metrics.json")
            found[name] = {"files": hashes(folder / name), "asked": service.asked, "hosts": sorted(service.hosts)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
