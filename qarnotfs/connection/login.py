"""Logging in to Qarnot: a token becomes an email (the access key) and a storage URL.

Used by `Connection`. Reads what the SDK reads: the same file, the same variables, the same
precedence (the file, then the environment; but QARNOT_CLUSTER_UNSAFE and
QARNOT_CLUSTER_TIMEOUT override the file). Sends the token to the cluster's URL only.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from qarnotfs.connection.places import checked_ca, checked_url, trusted_ca
from qarnotfs.errors import (
    CredentialsRejected,
    NoStorage,
    Refused,
    StoreError,
    Unavailable,
    UsageError,
)

CLUSTER_URL = "https://api.qarnot.com"
STORAGE_URL = "https://storage.qarnot.com"
CONNECT_TIMEOUT_SEC = 10.0
TIMEOUT_SEC = 30.0
RETRIES = urllib3.Retry(
    total=2,
    backoff_factor=0.3,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,  # a person waits
)


@dataclass(frozen=True)
class Cluster:
    """What is needed to log in, and what was said about the storage.

    ``*_ca``: a file of certificates, ``None`` for the system's. ``storage_url``: ``None``
    to ask the cluster.
    """

    url: str
    token: str = field(repr=False)
    token_from: str
    timeout_sec: float
    verify: bool
    ca: str | None
    storage_url: str | None
    storage_verify: bool
    storage_ca: str | None

    @classmethod
    def configured(cls, conf: Path | None, environ: Mapping[str, str]) -> Cluster:
        """From ``conf``, then the environment. `UsageError` says what is wrong with them."""
        said = _Said(conf)
        token = said.text("client", "token") or said.text("client", "auth")
        in_file = token is not None
        token = token or environ.get("QARNOT_CLIENT_TOKEN", "").strip()
        if not token:
            raise UsageError(f"{conf} has no token: give one under [client] as token = ...")
        unsafe = environ.get("QARNOT_CLUSTER_UNSAFE")
        if unsafe is None:
            verify = not said.flag("cluster", "unsafe")
        else:
            verify = unsafe not in ("true", "True", "1")  # as the SDK
        return cls(
            url=said.url("cluster") or _url(environ, "QARNOT_CLUSTER_URL") or CLUSTER_URL,
            token=token,
            token_from=str(conf) if in_file else "QARNOT_CLIENT_TOKEN",
            timeout_sec=_timeout_sec(environ.get("QARNOT_CLUSTER_TIMEOUT"), said),
            verify=verify,
            ca=said.ca("cluster"),
            storage_url=said.url("storage") or _url(environ, "QARNOT_STORAGE_URL"),
            storage_verify=not said.flag("storage", "unsafe"),
            storage_ca=said.ca("storage"),
        )


@dataclass(frozen=True)
class Account:
    """The outcome of a login."""

    email: str
    storage_url: str


def log_in(cluster: Cluster) -> Account:
    """Ask the cluster. A wrong token is `CredentialsRejected`, no answer `Unavailable`."""
    with _pool(cluster) as pool:
        email = _answer(pool, cluster, "/info").get("email")
        storage = cluster.storage_url
        if storage is None:
            storage = _answer(pool, cluster, "/settings").get("storage", STORAGE_URL)
    if not isinstance(email, str) or not email:
        raise Refused(f"{cluster.url} does not say whose token this is: check QARNOT_CLUSTER_URL.")
    if not isinstance(storage, str):
        raise NoStorage(f"The Qarnot cluster at {cluster.url} offers no storage.")
    return Account(email, checked_url(storage, f"The storage of {cluster.url}"))


def _pool(cluster: Cluster) -> urllib3.PoolManager:
    settings: dict[str, Any] = {
        "headers": {"Authorization": cluster.token, "User-Agent": "qarnotfs"},
        "timeout": urllib3.Timeout(
            connect=min(CONNECT_TIMEOUT_SEC, cluster.timeout_sec), read=cluster.timeout_sec
        ),
        "retries": RETRIES,
        "cert_reqs": "CERT_REQUIRED" if cluster.verify else "CERT_NONE",
        "ca_certs": (cluster.ca or trusted_ca()) if cluster.verify else None,
    }
    if not cluster.verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    url = urllib3.util.parse_url(cluster.url)
    proxy = getproxies().get(str(url.scheme))
    if proxy is None or proxy_bypass(url.netloc or ""):
        return urllib3.PoolManager(**settings)
    user = urllib3.util.parse_url(proxy).auth
    proof = urllib3.make_headers(proxy_basic_auth=user) if user else None
    return urllib3.ProxyManager(proxy, proxy_headers=proof, **settings)


def _answer(pool: urllib3.PoolManager, cluster: Cluster, path: str) -> dict[str, Any]:
    try:
        response = pool.request("GET", cluster.url + path)
    except HTTPError as error:
        raise _unanswered(cluster, error) from None
    if response.status in (401, 403):
        raise CredentialsRejected(
            f"The token was rejected by {cluster.url}: check {cluster.token_from}."
        )
    if response.status == 429 or response.status >= 500:
        raise Unavailable(f"The Qarnot API at {cluster.url} cannot answer now ({response.status}).")
    try:
        answer = response.json() if response.status == 200 else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Refused(
            f"What answers at {cluster.url} is no Qarnot API ({response.status}):"
            " check QARNOT_CLUSTER_URL."
        )
    return answer


def _unanswered(cluster: Cluster, error: HTTPError) -> StoreError:
    reason = error.reason if isinstance(error, MaxRetryError) else error
    if isinstance(reason, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(reason):
        return Refused(
            f"The certificate of {cluster.url} is not trusted: name the file of its CA with"
            " --ca-bundle, or in qarnot.conf under [cluster] as custom_certificate."
        )
    return Unavailable(
        f"The Qarnot API at {cluster.url} cannot be reached ({type(reason).__name__}):"
        " check the network and QARNOT_CLUSTER_URL."
    )


class _Said:
    """A qarnot.conf, or nothing. Its errors quote no line: any line may hold the token."""

    def __init__(self, conf: Path | None) -> None:
        self._conf = conf
        self._parser = configparser.ConfigParser(interpolation=None)  # a token may hold a %
        if conf is None:
            return
        try:
            self._parser.read_string(conf.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"Cannot read {conf}: {error.strerror}.") from None
        except (UnicodeDecodeError, configparser.Error):
            raise UsageError(f"{conf} is not in the form of a qarnot.conf.") from None

    def text(self, section: str, option: str) -> str | None:
        return self._parser.get(section, option, fallback="").strip() or None

    def flag(self, section: str, option: str) -> bool:
        try:
            return self._parser.getboolean(section, option, fallback=False)
        except ValueError:
            raise UsageError(f"{self._name(section, option)} must be true or false.") from None

    def url(self, section: str) -> str | None:
        text = self.text(section, "url")
        return checked_url(text, self._name(section, "url")) if text else None

    def ca(self, section: str) -> str | None:
        path = self.text(section, "custom_certificate")
        return checked_ca(path, self._name(section, "custom_certificate")) if path else None

    def _name(self, section: str, option: str) -> str:
        return f"[{section}] {option} of {self._conf}"


def _url(environ: Mapping[str, str], name: str) -> str | None:
    return checked_url(environ[name], name) if environ.get(name) else None


def _timeout_sec(override: str | None, said: _Said) -> float:
    text = override or said.text("cluster", "timeout") or str(TIMEOUT_SEC)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError("QARNOT_CLUSTER_TIMEOUT must be a number of seconds.")
    return seconds
