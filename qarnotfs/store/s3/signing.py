"""Requests without a body as HTTP/1.1 sends them, with Amazon's signature, version 4. Pure.

Used by `heads`, which does without a library's request objects. Tested against botocore.
"""

from __future__ import annotations

import hashlib
import hmac

NO_BODY = hashlib.sha256().hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"


class Signer:
    """Signs for one moment, ``now`` as ``20261126T094100Z``."""

    def __init__(
        self, access_key: str, secret_key: str, token: str | None, region: str, now: str
    ) -> None:
        date = now[:8]
        key = f"AWS4{secret_key}".encode()
        for part in (date, region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key, self._now = key, now
        self._scope = f"{date}/{region}/s3/aws4_request"
        self._credential = f"{access_key}/{self._scope}"
        self._extra = {"x-amz-content-sha256": NO_BODY, "x-amz-date": now}
        if token:
            self._extra["x-amz-security-token"] = token

    def request(self, method: str, host: str, path: str) -> bytes:
        """The whole request for an escaped ``path`` without a query."""
        headers = {"host": host, **self._extra}
        names = ";".join(headers)
        canonical = "\n".join(
            [method, path, "", *(f"{n}:{v}" for n, v in headers.items()), "", names, NO_BODY]
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join([ALGORITHM, self._now, self._scope, digest])
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            f"authorization: {ALGORITHM} Credential={self._credential},"
            f" SignedHeaders={names}, Signature={signature}",
            "\r\n",
        ]
        return "\r\n".join(lines).encode()
