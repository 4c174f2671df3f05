"""Read what the shards hold, so that the suites of captures and crops can compare it with their tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from streetrecall.errors import UserError
from streetrecall.pictures.shards import ShardReader
from streetrecall.pictures.structure import NotAPictureError, read_structure


def read(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Hash, format and size of each row's picture, read from its shard; columns ``read_*``, with the index of ``rows``.

    ``read_error`` is null for a whole picture, as `read_structure` decides. Pixels are not decoded: the hash shows that
    they are the ones that the stage wrote.
    """
    answers: list[tuple[str | None, str, int, int, str | None]] = []
    with ShardReader(root) as shards:
        for shard, offset, size in zip(rows["shard"], rows["offset"], rows["size"], strict=True):
            try:
                data = shards.read(shard, int(offset), int(size))
            except (UserError, OSError) as error:
                answers.append((None, "", 0, 0, str(error).removeprefix(f"{root}/")))
                continue
            answers.append((hashlib.sha256(data).hexdigest(), *_header(data)))
    columns = ["read_sha256", "read_format", "read_width", "read_height", "read_error"]
    return pd.DataFrame(answers, columns=columns, index=rows.index).astype(
        {"read_sha256": "str", "read_format": "str", "read_error": "str", "read_width": "int64", "read_height": "int64"}
    )


def _header(data: bytes) -> tuple[str, int, int, str | None]:
    try:
        found = read_structure(data)
    except NotAPictureError as error:
        return "", 0, 0, str(error)
    return found.format, found.width, found.height, None
