"""`streetrecall locate PHOTO...`: where was each photo taken? Answers from a bundle (docs/locate.md).

Exit status: 0 all photos are answered, 3 an answer is withheld, 2 a photo cannot be read. The others are answered then.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetrecall.errors import UserError

if TYPE_CHECKING:
    from streetrecall.bundle.answer import Answer, Bundle, Seen

BUNDLE, ENVIRONMENT = "models/bundle", "STREETRECALL_BUNDLE"
ANSWERED, BAD_INPUT, WITHHELD = 0, 2, 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG, WebP, HEIC or AVIF")
    parser.add_argument(
        "--bundle", type=Path, default=os.environ.get(ENVIRONMENT) or BUNDLE,
        help=f"folder that the stage bundle wrote (${ENVIRONMENT}, else {BUNDLE})",
    )  # fmt: skip
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print a JSON object for each answer, one per line")
    shape.add_argument("--geojson", action="store_true", help="print one GeoJSON FeatureCollection")
    parser.add_argument("--together", action="store_true", help="all photos are of one spot: one answer for all")
    parser.add_argument("--quick", action="store_true", help="leave out the comparison of points: faster, less good")
    parser.add_argument("--why", type=Path, metavar="FILE.png", help="draw what the photo and the best answer share")
    parser.add_argument("--threads", type=int, help="threads to use (all cores)")


def main(args: argparse.Namespace) -> int:
    from streetrecall.bundle.answer import Bundle

    if args.threads is not None and args.threads < 1:
        raise UserError(f"--threads {args.threads}: give 1 or more")
    if args.why and args.why.suffix.lower() != ".png":
        raise UserError(f"--why {args.why}: the drawing is a PNG, so its name must end in .png")
    bundle = Bundle(args.bundle, args.threads)
    status = ANSWERED
    groups: list[list[Seen]] = []
    answers: list[Answer] = []
    for path in args.photos:
        try:
            groups.append([bundle.see(path)])
        except UserError as error:
            print(f"streetrecall locate: {error}", file=sys.stderr)
            status = BAD_INPUT
            continue
        if not args.together:
            answers.append(bundle.answer_seen(groups[-1], not args.quick))
            _show(answers[-1], bundle, args)
            if not args.why:
                groups.pop()  # its pixels
    if args.together and groups:
        groups = [[seen for group in groups for seen in group]]
        answers.append(bundle.answer_seen(groups[0], not args.quick))
        _show(answers[-1], bundle, args)
    if args.geojson:
        print(json.dumps(as_geojson(answers, bundle), ensure_ascii=False))
    if args.why and answers:
        _draw(bundle, groups, answers, args.why)
    if status == ANSWERED and any(answer.withheld for answer in answers):
        return WITHHELD
    return status


def _show(answer: Answer, bundle: Bundle, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(as_json(answer), ensure_ascii=False), flush=True)
    elif not args.geojson:
        print(as_text(answer, bundle), flush=True)


def _draw(bundle: Bundle, groups: list[list[Seen]], answers: list[Answer], target: Path) -> None:
    """Draw each answer; of several answers each has a file of its own."""
    from streetrecall.bundle.why import draw

    for number, (group, answer) in enumerate(zip(groups, answers, strict=True), 1):
        path = target if len(answers) == 1 else target.with_stem(f"{target.stem}-{number}")
        if not answer.neighbours:
            continue
        try:
            draw(bundle, group, answer, path)
        except OSError as error:
            raise UserError(f"--why {path}: {error.strerror or error}; choose another file") from error
        print(f"drawn: {path}", file=sys.stderr)


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer as a JSON object. A withheld one has no position; its neighbours show what was found."""
    content = asdict(answer)
    shown = not answer.withheld
    position = {"lat": content.pop("lat"), "lon": content.pop("lon")}
    radius = {"radius_m": content.pop("radius_m"), "coverage": content.pop("coverage")}
    out = {"photos": content.pop("photos"), "position": position if shown else None, **radius, **content}
    if not shown:
        out["radius_m"] = None
        for item in (*out["neighbours"], *out["said"]):
            item.pop("distance_m")
    return out


def as_geojson(answers: list[Answer], bundle: Bundle) -> dict[str, Any]:
    """Answers as a FeatureCollection: a point for each answered group of photos, and one for each of its neighbours."""
    features = []
    for answer in answers:
        content = as_json(answer)
        about = {name: content[name] for name in ("photos", "radius_m", "coverage", "withheld", "reason", "confidence")}
        point = None if answer.withheld else {"type": "Point", "coordinates": [answer.lon, answer.lat]}
        features.append({"type": "Feature", "geometry": point, "properties": {"role": "answer", **about}})
        for rank, neighbour in enumerate(content["neighbours"], 1):
            where = {"type": "Point", "coordinates": [neighbour.pop("lon"), neighbour.pop("lat")]}
            properties = {"role": "neighbour", "photos": answer.photos, "rank": rank, **neighbour}
            features.append({"type": "Feature", "geometry": where, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def as_text(answer: Answer, bundle: Bundle) -> str:
    """An answer as a person reads it."""
    lines = [", ".join(_printable(name) for name in answer.photos)]
    if answer.withheld:
        lines.append(f"  withheld: {answer.reason}")
    else:
        lines.append(f"  {answer.lat:.6f}, {answer.lon:.6f}{_radius(answer)}")
    if answer.neighbours:
        lines.append("  place     month    direction  similarity  points  from the answer")
    for n in answer.neighbours:
        direction = "-" if n.direction_deg is None else f"{n.direction_deg:.0f}°"
        inliers = "-" if n.inliers is None else str(n.inliers)
        metres = "-" if answer.withheld else f"{n.distance_m:.0f} m"
        when = n.month or "undated"
        lines.append(f"  {n.place:<8}  {when:<7}  {direction:>9}  {n.similarity:>10.3f}  {inliers:>6}  {metres:>15}")
    for said in answer.said:
        away = "" if answer.withheld else f", {_length(said.distance_m)} from the answer"
        lines.append(f"  the photo {_printable(said.name)} itself says {said.lat:.6f}, {said.lon:.6f}{away} (not used)")
    licences = sorted({f"{n.attribution} ({n.licence})" for n in answer.neighbours if n.attribution or n.licence})
    if licences:
        lines.append(f"  pictures: {'; '.join(licences)}")
    return "\n".join(lines)


def _radius(answer: Answer) -> str:
    if answer.radius_m is None or math.isnan(answer.radius_m):
        return ", error unknown: there were too few photos to calibrate a radius"
    return f" within {_length(answer.radius_m)} ({answer.coverage:.0%} of such answers are)"


def _length(metres: float) -> str:
    """
    >>> _length(42.4), _length(1234567)
    ('42 m', '1,235 km')
    """
    return f"{metres:.0f} m" if metres < 10_000 else f"{metres / 1000:,.0f} km"


def _printable(name: str) -> str:
    """``name`` without characters that would change the terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)
