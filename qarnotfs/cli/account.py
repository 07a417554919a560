"""Which server and account, and which view of a bucket: options and what is made of them.

Used by ``mount`` and ``run``, and by every command that works on a bucket without mounting
it. Secrets come from the environment and files only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qarnotfs.cli.sections import FILE, Decorated, Option, section_of, with_options
from qarnotfs.errors import UsageError
from qarnotfs.views import BucketSpec, View

if TYPE_CHECKING:
    from qarnotfs.bucket import Bucket
    from qarnotfs.connection import Connection

_server = section_of("Server and account")

SERVER_OPTIONS = [
    _server("--conf", type=FILE, help="A qarnot.conf with token and URLs."),
    _server("--profile", metavar="NAME", help="Profile of ~/.aws/config to use."),
    _server("--endpoint", metavar="URL", help="URL of the object store."),
    _server("--region", metavar="NAME", help="Region of the object store."),
    _server("--ca-bundle", type=FILE, help="Certificates to trust instead of the system's."),
    _server("--no-verify-tls", is_flag=True, help="Accept any certificate. Dangerous."),
]


def _view(what: Callable[..., Option]) -> list[Option]:
    return [
        what(
            "--spec",
            type=FILE,
            help="Bucket description in JSON, as the Qarnot SDK's Bucket.to_json() writes it.",
        ),
        what("--prefix", metavar="TEXT", help="Show only keys that begin with TEXT."),
        what("--strip-prefix", metavar="TEXT", help="Show keys without TEXT at their beginning."),
    ]


SPEC_OPTION, *PREFIX_OPTIONS = _view(section_of("What is shown"))


def server_options(command: Decorated) -> Decorated:
    """Give ``command`` every option of `Account`."""
    return with_options(SERVER_OPTIONS, command)


def view_options(command: Decorated) -> Decorated:
    """Give ``command`` every option of `Shown`, for commands that change nothing in a bucket.

    Without twins: a view that was exported for a mount would make ``ls`` show one object
    under the name by which ``rm``, which knows stored keys only, deletes another.
    """
    return with_options(_view(section_of("What is shown", twins=False)), command)


@dataclass(frozen=True, kw_only=True)
class Account:
    """The server and the account as they were given; field names are the options' names."""

    conf: Path | None
    profile: str | None
    endpoint: str | None
    region: str | None
    ca_bundle: Path | None
    no_verify_tls: bool

    def connection(self) -> Connection:
        """Log in. Raises what `Connection.from_environment` raises."""
        from qarnotfs.connection import Connection

        return Connection.from_environment(
            conf=self.conf,
            profile=self.profile,
            endpoint=self.endpoint,
            region=self.region,
            ca_bundle=self.ca_bundle,
            verify_tls=not self.no_verify_tls,
        )

    @contextmanager
    def buckets(self) -> Iterator[Callable[[BucketSpec], Bucket]]:
        """Log in; what is given opens buckets, which are closed at the end."""
        from qarnotfs.bucket import Bucket

        with ExitStack() as stack:
            connection = self.connection()
            stack.callback(connection.close)

            @cache
            def opened(spec: BucketSpec) -> Bucket:
                bucket = Bucket.from_json(connection, spec.to_json())
                stack.callback(bucket.store.close)
                return bucket

            yield opened


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is to be seen of a bucket, as it was given; field names are the options' names."""

    spec: Path | None
    prefix: str | None
    strip_prefix: str | None

    def of(self, bucket: str | None) -> BucketSpec:
        """The bucket and its view: the spec file's, with what the options say instead.

        ``bucket`` may be left to the spec file. `UsageError` when the two disagree.
        """
        base = _spec_from(self.spec) if self.spec else BucketSpec(bucket or "")
        if bucket and bucket != base.bucket:
            raise UsageError(f"{self.spec} describes '{base.bucket}', not '{bucket}'.")
        view = View(
            base.view.filter_prefix if self.prefix is None else self.prefix,
            base.view.strip_prefix if self.strip_prefix is None else self.strip_prefix,
        )
        return BucketSpec(base.bucket, view, base.cache_ttl_sec)


def _spec_from(path: Path) -> BucketSpec:
    try:
        return BucketSpec.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read {path} as JSON: {error}.") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
