"""What a wheel carries besides the package: manual pages, and completion for three shells.

Run by hatchling. Their places below ``share`` are where a virtual environment, pipx and the system
look for them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/qarnotfs",
    "zsh": "share/zsh/site-functions/_qarnotfs",
    "fish": "share/fish/vendor_completions.d/qarnotfs.fish",
}


class SharedFiles(BuildHookInterface[Any]):
    """Makes them in a directory that is gone after the build."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from docs import man
        from qarnotfs.cli.completing import script

        self._made = TemporaryDirectory()
        place = Path(self._made.name)
        man.write(place / "man1")
        build_data["shared_data"][str(place / "man1")] = "share/man/man1"
        for shell, path in COMPLETIONS.items():
            (place / shell).write_text(script(shell))
            build_data["shared_data"][str(place / shell)] = path

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._made.cleanup()
