"""The stage commands of the small project of the tests: stages as in the pipeline, but fast ones."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from pathlib import Path

from streetrecall.pictures.shards import make_folder


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def metric(path: str, **values: object) -> None:
    write(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def grid(seed: str) -> None:
    points = 100 + int(seed) % 7
    write("data/grid.txt", "\n".join(map(str, range(points))))
    metric("metrics/grid.json", rows=points)


def check() -> None:
    rows = len(Path("data/grid.txt").read_text(encoding="utf-8").splitlines())
    metric("metrics/validation/grid.json", success=True, expectations=3, failed=0, rows={"grid": rows}, results=[])
    write("data/checks/grid.ok", hashlib.sha256(Path("data/grid.txt").read_bytes()).hexdigest())


def crop(provider: str, quality: str) -> None:
    """Three shards of noise, below local/ for pictures that may not be shared."""
    kind = "local" if provider == "archive" else "shared"
    for split in ("train", "validation", "test"):
        for other in ("local", "shared"):
            make_folder(f"data/crops/{other}/{split}", other)
        shard = Path(f"data/crops/{kind}/{split}/{split}-00000.tar")
        shard.write_bytes(random.Random(f"{provider}{split}{quality}").randbytes(50_000))
    write("data/crops/images.txt", f"{kind} {quality}\n")
    metric("metrics/crop.json", images={"train": 30, "validation": 10, "test": 20}, quarantined=int(quality) % 5)


def train(seed: str, seconds: str) -> None:
    time.sleep(float(seconds))  # in place of real work
    shards = sorted(Path("data/crops").glob("*/train/*.tar"))
    write("models/weights.h5", seed + hashlib.sha256(b"".join(p.read_bytes() for p in shards)).hexdigest())


def evaluate(places: str) -> None:
    """Recall grows with the seed, so that a test chooses it."""
    seed = int(Path("models/weights.h5").read_text(encoding="utf-8")[:-64])
    recall = round(0.5 + seed / 1000, 4)
    bounds = {"recall_at_1_ci_low": round(recall - 0.02, 4), "recall_at_1_ci_high": round(recall + 0.02, 4)}
    metric("metrics/evaluate.json", test={"recall_at_1": recall, **bounds, "places": int(places)})
    write("metrics/plots/recall.csv", f"k,recall\n1,{recall}\n5,{min(1.0, recall + 0.1):.4f}\n")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
    with Path("ran.log").open("a", encoding="utf-8") as log:
        log.write(sys.argv[1] + "\n")
