"""One mount as it was asked for, and what is made of it: a `Bucket` and `MountOptions`.

Used by ``mount``, ``run`` and `daemon`. Says a request again as arguments, which is how it
reaches the mount process; secrets are not part of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qarnotfs import control
from qarnotfs.cli.mountpoint import FUSE_CONF, check_unmountable, others_allowed
from qarnotfs.cli.options import (
    CACHE_BYTES_DEFAULT,
    DIRTY_BYTES_DEFAULT,
    Settings,
    bytes_default,
)
from qarnotfs.cli.units import host_and_port
from qarnotfs.errors import UsageError
from qarnotfs.views import BucketSpec

if TYPE_CHECKING:
    from qarnotfs.bucket import Bucket
    from qarnotfs.session import MountOptions


@dataclass(frozen=True)
class MountRequest:
    """Which bucket, where, and everything else. ``bucket`` may be left to the spec file."""

    bucket: str | None
    mountpoint: Path
    settings: Settings

    def argv(self) -> list[str]:
        """The arguments of ``qarnotfs`` that ask for the same."""
        names = [*([self.bucket] if self.bucket else []), os.fspath(self.mountpoint)]
        return ["mount", *self.settings.argv(), "--", *names]

    def spec(self) -> BucketSpec:
        """The bucket and its view: the spec file's, with what the options say instead."""
        spec = self.settings.of(self.bucket)
        ttl_sec = self.settings.cache_ttl
        return spec if ttl_sec is None else replace(spec, cache_ttl_sec=ttl_sec)

    def prepare(self) -> None:
        """Make what has to be there before anything is written; `UsageError` says what is not."""
        check_unmountable()
        if self.settings.allow_other and os.getuid() and not others_allowed():
            raise UsageError(
                f"--allow-other needs root's consent: a line 'user_allow_other' in {FUSE_CONF}."
            )
        self._keep_private()

    def _keep_private(self) -> None:
        """Make the cache directory for this user alone, before anything is written there.

        One that is there keeps its mode: what we make in it is private anyhow. `UsageError`
        when it is someone else's.
        """
        place, instead = self.settings.cache_dir, "choose another place with --cache-dir"
        control.refuse_strangers(place, instead)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(f"Cannot make {place} ({error.strerror}): {instead}.") from error

    def log_path(self) -> Path:
        """Where the mount process in the background writes."""
        default = self.settings.cache_dir / "logs" / f"{self.spec().bucket}.log"
        return self.settings.log_file or default

    def make_bucket(self) -> Bucket:
        """Log in; the bucket itself is not asked for. Raises what `Connection` raises."""
        from qarnotfs.bucket import Bucket

        return Bucket.from_json(self.settings.connection(), self.spec().to_json())

    def mount_options(self) -> MountOptions:
        """What `session.run_mount` wants to know; defaults that depend on the disk are set."""
        from qarnotfs.session import MountOptions

        said = self.settings
        return MountOptions(
            mountpoint=self.mountpoint,
            cache_dir=said.cache_dir,
            cache_bytes_max=_size(said.cache_size, CACHE_BYTES_DEFAULT, said.cache_dir),
            dirty_bytes_max=_size(said.dirty_size, DIRTY_BYTES_DEFAULT, said.cache_dir),
            cache_ttl_sec=said.cache_ttl,
            read_only=said.read_only,
            allow_other=said.allow_other,
            uid=said.uid,
            gid=said.gid,
            file_mode=_mode(said.file_mode, 0o666 & ~said.umask),
            dir_mode=_mode(said.dir_mode, 0o777 & ~said.umask),
            close=said.close,
            fsync_timeout_sec=said.fsync_timeout,
            upload_delay_sec=said.upload_delay,
            io_timeout_sec=said.io_timeout,
            attrs=said.attrs,
            on_conflict=said.on_conflict,
            offline_reads=said.offline_reads,
            inodes_max=said.inodes_max,
            pins=said.pin,
            metrics=host_and_port(said.metrics) if said.metrics else None,
        )


def _mode(given: int | None, default: int) -> int:
    return default if given is None else given


def _size(given: int | None, default: int, cache_dir: Path) -> int:
    return bytes_default(default, cache_dir) if given is None else given
