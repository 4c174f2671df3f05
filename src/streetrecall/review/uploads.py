"""`streetrecall uploads`: list, and abort, the uploads that interrupted pushes left in the S3 remote.

A push that is killed while it sends a file of 100 MiB or more leaves an open multipart upload. The next `dvc push`
sends the whole file again, so nothing is lost. But the parts stay in the bucket and cost money until the upload is
aborted, by this command or by a lifecycle rule of the bucket (AbortIncompleteMultipartUpload).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError


@dataclass(frozen=True)
class Upload:
    """An upload that was started and not finished."""

    bucket: str
    key: str
    upload_id: str
    begun: datetime


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--remote", help="DVC remote (default: the project's default remote)")
    parser.add_argument(
        "--older-than",
        type=float,
        default=24.0,
        metavar="HOURS",
        help="ignore younger uploads, because a teammate may be pushing (%(default)s)",
    )
    parser.add_argument("--abort", action="store_true", help="abort the uploads; without it, list them")


def main(args: argparse.Namespace) -> None:
    before = datetime.now(UTC) - timedelta(hours=args.older_than)
    files, bucket, prefix = connect(Path.cwd(), args.remote)
    found = [upload for upload in open_uploads(files, bucket, prefix) if upload.begun <= before]
    for upload in found:
        print(f"{upload.begun:%Y-%m-%d %H:%M} {upload.bucket}/{upload.key}")
        if args.abort:
            ask(files, "abort_multipart_upload", bucket, Key=upload.key, UploadId=upload.upload_id)
    state = "aborted" if args.abort else "open; --abort removes them"
    print(f"{len(found)} uploads older than {args.older_than:g} hours {state}" if found else "No upload was left open.")


def connect(root: Path, remote: str | None) -> tuple[Any, str, str]:
    """The S3 file system of a DVC remote, with the credentials that DVC uses, its bucket and its prefix.

    Raises:
        UserError: there is no such remote, or it is not of type S3.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            store = repo.cloud.get_remote_odb(remote)
    except DvcException as error:
        raise UserError(f"remote '{remote or 'default'}': {error}") from error
    if store.fs.protocol != "s3":
        raise UserError(f"remote '{remote or 'default'}' is of type {store.fs.protocol}; only S3 has multipart uploads")
    bucket, _, prefix = store.path.partition("/")
    return store.fs.fs, bucket, prefix


def ask(files: Any, method: str, bucket: str, **arguments: str) -> dict[str, Any]:
    """The answer of S3 to one request.

    Raises:
        UserError: there are no keys, S3 refuses them, or it cannot be reached.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return dict(files.call_s3(method, Bucket=bucket, **arguments))
    except (BotoCoreError, ClientError, OSError) as error:
        raise UserError(
            f"bucket {bucket}: {error}; check the keys (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the "
            "endpoint of the remote (docs/team.md)"
        ) from error


def open_uploads(files: Any, bucket: str, prefix: str) -> list[Upload]:
    """All uploads below ``prefix`` that were started and not finished, oldest first."""
    found: list[Upload] = []
    marker: dict[str, str] = {}
    while True:
        page = ask(files, "list_multipart_uploads", bucket, Prefix=prefix, **marker)
        found += [Upload(bucket, u["Key"], u["UploadId"], u["Initiated"]) for u in page.get("Uploads", [])]
        if not page.get("IsTruncated"):
            return sorted(found, key=lambda upload: (upload.begun, upload.key))
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
