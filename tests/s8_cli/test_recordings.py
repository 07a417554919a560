"""What README.md shows of ``status`` and ``check`` is what they say, figures aside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.recordings import PLACE, alike, recorded, scene, shown
from tests.rgw import Gateway

pytestmark = pytest.mark.mount


@pytest.mark.skipif(os.getuid() != 0, reason="root is told less by 'check' than others")
def test_the_recording_of_the_readme(gateway: Gateway) -> None:
    with tempfile.TemporaryDirectory(prefix="qfs-") as name:  # short: the path of a socket
        base = Path(name)
        with scene(gateway, base) as cli:
            text = recorded(cli, base)
    assert alike(text, base) == alike(shown(), PLACE)
