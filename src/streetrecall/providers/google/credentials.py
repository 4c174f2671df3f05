"""The user's credentials for Google Maps Platform. They come from the environment alone, and no text shows them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass
from urllib.parse import quote

from streetrecall.errors import UserError
from streetrecall.providers.http import Secret


@dataclass(frozen=True)
class Credentials:
    """The API key, and the secret that signs requests where the account has one."""

    key: Secret
    secret: Secret | None = None

    @classmethod
    def from_environment(cls) -> Credentials:
        """Those of STREETRECALL_GOOGLE_KEY and STREETRECALL_GOOGLE_SECRET.

        Raises:
            UserError: there is no key, or the secret is not base64 (the text contains neither).
        """
        key = os.environ.get("STREETRECALL_GOOGLE_KEY", "").strip()
        if not key:
            raise UserError(
                "provider 'google': set STREETRECALL_GOOGLE_KEY in the environment to your own Maps Platform key"
            )
        secret = os.environ.get("STREETRECALL_GOOGLE_SECRET", "").strip()
        try:
            base64.urlsafe_b64decode(secret)
        except (binascii.Error, ValueError):
            raise UserError("STREETRECALL_GOOGLE_SECRET: not a URL signing secret (base64url, ending in '=')") from None
        return cls(Secret(key), Secret(secret) if secret else None)

    def with_key(self, path_and_query: str) -> str:
        """``path_and_query`` with the key."""
        return f"{path_and_query}{'&' if '?' in path_and_query else '?'}key={quote(self.key.reveal(), safe='')}"

    def seal(self, path_and_query: str) -> str:
        """``path_and_query`` with the key and, where there is a secret, the signature."""
        sealed = self.with_key(path_and_query)
        if self.secret is not None:
            sealed += f"&signature={sign(sealed, self.secret.reveal())}"
        return sealed

    def redact(self, text: str) -> str:
        """``text`` without the credentials."""
        for secret in (self.key, self.secret):
            if secret is not None:
                text = text.replace(secret.reveal(), "***").replace(quote(secret.reveal(), safe=""), "***")
        return text


def sign(path_and_query: str, secret: str) -> str:
    """The URL signature of Google Maps Platform: base64url(HMAC-SHA1(base64url-decoded secret, path?query)).

    >>> sign("/maps/api/geocode/json?address=New+York&client=clientID", "vNIXE0xscrmjlyV-12Nj_BvUPaw=")
    'chaRF2hTJKOScPr-RQCEhZbSzIE='
    """
    digest = hmac.new(base64.urlsafe_b64decode(secret), path_and_query.encode(), hashlib.sha1).digest()
    return base64.urlsafe_b64encode(digest).decode()
