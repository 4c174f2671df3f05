"""`streetrecall import FOLDER`: what a folder of pictures holds, and what the provider `folder` leaves out and why."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streetrecall.geo import city_polygon
from streetrecall.params.schema import Params, load
from streetrecall.polygons import contains, read_polygon
from streetrecall.providers.folder.provider import OUTSIDE, FolderProvider, anchors_of
from streetrecall.providers.folder.scan import EXIF, NAMES, POLYGON, TABLE, Scan, scan, unknown
from streetrecall.providers.shots import Shot

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
    """What the folder holds. Pictures outside the city's polygon are among those left out.

    Raises:
        UserError: there is no such folder, or its table or polygon cannot be read.
    """
    root = FolderProvider(params).root
    found = scan(root, params.folder)
    own = root / POLYGON
    if params.city.name != "auto":
        path = city_polygon(CITIES, params.city.name)
    elif own.is_file():
        path = own
    else:
        return found
    polygon = read_polygon(path, params.city.crs, params.grid.features)
    inside = contains(polygon, [s.lon for s in found.shots], [s.lat for s in found.shots])
    left_out = [(s.source, f"{OUTSIDE}; {path}") for s, kept in zip(found.shots, inside, strict=True) if not kept]
    shots = [s for s, kept in zip(found.shots, inside, strict=True) if kept]
    return Scan(shots, found.left_out + left_out, found.layouts, found.other_files)


def report(found: Scan, params: Params, every: bool = False) -> Iterator[str]:
    """The lines to print: what can be used, what of it is unknown, what is left out, and what to do next."""
    shots = found.shots
    origin = ", ".join(f"{count} by {SOURCES[layout]}" for layout, count in sorted(found.layouts.items()) if count)
    yield f"{params.folder.path}: {len(shots)} pictures can be used" + (f" ({origin})" if origin else "")
    if shots:
        yield from _known(shots, params)
    if found.other_files:
        yield f"{found.other_files} other files are no JPEG or PNG pictures"
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
