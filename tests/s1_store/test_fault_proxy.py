"""The proxy that breaks requests is whole again after what it did to others, and to itself."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import pytest

from tests.faults import FaultProxy
from tests.rgw import Gateway
from tests.support import eventually

pytestmark = pytest.mark.gateway


def is_answered(proxy: FaultProxy) -> bool:
    """Whether a request on a new connection is."""
    place = urlsplit(proxy.endpoint)
    client = HTTPConnection(str(place.hostname), place.port, timeout=20)
    try:
        client.request("GET", "/")
        return client.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        client.close()


def test_two_who_throw_everybody_out_do_not_end_it(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two requests are refused whose heads were both read before the first was."""
    monkeypatch.setattr("tests.faults.REFUSED_SEC", 2.0)
    with FaultProxy(gateway) as proxy:
        assert is_answered(proxy)
        for _ in range(2):
            proxy.throw_out()
        eventually(lambda: is_answered(proxy))
