"""S3 that refuses, or that is not there, is one message."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from streetrecall.errors import UserError
from streetrecall.review import uploads

REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListMultipartUploads")


@pytest.mark.parametrize("error", [NoCredentialsError(), REFUSED, PermissionError("Forbidden"), TimeoutError("slow")])
def test_a_refusal_is_one_message(error: Exception) -> None:
    class Files:
        def call_s3(self, *_: Any, **__: Any) -> None:
            raise error

    with pytest.raises(UserError, match=r"^bucket some: .*; check the keys \(AWS_ACCESS_KEY_ID"):
        uploads.open_uploads(Files(), "some", "")
