"""`streetrecall export`: descriptors, pairs and pictures of a bundle, for programs that build 3-D models from them.

`hloc-pairs` writes pairs of pictures as hloc and COLMAP's scripts read them: two names a line. `descriptors` writes
the descriptors of the gallery or of photos as HDF5 in hloc's layout, or as a NumPy array beside a table of names.
`pictures` writes the gallery's pictures under the same names, from the project that made the bundle.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streetrecall.bundle import layout
from streetrecall.bundle.answer import Bundle
from streetrecall.bundle.gallery import Gallery
from streetrecall.errors import UserError
from streetrecall.files import whole, write_array, write_text
from streetrecall.pictures.shards import ShardReader

log = logging.getLogger(__name__)

AT_ONCE = 256  # pictures whose neighbours are searched together


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    pairs = kinds.add_parser("hloc-pairs", help="pairs of pictures that look alike, two names a line")
    pairs.add_argument("--neighbours", type=int, default=20, help="pairs of each picture or photo (%(default)s)")
    pairs.add_argument("--photos", type=Path, nargs="+", default=[], help="pair these with the gallery, and not it")
    described = kinds.add_parser("descriptors", help="descriptors of the gallery, as .h5 (hloc's layout) or .npy")
    described.add_argument("--photos", type=Path, nargs="+", default=[], help="describe these, and not the gallery")
    pictures = kinds.add_parser("pictures", help="the gallery's pictures, under the names that the others write")
    pictures.add_argument("--project", type=Path, default=Path(), help="folder of the project with data/ (%(default)s)")
    for sub, metavar, text in (
        (pairs, "FILE", "file to write"),
        (described, "FILE", "file to write"),
        (pictures, "FOLDER", "folder to write"),
    ):
        sub.add_argument("--bundle", type=Path, default=Path("models/bundle"), help="bundle (%(default)s)")
        sub.add_argument("output", type=Path, metavar=metavar, help=text)


def main(args: argparse.Namespace) -> None:
    bundle = Bundle(args.bundle)
    gallery = bundle.gallery
    if args.kind == "pictures":
        written = write_pictures(gallery, bundle.kind, args.project, args.output)
        log.info("%s: %d pictures, %d of them new", args.output, len(gallery), written)
        return
    if args.kind == "descriptors":
        facts, descriptors = describe(bundle, args.photos) if args.photos else of_gallery(gallery)
        write_descriptors(facts, descriptors, args.output)
        log.info("%s: %d descriptors", args.output, len(descriptors))
        return
    if args.neighbours < 1:
        raise UserError(f"--neighbours {args.neighbours}: give 1 or more")
    found = photo_pairs(bundle, args.photos, args.neighbours) if args.photos else gallery_pairs(
        gallery, args.neighbours
    )  # fmt: skip
    lines = [f"{a} {b}\n" for a, b in found]
    write_text(args.output, "".join(lines))
    log.info("%s: %d pairs", args.output, len(lines))


def names(gallery: Gallery) -> NDArray[np.str_]:
    """A name for each row of the gallery: place, month and picture, as the pipeline knows them."""
    columns = gallery.columns
    months = np.where(columns["month"] == "", "undated", columns["month"])
    parts = zip(columns["place"].tolist(), months.tolist(), columns["picture"].tolist(), strict=True)
    return np.array([f"place{place:06d}/{month}_{picture:08d}.jpg" for place, month, picture in parts])


def gallery_pairs(gallery: Gallery, neighbours: int) -> Iterator[tuple[str, str]]:
    """Each picture with the most similar ones of other panoramas; a pair is listed once."""
    named, panorama = names(gallery), gallery.columns["panorama"]
    largest = int(np.bincount(panorama).max())
    listed = set()
    for start in range(0, len(gallery), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(gallery)))
        asked = gallery.descriptors[rows].astype(np.float32)
        found, _ = gallery.search(asked, min(neighbours + largest, len(gallery)))
        for row, answers in zip(rows.tolist(), found, strict=True):
            others = answers[(answers >= 0) & (panorama[np.maximum(answers, 0)] != panorama[row])]
            for other in others[:neighbours].tolist():
                if (other, row) not in listed:
                    listed.add((row, other))
                    yield str(named[row]), str(named[other])


def photo_pairs(bundle: Bundle, photos: list[Path], neighbours: int) -> Iterator[tuple[str, str]]:
    """Each photo with the most similar pictures of the gallery.

    Raises:
        UserError: a photo cannot be read, or its name holds a space, which ends a name in such a file.
    """
    named = names(bundle.gallery)
    for photo in photos:
        _require_name(photo)
        descriptors = bundle.see(photo).descriptors
        found, similar = bundle.gallery.search(descriptors, min(neighbours, len(bundle.gallery)))
        rows = found[found >= 0]
        order = np.argsort(-similar[found >= 0], kind="stable")
        for row in list(dict.fromkeys(rows[order].tolist()))[:neighbours]:
            yield str(photo), str(named[row])


def of_gallery(gallery: Gallery) -> tuple[dict[str, list[Any]], NDArray[np.float32]]:
    """Names and positions of the gallery's pictures, and their descriptors (n, d)."""
    facts = {
        "names": names(gallery).tolist(),
        "lat": gallery.columns["lat"].tolist(),
        "lon": gallery.columns["lon"].tolist(),
    }
    return facts, gallery.descriptors[:].astype(np.float32)


def describe(bundle: Bundle, photos: list[Path]) -> tuple[dict[str, list[Any]], NDArray[np.float32]]:
    """Names of photos and their descriptors (n, d) by a bundle; a sphere has the mean of its views.

    Raises:
        UserError: as `photo_pairs`.
    """
    for photo in photos:
        _require_name(photo)
    means = [bundle.see(photo).descriptors.mean(axis=0) for photo in photos]
    return {"names": list(map(str, photos))}, np.stack([mean / np.linalg.norm(mean) for mean in means])


def write_descriptors(facts: dict[str, list[Any]], descriptors: NDArray[np.float32], output: Path) -> None:
    """Write ``descriptors`` (n, d), float32, with the names of their pictures.

    ``.h5``: a group for each picture with the data set ``global_descriptor`` (d,), as hloc writes and reads it.
    ``.npy``: an array (n, d), with ``facts`` in FILE.json beside it.

    Raises:
        UserError: another kind of file is asked for, or h5py is not installed.
    """
    if output.suffix == ".npy":
        write_array(output, descriptors)
        write_text(output.with_suffix(".json"), json.dumps(facts))
        return
    if output.suffix not in (".h5", ".hdf5"):
        raise UserError(f"{output}: descriptors are written as .h5 or .npy; choose such a name")
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{output}: HDF5 needs h5py: pip install h5py, or write .npy") from error
    with whole(output) as partial, h5py.File(partial, "w", track_order=True) as file:
        for name, descriptor in zip(facts["names"], descriptors, strict=True):
            file.create_group(name).create_dataset("global_descriptor", data=descriptor)


def write_pictures(gallery: Gallery, kind: str, project: Path, output: Path) -> int:
    """Write the gallery's pictures below ``output``, as the pipeline stores them; returns how many were not there.

    Raises:
        UserError: the project is not the one that made the bundle, or a picture of it is missing.
    """
    from streetrecall import tables

    table, key, path = {
        layout.VIEWS: (tables.VIEWS, "view_id", project / "data/views/views.parquet"),
        layout.PICTURES: (tables.IMAGES, "image_id", project / "data/crops/images.parquet"),
    }[kind]
    rows = tables.read(table, path).set_index(key)
    wanted = gallery.columns["picture"].tolist()
    unknown = set(wanted) - set(rows.index)
    if unknown or rows.loc[wanted, "place"].tolist() != gallery.columns["place"].tolist():
        raise UserError(f"{path}: of another run than the bundle; `dvc repro bundle` makes both again")
    members = rows.loc[wanted, ["shard", "offset", "size"]].itertuples(index=False, name=None)
    written = 0
    with ShardReader(path.parent) as reader:
        for name, (shard, offset, size) in zip(names(gallery).tolist(), members, strict=True):
            data = reader.read(str(shard), int(offset), int(size))
            file = output / name
            if not file.is_file() or file.read_bytes() != data:
                with whole(file) as partial:
                    partial.write_bytes(data)
                written += 1
    return written


def _require_name(photo: Path) -> None:
    if any(c.isspace() for c in str(photo)):
        raise UserError(f"{photo}: a name in a file of pairs holds no space; rename the photo")
