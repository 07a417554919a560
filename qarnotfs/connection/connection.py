"""`Connection`: one identity at one object store.

Used by `Bucket` and the command line; has the members of the SDK's connection that the
SDK's bucket uses. It sends nothing to the object store by itself, except that looking at
``s3client`` or ``s3resource`` makes what sends.

    QARNOT_CLIENT_TOKEN or a qarnot.conf   a Qarnot login, see `login`
    else what systemd handed over          either of them, see `credentials`
    else AWS_*, profiles, roles            botocore's chain; AWS_ENDPOINT_URL for any S3
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from qarnotfs.connection.credentials import with_credentials
from qarnotfs.connection.places import checked_ca, checked_url, trusted_ca
from qarnotfs.errors import NoStorage, QarnotfsError, Unavailable, UsageError
from qarnotfs.store.s3 import Access, Greeting, Keys, S3Store, greet, list_buckets

if TYPE_CHECKING:
    from botocore.session import Session
    from mypy_boto3_s3 import S3Client, S3ServiceResource

REGION_DEFAULT = "us-east-1"  # what servers without regions expect
AWS_FILES = (  # botocore's name of each, the variable that says where it is, and its place
    ("config_file", "AWS_CONFIG_FILE", "~/.aws/config"),
    ("credentials_file", "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
)
NO_CREDENTIALS = (
    "There are no credentials: set QARNOT_CLIENT_TOKEN, or name a qarnot.conf with --conf or"
    " QARNOT_CONF, or give AWS ones in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a --profile."
)


class SdkConnection(Protocol):
    """What we need of ``qarnot.connection.Connection``; ours has it too."""

    @property
    def s3client(self) -> Any: ...


class Connection:
    """Made by `from_environment` or `of_sdk`; safe to share between threads.

    ``endpoint`` is the object store's URL, ``identity`` the access key, shortened for people.
    """

    # Of the SDK's connection: whether `Bucket` takes doubled and leading slashes off the keys
    # it is given, and says so in the log.
    _sanitize_bucket_paths = True
    _show_bucket_warnings = True

    def __init__(self, access: Access) -> None:
        self._access = access
        self.endpoint = access.endpoint
        with _credentials():
            self.identity = _shortened(access.keys().access_key)

    @classmethod
    def from_environment(
        cls,
        *,
        conf: Path | None = None,
        profile: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        ca_bundle: Path | None = None,
        verify_tls: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> Connection:
        """Log in with what is given, then what ``environ`` and files hold.

        The arguments win over everything. ``ca_bundle`` is a PEM file. Roles of containers
        and machines are looked up in the process's own environment. `UsageError`: something
        is missing or malformed. Else what the login raises; a token costs two requests.
        """
        if conf is not None and profile is not None:
            raise UsageError("Give --conf or --profile, not both: they are different logins.")
        if conf is None and profile is None:
            environ = with_credentials(environ)
        if conf is None and environ.get("QARNOT_CONF"):
            conf = Path(environ["QARNOT_CONF"])
        ca = checked_ca(ca_bundle, "--ca-bundle") if ca_bundle is not None else None
        url = checked_url(endpoint, "--endpoint") if endpoint else None
        if profile is None and (conf is not None or environ.get("QARNOT_CLIENT_TOKEN")):
            access = _qarnot_access(conf, environ, url, ca, verify_tls)
        else:
            access = _aws_access(profile, url, ca, environ)
        return cls(
            replace(
                access,
                region=region or access.region,
                verify=access.verify and verify_tls,
            )
        )

    @classmethod
    def of_sdk(cls, connection: SdkConnection) -> Connection:
        """The same identity and storage as the SDK's connection, or any with an ``s3client``.

        `NoStorage` when that cluster offers none.
        """
        if isinstance(connection, Connection):
            return connection
        client = connection.s3client
        if client is None:
            raise NoStorage("This connection's cluster offers no storage.")
        # botocore has no public way to ask a client for these two.
        frozen = client._get_credentials().get_frozen_credentials()
        verify = client._endpoint.http_session._verify
        return cls(
            Access(
                Keys(frozen.access_key, frozen.secret_key, frozen.token),
                client.meta.endpoint_url,
                client.meta.region_name or REGION_DEFAULT,
                verify if isinstance(verify, str) else trusted_ca(),
                verify is not False,
            )
        )

    @property
    def s3client(self) -> S3Client:
        """A boto3 client, made at first use."""
        return self._access.client

    @property
    def s3resource(self) -> S3ServiceResource:
        """A boto3 resource, made at first use."""
        return self._access.resource

    def store(self, bucket: str) -> S3Store:
        """That bucket, whether it exists or not; nothing is asked. The caller closes it."""
        return S3Store(bucket, self._access)

    def bucket_names(self) -> list[str]:
        """The names of all buckets of this identity, in their order; any `StoreError`."""
        return list_buckets(self._access)

    def greet(self, bucket: str = "") -> Greeting:
        """How the server does, or any `StoreError`. Of ``bucket``, if this identity has no more."""
        return greet(self._access, bucket)

    def close(self) -> None:
        """Give boto3's connections back, once every store is closed."""
        self._access.close()

    def __repr__(self) -> str:
        return f"Connection({self.identity} at {self.endpoint})"


# --- Qarnot ------------------------------------------------------------------------------


def _qarnot_access(
    conf: Path | None,
    environ: Mapping[str, str],
    url: str | None,
    ca: str | None,
    verify: bool,
) -> Access:
    # Not at the top: it takes urllib3, which no other login needs.
    from qarnotfs.connection.login import Cluster, log_in

    cluster = Cluster.configured(conf, environ)
    cluster = replace(
        cluster,
        ca=ca or cluster.ca,
        verify=cluster.verify and verify,
        storage_url=url or cluster.storage_url,
    )
    account = log_in(cluster)
    return Access(
        Keys(account.email, cluster.token, None),
        account.storage_url,
        REGION_DEFAULT,
        ca or cluster.storage_ca or trusted_ca(),
        cluster.storage_verify,
    )


# --- AWS and everyone who does as AWS ------------------------------------------------------


def _aws_access(
    profile: str | None, url: str | None, ca: str | None, environ: Mapping[str, str]
) -> Access:
    keys = _keys_of(environ) if profile is None else None
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    given_ca = environ.get("AWS_CA_BUNDLE")
    login: Keys | Session
    if keys is not None and not _has_files(environ):
        login = keys  # it says all that botocore would find: loading that takes 0.3 s
    else:
        with _credentials():
            login = session = _aws_session(profile, environ, keys)
            if session.get_credentials() is None:
                raise UsageError(NO_CREDENTIALS)
            region = region or session.get_config_variable("region")
            given_ca = given_ca or session.get_config_variable("ca_bundle")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url is None and environ.get(name):
            url = checked_url(environ[name], name)
    if ca is None and given_ca:
        ca = checked_ca(str(given_ca), "AWS_CA_BUNDLE")
    return Access(login, url, str(region or REGION_DEFAULT), ca or trusted_ca(), verify=True)


def _keys_of(environ: Mapping[str, str]) -> Keys | None:
    access_key, secret_key = (
        environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    if not access_key:
        return None
    if not secret_key:
        raise UsageError("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not.")
    return Keys(access_key, secret_key, environ.get("AWS_SESSION_TOKEN") or None)


def _has_files(environ: Mapping[str, str]) -> bool:
    """Whether there are, or should be, files of AWS's that say more."""
    places = [environ.get(name) or default for _, name, default in AWS_FILES]
    there = (os.path.exists(os.path.expanduser(os.path.expandvars(p))) for p in places)
    return bool(environ.get("AWS_PROFILE")) or any(there)


def _aws_session(profile: str | None, environ: Mapping[str, str], keys: Keys | None) -> Session:
    from botocore.session import Session

    session = Session(profile=profile or environ.get("AWS_PROFILE") or None)
    for variable, name, _ in AWS_FILES:
        if environ.get(name):
            session.set_config_variable(variable, environ[name])
    if keys is not None:
        session.set_credentials(*keys)
    return session


@contextmanager
def _credentials() -> Iterator[None]:
    """botocore looks for credentials inside. Its own texts may quote files: ours say less."""
    try:
        yield
    except QarnotfsError:
        raise
    except Exception as error:
        from botocore.exceptions import BotoCoreError, ConfigParseError, ProfileNotFound

        if isinstance(error, ProfileNotFound):
            name = error.kwargs.get("profile")
            raise UsageError(f"There is no profile '{name}' in the AWS configuration.") from None
        if isinstance(error, ConfigParseError):
            path = error.kwargs.get("path")
            raise UsageError(f"The AWS configuration file {path} cannot be read.") from None
        if not isinstance(error, BotoCoreError | RuntimeError):
            raise
        raise Unavailable(
            f"The AWS credentials cannot be had ({type(error).__name__}): check the profile or"
            " the role of this machine."
        ) from None


def _shortened(access_key: str) -> str:
    """Enough to recognise an access key by; an email keeps its domain."""
    name, at, domain = access_key.partition("@")
    return f"{name[: min(4, len(name) // 2)]}…{at}{domain}"
