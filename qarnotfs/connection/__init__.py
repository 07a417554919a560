"""Who we are and where our buckets live: a Qarnot login, or credentials of any S3.

    connection   `Connection`, made from the environment or from the SDK's connection
    login        token -> email and storage URL, over Qarnot's REST API
    places       URLs and certificate files as people name them

Secrets come from the environment or from files and stay inside; no error, ``repr`` or log
line shows one.
"""

from __future__ import annotations

from qarnotfs.connection.connection import Connection

__all__ = ["Connection"]
