"""Keys, metadata and listings as text, to and from what goes over HTTP.

Used by `store` for both libraries. Pure: no I/O. It never decides what an error means.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from binascii import a2b_base64, a2b_qp, b2a_base64
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_plus

from qarnotfs.store.base import (
    PART_COUNT_MAX,
    Attributes,
    Copied,
    ListPage,
    ObjectInfo,
    Room,
    named_metadata,
)
from qarnotfs.store.s3 import paths

COPY_PART_BYTES = 128 << 20
META = "x-amz-meta-"

_WORD = re.compile(r"=\?utf-8\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_MD5 = re.compile("[0-9a-f]{32}")
_CODE = re.compile(rb"<Code>\s*(\w+)\s*</Code>")
_ETAG = re.compile(rb"<ETag>\s*([^<\s]+)\s*</ETag>")
_MODIFIED = re.compile(rb"<LastModified>\s*([^<\s]+)\s*</LastModified>")
_CONTENTS = re.compile(
    rb"<Contents><Key>([^<&]*)</Key><LastModified>([^<&]*)</LastModified>"
    rb"<ETag>(?:&quot;|&#34;|\")?([^<&\"]*)(?:&quot;|&#34;|\")?</ETag>"
    rb"(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>([0-9]+)</Size>"
)
_COMMON_PREFIX = re.compile(rb"<CommonPrefixes><Prefix>([^<&]*)</Prefix></CommonPrefixes>")
_TOKEN = re.compile(rb"<NextContinuationToken>(.*?)</NextContinuationToken>", re.DOTALL)
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]+)|#([0-9]+)|(amp|lt|gt|quot|apos));")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
# What XML 1.0 cannot say, neither plainly nor as a reference, and RGW says all the same.
_ILLEGAL = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]"
    rb"|&#x0*(?:[0-8bcef]|1[0-9a-f]|fff[ef]);|&#0*(?:[0-8]|1[124-9]|2[0-9]|3[01]);",
    re.IGNORECASE,
)
_ILLEGAL_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def fits_xml(key: str) -> bool:
    """Whether a key can be named in the XML body of a request."""
    return not _ILLEGAL_TEXT.search(key)


# --- metadata ------------------------------------------------------------------------------


def encoded_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """User metadata as headers can carry it: lower-case names, ASCII values.

    Other text becomes an RFC 2047 encoded word (UTF-8, base64), the form in which AWS itself
    returns it; so does text that would be taken for one. Raises `Refused` for a bad name.
    """
    return {name: _encoded_text(value) for name, value in named_metadata(metadata).items()}


def same_metadata(stored: Mapping[str, str], given: Mapping[str, str]) -> bool:
    """Whether ``stored`` is what a server makes of ``given``: RGW turns ``_`` into ``-``."""
    plain = ({n.lower().replace("_", "-"): v for n, v in d.items()} for d in (stored, given))
    return next(plain) == next(plain)


def attribute_headers(attributes: Attributes) -> list[tuple[str, str]]:
    headers = [(META + n, value) for n, value in encoded_metadata(attributes.metadata).items()]
    if content_type := sendable_type(attributes):
        headers.append(("Content-Type", content_type))
    return headers


def copy_request(
    bucket: str, source: str, target: str, attributes: Attributes | None
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The path of a copy, and the headers: its source, and what it has in place of that's."""
    headers = [("x-amz-copy-source", paths.object_path(bucket, source))]
    if attributes is not None:
        headers += [("x-amz-metadata-directive", "REPLACE"), *attribute_headers(attributes)]
    return paths.object_path(bucket, target), tuple(headers)


def sendable_type(attributes: Attributes) -> str | None:
    """The Content-Type, unless no header could carry it; the server then has its default."""
    content_type = attributes.content_type
    return content_type if content_type and _is_plain(content_type) else None


def _is_plain(text: str) -> bool:
    """Whether a header carries it unharmed."""
    return text.isascii() and text.isprintable() and text == text.strip()


def _encoded_text(value: str) -> str:
    if _is_plain(value) and not value.startswith("=?"):
        return value
    return (
        f"=?UTF-8?B?{b2a_base64(value.encode('utf-8', 'surrogatepass'), newline=False).decode()}?="
    )


def decoded_text(value: str) -> str:
    """The inverse, also of what AWS makes of raw UTF-8; any other text is left as it is."""
    words = _WORD.findall(value)
    if not words or _WORD.sub("", value).strip():
        return value
    try:
        raw = b"".join(
            a2b_base64(text, strict_mode=True) if kind in "bB" else a2b_qp(text, header=True)
            for kind, text in words
        )
        return raw.decode("utf-8", "surrogatepass")
    except ValueError:
        return value


# --- answers -----------------------------------------------------------------------------


def object_info(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    """The version that the answer to a HEAD or a (range) GET speaks of.

    ``headers`` has lower-case names. `KeyError` or `ValueError`: this is not such an answer.
    """
    total = headers.get("content-range", "").rpartition("/")[2] or headers["content-length"]
    return ObjectInfo(
        key=key,
        size=int(total),
        etag=plain_etag(headers["etag"]),
        modified_sec=int(parsedate_to_datetime(headers["last-modified"]).timestamp()),
        metadata={
            name.removeprefix(META): decoded_text(value)
            for name, value in headers.items()
            if name.startswith(META)
        },
        content_type=headers.get("content-type"),
    )


def plain_etag(etag: str) -> str:
    return etag.strip('"').lower()


def md5_of(headers: Mapping[str, str]) -> str | None:
    """MD5 of the whole object where the etag is one: not made of parts, and no key of KMS."""
    etag = plain_etag(headers["etag"])
    kms = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    return etag if _MD5.fullmatch(etag) and not kms else None


def error_code(body: bytes | None) -> str:
    """The S3 code of an error's body, ``""`` when there is none."""
    found = _CODE.search(body or b"")
    return found[1].decode() if found else ""


def copied(body: bytes) -> Copied:
    """The answer to CopyObject. `KeyError`: it is another."""
    etag, modified = _ETAG.search(body), _MODIFIED.search(body)
    if not etag:
        raise KeyError("ETag")
    return Copied(
        plain_etag(_REFERENCE.sub(_referred, etag[1].decode())),
        _since_1970(modified[1].decode()) if modified else None,
    )


def list_page(body: bytes) -> ListPage:
    """The answer to ListObjectsV2. `KeyError` or `ValueError`: this is not such an answer."""
    return _plain_page(body) or _parsed_page(body)


def _plain_page(body: bytes) -> ListPage | None:
    """The answer as servers write it, in half the time; ``None``: something is unusual in it."""
    contents, prefixes = _CONTENTS.findall(body), _COMMON_PREFIX.findall(body)
    truncated = b"<IsTruncated>true</IsTruncated>" in body
    if (
        b"<EncodingType>url</EncodingType>" not in body
        or len(contents) != body.count(b"<Contents")
        or len(prefixes) != body.count(b"<CommonPrefixes")
        or truncated is (b"<IsTruncated>false</IsTruncated>" in body)
        or b"<!" in body
        or not body.endswith(b"</ListBucketResult>")
    ):
        return None
    objects = tuple(
        ObjectInfo(_unquoted(key), int(size), etag.decode().lower(), _since_1970(modified.decode()))
        for key, modified, etag, size in contents
    )
    names = tuple(map(_unquoted, prefixes))
    return ListPage(objects, names, _required_token(body) if truncated else None)


def _unquoted(name: bytes) -> str:
    return unquote_plus(name.decode()) if b"%" in name or b"+" in name else name.decode()


def _since_1970(modified: str) -> int:
    return int(datetime.fromisoformat(modified).timestamp())


def _parsed_page(body: bytes) -> ListPage:
    root = _parsed(body)
    ns = root.tag.removesuffix("ListBucketResult")
    decode = unquote_plus if root.findtext(f"{ns}EncodingType") == "url" else str
    key, size, etag, modified = (f"{ns}{n}" for n in ("Key", "Size", "ETag", "LastModified"))
    entries = ({part.tag: part.text for part in entry} for entry in root.iterfind(f"{ns}Contents"))
    objects = tuple(
        ObjectInfo(
            key=decode(said[key] or ""),
            size=int(said[size] or ""),
            etag=plain_etag(said[etag] or ""),
            modified_sec=_since_1970(said[modified] or ""),
        )
        for said in entries
    )
    prefixes = tuple(
        decode(_text(entry, f"{ns}Prefix")) for entry in root.iterfind(f"{ns}CommonPrefixes")
    )
    truncated = _text(root, f"{ns}IsTruncated") == "true"
    return ListPage(objects, prefixes, _required_token(body) if truncated else None)


def room(bucket: str, body: bytes) -> Room | None:
    """The answer to RGW's question for usage. `KeyError` or `ValueError`: it is not understood.

    ``None``: the server knows no such question, or the bucket is somebody else's. Limits of
    each bucket are not looked at: RGW takes that of bytes for that of objects.
    """
    root = _parsed(body)
    entries = root.iterfind("CapacityUsed/User/Buckets/Entry")
    held = {_text(entry, "Bucket"): int(_text(entry, "Bytes")) for entry in entries}
    if bucket not in held:
        return None
    said = {part.tag: int(part.text or "") for part in root.iterfind("Summary/*")}
    bytes_max, objects_max = said["QuotaMaxBytes"], said["QuotaMaxObjCount"]
    return Room(
        bytes_used=held[bucket] if bytes_max < 0 else said["TotalBytes"],
        bytes_max=None if bytes_max < 0 else bytes_max,
        objects_used=said["TotalEntries"],
        objects_max=None if objects_max < 0 else objects_max,
    )


def _text(element: ET.Element, name: str) -> str:
    text = element.findtext(name)
    if text is None:
        raise KeyError(name)
    return text


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)
    except ET.ParseError:
        return _parsed_mended(body)


def _parsed_mended(body: bytes) -> ET.Element:
    """RGW echoes prefix and token as they are; in what it URL-encodes nothing is to be mended."""
    if b"<EncodingType>url</EncodingType>" not in body:
        raise ValueError("neither XML nor URL-encoded")
    try:
        return ET.fromstring(mended(body))
    except ET.ParseError as error:
        raise ValueError(str(error)) from None


def mended(body: bytes) -> bytes:
    """``body`` with a ``?`` for each character that makes it no XML."""
    return _ILLEGAL.sub(b"?", body)


def continuation(body: bytes) -> str | None:
    """The next page's token, character for character: XML would change or refuse some of them."""
    found = _TOKEN.search(body)
    return _REFERENCE.sub(_referred, found[1].decode()) if found else None


def _required_token(body: bytes) -> str:
    if (token := continuation(body)) is None:
        raise KeyError("NextContinuationToken")
    return token


def _referred(found: re.Match[str]) -> str:
    hexadecimal, decimal, name = found.groups()
    if name:
        return _NAMED[name]
    return chr(int(hexadecimal, 16) if hexadecimal else int(decimal))


def copy_part_bytes(size: int) -> int:
    """Of an object that is copied on the server, part after part.

    Servers copy first and answer then, and awscrt ends what says nothing for 30 s.
    """
    return max(COPY_PART_BYTES, -(-size // PART_COUNT_MAX))


def ranges(size: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    """Start and size of each part."""
    for start in range(0, size, part_bytes):
        yield start, min(part_bytes, size - start)
