"""What a folder of pictures holds: each picture that can be used, and what is left out and why."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streetrecall.params.schema import Folder
from streetrecall.pictures.formats import CONVERTED, open_other, require_picture
from streetrecall.pictures.structure import NotAPictureError, kind_of, read_structure
from streetrecall.providers.folder import exif, names, table
from streetrecall.providers.folders import Found, UnreadableError, opened, printable, walk
from streetrecall.providers.shots import Shot

# What a picture may be called; its content decides which format it is.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".hif", ".avif")
POLYGON = "polygon.geojson"
TABLE, NAMES, EXIF = "table", "names", "exif"  # where a folder's positions come from


@dataclass(frozen=True)
class Scan:
    """``shots``: the usable pictures, by path. ``left_out``: (path or line, reason); details follow a semicolon.

    ``layouts`` says by source where the position of a shot comes from; ``other_files`` are no pictures. ``unread`` are
    the sources of shots whose pictures were not looked at, because their positions stand elsewhere or because they can
    only be judged by decoding them: `problem_of` does it.
    """

    shots: list[Shot]
    left_out: list[tuple[str, str]]
    layouts: dict[str, str]
    other_files: int
    unread: frozenset[str] = frozenset()


def list_files(root: Path) -> list[Found]:
    """All pictures below ``root``, the tables and the polygon. Other files decide nothing."""
    return [f for f in walk(root) if f.problem or _is_picture(f.path) or f.path in (*table.NAMES, POLYGON)]


def scan(root: Path, settings: Folder) -> Scan:
    """Read the positions, times and headings of all pictures below ``root``.

    A table decides alone which pictures there are. Without one, a name of the field's pattern counts before the photo's
    own metadata. Of files with the same bytes the first is used; those whose role is given are all used, because
    numbers that others published count each file.

    Raises:
        UserError: the table cannot be read.
    """
    files = walk(root)
    left_out: list[tuple[str, str]] = []
    usable = {f.path: f for f in files if not f.problem and _is_picture(f.path)}
    left_out += [(printable(f.path), f"unreadable; {f.problem}") for f in files if f.problem]
    other = sum(not f.problem and not _is_picture(f.path) and f.path not in (*table.NAMES, POLYGON) for f in files)
    tables = [name for name in table.NAMES if any(f.path == name and not f.problem for f in files)]
    layouts: dict[str, str] = {}
    judged: set[str] = set()
    if tables:
        shots = _of_table(root / tables[0], usable, settings, left_out)
        layouts = {shot.source: TABLE for shot in shots}
        left_out += [(name, f"another table; {tables[0]} is used") for name in tables[1:]]
    else:
        shots = []
        for path in usable:
            layout, shot = _of_file(root, path, settings, judged)
            if isinstance(shot, str):
                left_out.append((printable(path), shot))
            else:
                shots.append(shot)
                layouts[shot.source] = layout
    same = _copies(root, [usable[shot.source] for shot in shots if not shot.role])
    left_out += [(printable(path), f"duplicate; the same file as {printable(first)}") for path, first in same.items()]
    shots = [shot for shot in shots if shot.source not in same]
    if any(shot.split for shot in shots):
        left_out += [(shot.source, "no split, and others have one") for shot in shots if not shot.split]
        shots = [shot for shot in shots if shot.split]
    return Scan(shots, left_out, layouts, other, frozenset(shot.source for shot in shots) - judged)


def problem_of(path: Path) -> str:
    """Why a file is not a picture that the stages can take; empty if it is one."""
    try:
        with opened(path) as file:
            require_picture(file.read())
    except (UnreadableError, NotAPictureError) as error:
        return str(error)
    return ""


def _of_table(path: Path, usable: dict[str, Found], settings: Folder, left_out: list[tuple[str, str]]) -> list[Shot]:
    shots: dict[str, Shot] = {}
    for where, row in table.read_table(path):
        if isinstance(row, str):
            left_out.append((where, f"a line that cannot be used; {row}"))
        elif row.path not in usable:
            left_out.append((where, f"no such picture; {printable(row.path)}"))
        elif row.path in shots:
            left_out.append((where, f"listed twice; {printable(row.path)}"))
        else:
            shots[row.path] = Shot(
                row.path, row.lat, row.lon, row.month, row.heading_deg, row.sphere, row.licence or settings.licence,
                row.attribution or settings.attribution, row.path, taken=row.taken, place=row.place, split=row.split,
                role=row.role,
            )  # fmt: skip
    listed = set(shots)
    left_out += [(printable(found), "not in the table") for found in usable if found not in listed]
    return list(shots.values())


def _of_file(root: Path, path: str, settings: Folder, judged: set[str]) -> tuple[str, Shot | str]:
    """The layout that a file follows, and its shot or why it is not used. A whole picture is added to ``judged``."""
    split, role = names.read_folders(path)
    common = {"source": path, "split": split, "role": role}
    name = path.rpartition("/")[2]
    if not path.isprintable():
        return EXIF, "its name cannot be printed"
    if name.startswith("@"):
        named = names.read_name(name)
        if isinstance(named, str):
            return NAMES, f"no usable name; {named}"
        return NAMES, Shot(
            path, named.lat, named.lon, named.month, named.heading_deg, False, settings.licence, settings.attribution,
            sequence=named.pano, taken=named.taken, **common,
        )  # fmt: skip
    try:
        with opened(root / path) as file:
            data = file.read()
        if kind_of(data) in CONVERTED:
            open_other(data, kind_of(data))
        else:
            read_structure(data)
            judged.add(path)
    except (UnreadableError, NotAPictureError) as error:
        return EXIF, f"unreadable; {error}"
    known = exif.read_known(data)
    if known.lat != known.lat:
        return EXIF, "no GPS position"
    if known.part_of_a_sphere:
        return EXIF, "a part of a 360-degree picture"
    return EXIF, Shot(
        path, known.lat, known.lon, known.month, known.heading_deg, known.sphere, known.copyright or settings.licence,
        known.author or settings.attribution, taken=known.taken, **common,
    )  # fmt: skip


def _copies(root: Path, files: Sequence[Found]) -> dict[str, str]:
    """Files with the same bytes as an earlier one, and which. Only files of equal size are read."""
    sizes = defaultdict(list)
    for found in files:
        if found.status is not None:
            sizes[found.status.st_size].append(found.path)
    same: dict[str, str] = {}
    for paths in sizes.values():
        first: dict[str, str] = {}
        for path in paths if len(paths) > 1 else ():
            try:
                with opened(root / path) as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except UnreadableError:
                continue
            if first.setdefault(digest, path) != path:
                same[path] = first[digest]
    return same


def _is_picture(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def unknown(shots: Sequence[Shot]) -> tuple[int, int]:
    """How many of the shots have no heading, and how many no month."""
    return sum(shot.heading_deg != shot.heading_deg for shot in shots), sum(shot.month == "" for shot in shots)
