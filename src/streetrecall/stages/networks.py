"""Stage `networks`: describe pictures, views and photos by networks of others, to compare the model with them.

``baseline.networks`` names them; without any, the stage reads no picture.
"""

from __future__ import annotations

import argparse
import io
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from streetrecall.errors import UserError
from streetrecall.files import require_in_project, write_json
from streetrecall.params.schema import NetworkFile, load
from streetrecall.pictures import shards
from streetrecall.progress import progress
from streetrecall.retrieval.described import describe_asked, pictures_in_use, write_descriptors
from streetrecall.retrieval.others import OtherNetwork

FACTS = "networks.json"  # pictures and dimensions by network, in the folder of the networks' folders
_FED = 32  # pictures given to a network by one call


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=Path, required=True, help="folder of images.parquet and its shards")
    parser.add_argument("--views", type=Path, required=True, help="folder of views.parquet and its shards")
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos.parquet and its shards")
    parser.add_argument("--files", type=Path, required=True, help="folder of the networks' files")
    parser.add_argument("--networks", type=Path, required=True, help="folder to write: descriptors by each network")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.networks)
    params = load(args.params)
    threads = params.train.threads
    run(params.baseline.networks, args.files, threads, args.crops, args.views, args.photos, args.networks)


def run(
    networks: list[NetworkFile], files: Path, threads: int, crops: Path, views: Path, photos: Path, out: Path
) -> None:
    """Write the descriptors of each of ``networks``, whose files are in ``files``, to the folder ``out``/NAME.

    They are of the pictures, of the gallery's views and of the photos, as the stage index writes them for the model.
    ``out``/networks.json says how many there are.

    Raises:
        UserError: a network cannot be used, every picture is in quarantine, or a shard is missing or damaged.
    """
    opened = [OtherNetwork(network, files, threads) for network in networks]  # before any work
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    facts = {}
    for settings, network in zip(networks, opened, strict=True):
        used = pictures_in_use(crops)
        by_network = partial(describe, network, settings.size)
        descriptors = by_network(crops, used.images)
        write_descriptors(out / settings.name, used.rows, descriptors)
        seen, asked = describe_asked(by_network, by_network, views, photos, out / settings.name)
        described = {"pictures": len(descriptors), "views": len(seen), "photos": len(asked)}
        facts[settings.name] = described | {"dimensions": int(descriptors.shape[1])}
    write_json(out / FACTS, facts)


def describe(network: OtherNetwork, size: int, folder: Path, where: pd.DataFrame) -> NDArray[np.float16]:
    """Descriptors (n, d) by a network of the pictures at ``where`` (shard, offset, size) in ``folder``, in that order.

    Of a picture that is no square, the network sees the middle. Without pictures the shape is (0, 0).
    """
    members = list(zip(where["shard"].tolist(), where["offset"].tolist(), where["size"].tolist(), strict=True))
    parts = []
    with shards.ShardReader(folder) as reader, progress(len(members), network.path.stem, "picture") as bar:
        for start in range(0, len(members), _FED):
            pictures = np.stack([_coloured(reader, folder, m, size) for m in members[start : start + _FED]])
            parts.append(network.describe(pictures).astype(np.float16))
            bar.update(len(pictures))
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float16)


def _coloured(reader: shards.ShardReader, folder: Path, member: tuple[str, int, int], size: int) -> NDArray[np.uint8]:
    shard, offset, _ = member
    try:
        with Image.open(io.BytesIO(reader.read(*member))) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BICUBIC))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{folder / shard}: there is no picture at {offset} ({error}); dvc checkout restores the shard"
        ) from error
