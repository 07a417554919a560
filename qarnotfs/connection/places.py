"""URLs and certificate files as people name them: checked before anything is sent there.

Used by `connection` and `login`. Reads no certificate, only finds it.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from qarnotfs.errors import UsageError


def checked_url(text: str, name: str) -> str:
    """``text`` without a slash at its end; ``name`` says where it came from."""
    try:
        url = urlsplit(text.strip())
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{name} must be a URL such as https://storage.example.com.")
    if url.username is not None or url.query or url.fragment:
        raise UsageError(f"{name} must be a plain URL, without user, query or fragment.")
    return url.geturl().rstrip("/")


def checked_ca(path: str | Path, name: str) -> str:
    if not Path(path).is_file():
        raise UsageError(f"{name} names {path}, which is no file of certificates.")
    return str(path)


def trusted_ca() -> str:
    """What this machine trusts, so that each library trusts the same: boto3 would look into
    the bundle it brings along, awscrt into the system's. ``SSL_CERT_FILE`` is honoured."""
    if given := ssl.get_default_verify_paths().cafile:
        return given
    from botocore.httpsession import get_cert_path  # 0.2 s

    return str(get_cert_path(True))
