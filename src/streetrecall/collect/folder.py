"""`streetrecall import FOLDER`: what a folder of pictures holds, and what the provider `folder` leaves out and why."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from streetrecall.geo import city_polygon
from streetrecall.params.schema import Params, load
from streetrecall.polygons import contains, read_polygon
from streetrecall.progress import progress
from streetrecall.providers.folder.provider import OUTSIDE, FolderProvider, anchors_of
from streetrecall.providers.folder.scan import EXIF, NAMES, POLYGON, TABLE, Scan, problem_of, scan, unknown
from streetrecall.providers.folders import printable
from streetrecall.providers.shots import Shot

READERS = 8
SHOWN = 3  # examples of each reason
SOURCES = {TABLE: "a table", NAMES: "file names (@UTM...@.jpg)", EXIF: "EXIF"}
CITIES = Path("data/cities")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", help="folder of pictures (folder.path of params.yaml)")
    parser.add_argument("--all", action="store_true", help="list every picture that is left out")


def main(args: argparse.Namespace) -> int:
    params = load(args.params)
    if args.folder is not None:
        params = params.model_copy(update={"folder": params.folder.model_copy(update={"path": str(args.folder)})})
    found = look(params)
    for line in report(found, params, every=args.all):
        print(line)
    return 0 if found.shots else 2


def look(params: Params) -> Scan:
    """What the folder holds. Pictures outside the city's polygon, and unreadable ones, are among those left out.

    A picture whose position stands in a table or in its name is opened too, and judged as the stages do.

    Raises:
        UserError: there is no such folder, or its table or polygon cannot be read.
    """
    root = FolderProvider(params).root
    found = scan(root, params.folder)
    problems = dict(zip(sorted(found.unread), _judged(root, sorted(found.unread)), strict=True))
    found = _without(found, {source: f"unreadable; {why}" for source, why in problems.items() if why})
    own = root / POLYGON
    if params.city.name != "auto":
        path = city_polygon(CITIES, params.city.name)
    elif own.is_file():
        path = own
    else:
        return found
    polygon = read_polygon(path, params.city.crs, params.grid.features)
    inside = contains(polygon, [s.lon for s in found.shots], [s.lat for s in found.shots])
    outside = [s.source for s, kept in zip(found.shots, inside, strict=True) if not kept]
    return _without(found, dict.fromkeys(outside, f"{OUTSIDE}; {path}"))


def _judged(root: Path, sources: Sequence[str]) -> Iterator[str]:
    """Why each of the pictures cannot be used; empty for those that can. The disk is read by several threads."""
    with ThreadPoolExecutor(READERS) as pool, progress(len(sources), "import", "picture") as bar:
        for problem in pool.map(lambda source: problem_of(root / source), sources):
            bar.update(1)
            yield problem


def _without(found: Scan, reasons: Mapping[str, str]) -> Scan:
    """``found`` with the shots of these sources left out, each with its reason."""
    left_out = [(printable(s.source), reasons[s.source]) for s in found.shots if s.source in reasons]
    shots = [s for s in found.shots if s.source not in reasons]
    return replace(found, shots=shots, left_out=found.left_out + left_out)


def report(found: Scan, params: Params, every: bool = False) -> Iterator[str]:
    """The lines to print: what can be used, what of it is unknown, what is left out, and what to do next."""
    shots = found.shots
    layouts = Counter(found.layouts[shot.source] for shot in shots)
    origin = ", ".join(f"{count} by {SOURCES[layout]}" for layout, count in sorted(layouts.items()))
    yield f"{params.folder.path}: {len(shots)} pictures can be used" + (f" ({origin})" if origin else "")
    if shots:
        yield from _known(shots, params)
    if found.other_files:
        yield f"{found.other_files} other files are no pictures"
    if found.left_out:
        yield f"{len(found.left_out)} left out:"
    for reason, count in Counter(reason.partition(";")[0] for _, reason in found.left_out).most_common():
        yield f"  {count} {reason}"
        of_reason = [(source, text) for source, text in found.left_out if text.partition(";")[0] == reason]
        for source, text in of_reason if every else of_reason[:SHOWN]:
            detail = text.partition(";")[2]
            yield f"    {source}{':' * bool(detail)}{detail}"
    if shots:
        yield f"Next: streetrecall set provider=folder folder.path={params.folder.path}, then dvc repro"


def _known(shots: Sequence[Shot], params: Params) -> Iterator[str]:
    anchors = Counter(anchor.shot_id for anchor in anchors_of(shots, params))
    spheres = sum(shot.sphere for shot in shots)
    months = sorted({shot.month for shot in shots} - {""})
    no_heading, no_month = unknown(shots)
    lat, lon = np.array([s.lat for s in shots]), np.array([s.lon for s in shots])
    yield f"  {len(anchors)} places (folder.place_m: {params.folder.place_m:g}), {spheres} 360-degree pictures"
    yield f"  latitude {lat.min():.5f} to {lat.max():.5f}, longitude {lon.min():.5f} to {lon.max():.5f}"
    yield f"  months {months[0]} to {months[-1]}, {len(months)} of them" if months else "  no month is known"
    if no_heading:
        yield f"  {no_heading} without a heading: they count as direction 0"
    if no_month:
        yield f"  {no_month} without a month: they count as the oldest pictures of their place"
    for (split, role), count in sorted(Counter((s.split, s.role) for s in shots if s.split).items()):
        yield f"  {split}{' ' * bool(role)}{role}: {count} pictures"
