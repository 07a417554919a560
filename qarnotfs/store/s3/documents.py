"""What we say and are told in XML, but listings: parts, their end, deletions. Pure: no I/O.

Used by `store`. `KeyError` or `ValueError` of what reads: this is not such an answer.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from qarnotfs.store.s3 import wire

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

_FAILED = re.compile(rb"\s*(?:<\?xml[^>]*\?>)?\s*<Error[\s>]")


def is_failure(body: bytes) -> bool:
    """Whether an answer that began as a success, as AWS's do, is none."""
    return bool(_FAILED.match(body))


def deletion(keys: Iterable[str]) -> bytes:
    """Of keys that `wire.fits_xml`. The answer names only what stays."""
    root = ET.Element("Delete", xmlns=NAMESPACE)
    for key in keys:
        ET.SubElement(ET.SubElement(root, "Object"), "Key").text = key
    ET.SubElement(root, "Quiet").text = "true"
    return _said(root)


def stayed(body: bytes) -> dict[str, str]:
    """The answer to `deletion`: key -> S3's code of what was not deleted."""
    if not body.strip():  # some say nothing, if there is nothing to say
        return {}
    root = _parsed(body, "DeleteResult")
    errors = root.iterfind("{*}Error")
    return {e.findtext("{*}Key") or "": e.findtext("{*}Code") or "" for e in errors}


def completion(etags: Sequence[str]) -> bytes:
    """The parts from number 1 on."""
    root = ET.Element("CompleteMultipartUpload", xmlns=NAMESPACE)
    for number, etag in enumerate(etags, 1):
        part = ET.SubElement(root, "Part")
        ET.SubElement(part, "PartNumber").text = str(number)
        ET.SubElement(part, "ETag").text = f'"{etag}"'
    return _said(root)


def completed(body: bytes) -> None:
    _parsed(body, "CompleteMultipartUploadResult")


def upload_id(body: bytes) -> str:
    return _text(_parsed(body, "InitiateMultipartUploadResult"), "UploadId")


def part_etag(body: bytes) -> str:
    """The answer to a part that is copied on the server."""
    return wire.plain_etag(_text(_parsed(body, "CopyPartResult"), "ETag"))


def _said(root: ET.Element) -> bytes:
    text = ET.tostring(root, encoding="unicode")
    # Written plainly, the reader would take either for the end of a line.
    return text.replace("\r", "&#13;").replace("\n", "&#10;").encode()


def _parsed(body: bytes, name: str) -> ET.Element:
    try:
        root = ET.fromstring(wire.mended(body).strip())  # RGW echoes keys that XML cannot say
    except ET.ParseError as error:
        raise ValueError(str(error)) from None
    if root.tag.rpartition("}")[2] != name:
        raise ValueError(f"no {name}")
    return root


def _text(root: ET.Element, name: str) -> str:
    text = root.findtext(f"{{*}}{name}")
    if not text:
        raise KeyError(name)
    return text
