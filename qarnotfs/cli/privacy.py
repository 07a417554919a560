"""What the mount process does so that nobody reads the account's secret out of it.

Used by `daemon`, and by `run` for its command. See docs/SECURITY.md.
"""

from __future__ import annotations

import ctypes
import os
import resource

from qarnotfs.cli.configfile import SECRETS

PR_SET_DUMPABLE = 4  # prctl(2)


def close_to_onlookers() -> None:
    """No core dumps; other processes of this user may not look into memory and environment."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_login() -> dict[str, str]:
    """The environment of a program that has no business with the account."""
    hidden = (*SECRETS, "AWS_ACCESS_KEY_ID")  # half a login is an error to AWS's libraries
    return {name: value for name, value in os.environ.items() if name not in hidden}


def forget_secrets(profile: str | None) -> None:
    """Take what the login has read out of the environment: programs we start need none of it.

    A profile may name the environment as its source, and reads it again when keys end.
    """
    if not (profile or os.environ.get("AWS_PROFILE")):
        for name in SECRETS:
            os.environ.pop(name, None)
    os.environ.pop("QARNOT_CLIENT_TOKEN", None)
