"""Who we are, where the object store is, and whom we trust: what both libraries share.

Made by `connection`, used by `S3Store`. Shows no credentials. boto3 is loaded when its client
is first asked for: it takes 0.4 s and 15 MiB, and what concerns keys needs none of it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from qarnotfs.errors import Unavailable
from qarnotfs.store.base import give_up_sec
from qarnotfs.store.s3.wire import mended

if TYPE_CHECKING:
    import boto3
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client, S3ServiceResource

CONNECT_TIMEOUT_SEC = 10
READ_TIMEOUT_SEC = 60
ATTEMPTS_MAX = 3  # callers repeat for as long as it takes
CONNECTIONS_MAX = 32  # threads that may call at the same time: the bridge's 16, and others'

_MAKING = RLock()  # from Python 3.12 on, no cached property has one


class Keys(NamedTuple):
    """Credentials of one moment. The only value here that may not be shown."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Keys(...)"


@dataclass(frozen=True)
class Access:
    """One endpoint and one identity.

    ``login``: credentials that stay as they are, or botocore's session, which finds them and
    refreshes those that end. ``url``: ``None`` for AWS itself. ``ca_file`` holds the
    certificates to trust, in PEM. ``verify`` false accepts any certificate.
    """

    login: Keys | Session = field(repr=False)
    url: str | None
    region: str
    ca_file: str | None
    verify: bool

    @property
    def client(self) -> S3Client:
        """The boto3 client that everyone shares; it is safe to use from several threads."""
        with _MAKING:
            return self._client

    @property
    def resource(self) -> S3ServiceResource:
        with _MAKING:
            return self._resource

    @cached_property
    def _client(self) -> S3Client:
        made: S3Client = self._boto.client("s3", **self._settings())
        _dress(made)
        return made

    @cached_property
    def _resource(self) -> S3ServiceResource:
        made: S3ServiceResource = self._boto.resource("s3", **self._settings())
        _dress(made.meta.client)
        return made

    @property
    def endpoint(self) -> str:
        """The URL that requests really go to, AWS included."""
        return (self.url or self.client.meta.endpoint_url).rstrip("/")

    @property
    def is_aws(self) -> bool:
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def has_proxy(self) -> bool:
        """Whether the environment names a proxy for the endpoint."""
        from urllib.request import getproxies, proxy_bypass

        url = urlsplit(self.endpoint)
        return url.scheme in getproxies() and not proxy_bypass(url.netloc)

    def keys(self) -> Keys:
        """The credentials as they are now; refreshes them when they are about to end.

        Raises what botocore raises, and may then have waited for a server.
        """
        if isinstance(self.login, Keys):
            return self.login
        credentials = self.login.get_credentials()
        if credentials is None:
            from botocore.exceptions import NoCredentialsError

            raise NoCredentialsError()
        frozen = credentials.get_frozen_credentials()
        return Keys(frozen.access_key or "", frozen.secret_key or "", frozen.token)

    def close(self) -> None:
        """Close the connections of what was made here."""
        for made in (self.__dict__.get("_client"), self.__dict__.get("_resource")):
            if made is not None:
                (made if hasattr(made, "close") else made.meta.client).close()

    @cached_property
    def _boto(self) -> boto3.session.Session:
        """One only: a second on the same session of botocore fails."""
        import boto3

        session = _session_of(self.login) if isinstance(self.login, Keys) else self.login
        return boto3.session.Session(botocore_session=session, region_name=self.region)

    def _settings(self) -> dict[str, Any]:
        import urllib3
        from botocore.config import Config

        if not self.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SEC,
            read_timeout=READ_TIMEOUT_SEC,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
            max_pool_connections=CONNECTIONS_MAX,
            s3={"addressing_style": "path"},
            tcp_keepalive=True,
            # RGW 16 keeps no checksums and answers 411 to the form boto3 would send over TLS.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        verify = self.ca_file or True if self.verify else False
        return {"endpoint_url": self.url, "verify": verify, "config": config}


def _session_of(keys: Keys) -> Session:
    """A session with these credentials that reads neither AWS files nor AWS_PROFILE."""
    from botocore.session import Session

    alone: dict[str, Any] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    session = Session(session_vars=alone)
    session.set_credentials(*keys)
    return session


def _dress(client: S3Client) -> None:
    """Three things about boto3 that no setting changes."""
    client.meta.events.register("before-send.s3", _in_time)
    client.meta.events.register("before-sign.s3", _without_expect)
    client.meta.events.register("before-parse.s3", _mend_body)


def _in_time(**_: object) -> None:
    """boto3 repeats by itself, also when nobody waits for the answer any more."""
    if time.monotonic() > give_up_sec.get():
        raise Unavailable("The request was given up.")


def _without_expect(request: Any, **_: object) -> None:
    """``Expect: 100-continue`` costs a round trip more for each body."""
    del request.headers["Expect"]


def _mend_body(response_dict: dict[str, Any], **_: object) -> None:
    """An answer that echoes a key XML cannot say would be taken for a 500, and repeated."""
    if isinstance(response_dict["body"], bytes):
        response_dict["body"] = mended(response_dict["body"])
