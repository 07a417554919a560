"""Mount an S3-compatible bucket as a directory; the same package is a ``Bucket`` class.

This file is the public interface: what it names may be relied upon, nothing else.
"""

from __future__ import annotations

__version__ = "0.1.0"
