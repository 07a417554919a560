"""Qarnot's REST endpoint, as far as a login asks it; and the SDK, logged in there."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qarnot.connection

from tests.faulty_server import Answer, FaultyServer, Request


class QarnotApi(FaultyServer):
    """Answers as Qarnot does, to the right token only; ``answers`` by path may be changed."""

    def __init__(self, token: str, email: str, storage_url: str) -> None:
        self.token = token
        self.answers = {
            "/settings": _saying(storage=storage_url),
            "/info": _saying(email=email, maxBucket=10),
        }
        super().__init__(self._choose)

    def _choose(self, request: Request) -> Answer:
        if request.headers.get("authorization") != self.token:
            return Answer(401, {}, b'{"message": "Unauthorized"}')
        return self.answers.get(request.target, Answer(404))

    @property
    def environ(self) -> dict[str, str]:
        """What makes ours, or the SDK, log in here."""
        return {"QARNOT_CLIENT_TOKEN": self.token, "QARNOT_CLUSTER_URL": self.url}


def _saying(**fields: object) -> Answer:
    return Answer(200, {}, json.dumps(fields).encode())


@contextmanager
def sdk_connection(api: QarnotApi) -> Iterator[Any]:
    """The SDK's own `Connection`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own
        made = qarnot.connection.Connection(
            client_token=api.token, cluster_url=api.url, logger=logging.getLogger("sdk")
        )
    yield made
    made._http.close()
    made.s3client.close()
    made.s3resource.meta.client.close()
