"""A login that systemd hands over: files in ``$CREDENTIALS_DIRECTORY``, see systemd.exec(5).

Used by `Connection`. Nobody but the service can read them, and no child of it inherits them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qarnotfs.errors import UsageError

# What a file of this name says is what this variable would say: its text, or its path.
TOKEN = ("qarnot-token", "QARNOT_CLIENT_TOKEN")
PATHS = (("qarnot.conf", "QARNOT_CONF"), ("aws-credentials", "AWS_SHARED_CREDENTIALS_FILE"))
LOGINS = ("QARNOT_CLIENT_TOKEN", "QARNOT_CONF", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")


def with_credentials(environ: Mapping[str, str]) -> Mapping[str, str]:
    """``environ``, and what systemd handed over if nobody there logs in."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory or any(environ.get(name) for name in LOGINS):
        return environ
    found = {
        variable: str(path) for name, variable in PATHS if (path := Path(directory, name)).exists()
    }
    name, variable = TOKEN
    try:
        found[variable] = Path(directory, name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"The credential {name} in {directory} cannot be read.") from None
    return {**environ, **found}
