"""Every error of the two AWS libraries in the house's own words; the one place for it.

Used by `transport` (awscrt) and by `store` and `connection` (boto3). The sentences say what
to do, name the key or the server, and quote nothing of the server's message, which may
repeat what was signed. An error that nobody foresaw is `Unavailable` when nothing was
answered and `Refused` when something was: never an absence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from awscrt.exceptions import AwsCrtError
from awscrt.s3 import S3ResponseError

from qarnotfs.errors import (
    ClockSkewed,
    Corrupt,
    CredentialsExpired,
    CredentialsRejected,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    Refused,
    StoreError,
    Unavailable,
)
from qarnotfs.store.s3.wire import error_code


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request was about, for the sentence. ``key`` is ``""`` for the bucket itself."""

    endpoint: str
    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"'{self.bucket}/{self.key}'" if self.key else f"bucket '{self.bucket}'"


Row = tuple[type[StoreError], str]

_NO_KEY: Row = (NoSuchKey, "There is no object {subject}.")
_NO_UPLOAD: Row = (
    NoSuchKey,
    "There is no such multipart upload of {subject}: it was completed or aborted before.",
)
_NO_BUCKET: Row = (
    NoSuchBucket,
    "There is no bucket '{bucket}' at {endpoint}: check its name, or make it with"
    " 'qarnotfs mb {bucket}'.",
)
_CHANGED: Row = (PreconditionFailed, "The object {subject} is not the version it was taken for.")
_REJECTED: Row = (
    CredentialsRejected,
    "The object store at {endpoint} does not accept the credentials ({code}): check"
    " QARNOT_CLIENT_TOKEN, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile.",
)
_EXPIRED: Row = (
    CredentialsExpired,
    "The credentials for {endpoint} have expired ({code}): get new ones.",
)
_SKEWED: Row = (
    ClockSkewed,
    "This machine's clock is too far from that of {endpoint}: set it, for instance with NTP.",
)
_REGION: Row = (
    Refused,
    "The bucket '{bucket}' is in another region ({code}): set --region or AWS_REGION.",
)
_DENIED: Row = (
    Refused,
    "These credentials have no permission for {subject} at {endpoint} ({code}).",
)
_QUOTA: Row = (Refused, "There is no room for {subject}: the account's quota is used up ({code}).")
_BUSY: Row = (
    Unavailable,
    "The object store at {endpoint} cannot answer for {subject} now ({status} {code}).",
)
_SPOILT: Row = (Corrupt, "The bytes of {subject} were damaged on their way ({code}).")
_PARTS: Row = (Corrupt, "The parts of {subject} are not those that were sent ({code}).")
_REFUSED: Row = (
    Refused,
    "The object store at {endpoint} refuses the request for {subject} ({status} {code}).",
)
_NO_S3: Row = (
    Refused,
    "What answers at {endpoint} is no S3 server ({status}): check --endpoint, AWS_ENDPOINT_URL"
    " or QARNOT_STORAGE_URL.",
)
_UNREACHED: Row = (
    Unavailable,
    "The object store at {endpoint} cannot be reached ({code}): check the network, and"
    " --endpoint, AWS_ENDPOINT_URL or QARNOT_STORAGE_URL.",
)
_BROKEN: Row = (
    Unavailable,
    "The object store at {endpoint} gave no complete answer for {subject} ({code}).",
)
_UNTRUSTED: Row = (
    Refused,
    "The certificate of {endpoint} is not trusted: name the file of its CA with --ca-bundle or"
    " AWS_CA_BUNDLE.",
)
_NO_TLS: Row = (
    Unavailable,
    "There is no secure connection to {endpoint} ({code}): if its certificate is not trusted,"
    " name the file of its CA with --ca-bundle or AWS_CA_BUNDLE.",
)
_LOGIN_AGAIN: Row = (
    CredentialsExpired,
    "There are no valid credentials for {endpoint} any more ({code}): log in again.",
)
_NO_CREDENTIALS: Row = (
    Unavailable,
    "The credentials for {endpoint} cannot be had now ({code}).",
)
_GIVEN_UP: Row = (Unavailable, "The request for {subject} was given up.")

_BY_CODE: dict[str, Row] = {
    "NoSuchKey": _NO_KEY,
    "NoSuchUpload": _NO_UPLOAD,
    "NoSuchBucket": _NO_BUCKET,
    "PreconditionFailed": _CHANGED,
    "InvalidAccessKeyId": _REJECTED,
    "SignatureDoesNotMatch": _REJECTED,
    "InvalidToken": _REJECTED,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _SKEWED,
    "RequestTimeTooSkewed": _SKEWED,
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "QuotaExceeded": _QUOTA,
    "InvalidPart": _PARTS,
    "InvalidPartOrder": _PARTS,
    "BadDigest": _SPOILT,
    "InvalidDigest": _SPOILT,
    "XAmzContentSHA256Mismatch": _SPOILT,
    "InternalError": _BUSY,
    "ServiceUnavailable": _BUSY,
    "SlowDown": _BUSY,
    "Throttling": _BUSY,
    "RequestTimeout": _BUSY,
    "OperationAborted": _BUSY,
    "ConditionalRequestConflict": _BUSY,  # AWS: someone else is writing at this moment
    "InvalidRange": (Refused, "The object {subject} ends before what was asked of it."),
    "BucketNotEmpty": (
        Refused,
        "The bucket '{bucket}' is not empty: 'qarnotfs rb --force {bucket}' deletes it with all"
        " that is in it.",
    ),
    "BucketAlreadyExists": (Refused, "The bucket name '{bucket}' is taken by someone else."),
}
_BY_STATUS: dict[int, Row] = {
    301: _REGION,
    307: _REGION,
    308: _REGION,
    401: _REJECTED,
    403: _DENIED,
    404: _NO_S3,  # each 404 of S3 has a code
    408: _BUSY,
    412: _CHANGED,
    429: _BUSY,
    501: _REFUSED,
}
# awscrt keeps status and body to itself once it has repeated a request in vain.
_BY_CRT: dict[str, tuple[int, str]] = {
    "AWS_ERROR_S3_INTERNAL_ERROR": (500, "InternalError"),
    "AWS_ERROR_S3_SLOW_DOWN": (503, "SlowDown"),
    "AWS_ERROR_S3_REQUEST_TIMEOUT": (400, "RequestTimeout"),
    "AWS_ERROR_S3_REQUEST_TIME_TOO_SKEWED": (403, "RequestTimeTooSkewed"),
}
_BY_CRT_PREFIX: tuple[tuple[str, Row], ...] = (
    ("AWS_ERROR_S3_CANCELED", _GIVEN_UP),
    ("AWS_IO_TLS", _NO_TLS),
    ("AWS_IO_DNS", _UNREACHED),
    ("AWS_IO_SOCKET_CLOSED", _BROKEN),
    ("AWS_IO_SOCKET", _UNREACHED),
    ("AWS_AUTH", _NO_CREDENTIALS),
)
_BY_BOTO: dict[str, Row] = {  # names in botocore.exceptions; the first that fits
    "SSLError": _NO_TLS,
    "ConnectionError": _UNREACHED,
    "SSOError": _LOGIN_AGAIN,
    "NoCredentialsError": _LOGIN_AGAIN,
    "PartialCredentialsError": _LOGIN_AGAIN,
    "CredentialRetrievalError": _NO_CREDENTIALS,
    "MetadataRetrievalError": _NO_CREDENTIALS,
    "HTTPClientError": _BROKEN,
    "IncompleteReadError": _BROKEN,
    "ParamValidationError": (Refused, "No object store can have {subject}: check the name."),
    "BotoCoreError": (Refused, "There is no way to ask {endpoint} for {subject} ({code})."),
}


def no_such_key(subject: Subject) -> StoreError:
    return _worded(_NO_KEY, subject)


def changed(subject: Subject) -> StoreError:
    return _worded(_CHANGED, subject)


def spoilt(subject: Subject) -> StoreError:
    return _worded(_SPOILT, subject, code="its checksum is another")


def untrusted(subject: Subject) -> StoreError:
    return _worded(_UNTRUSTED, subject)


def no_tls(subject: Subject, reason: str) -> StoreError:
    return _worded(_NO_TLS, subject, code=reason)


def incomplete(subject: Subject, reason: str) -> StoreError:
    return _worded(_BROKEN, subject, code=reason)


def failure_of_answer(status: int, code: str, subject: Subject) -> StoreError:
    """An HTTP answer that is no success; ``code`` from its body, ``""`` when it has none."""
    row = _BY_CODE.get(code) or _BY_STATUS.get(status) or (_BUSY if status >= 500 else _REFUSED)
    return _worded(row, subject, status=status, code=code)


def failure_of_crt(error: BaseException, subject: Subject) -> StoreError:
    """What awscrt reports when a request is over and did not succeed."""
    if isinstance(error, S3ResponseError):
        # AWS answers 200 before it copies, and may find out later that it cannot.
        status = error.status_code if error.status_code >= 300 else 500
        return failure_of_answer(status, error_code(error.body), subject)
    name = error.name if isinstance(error, AwsCrtError) else type(error).__name__
    if name in _BY_CRT:
        return failure_of_answer(*_BY_CRT[name], subject)
    row = next((row for prefix, row in _BY_CRT_PREFIX if name.startswith(prefix)), _BROKEN)
    return _worded(row, subject, code=name.removeprefix("AWS_"))


@contextmanager
def translated(subject: Subject) -> Iterator[None]:
    """Calls of boto3 go inside. The cause is cut off: its text may name a proxy's password."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        failure = _failure_of_boto(error, subject)
        if failure is None:
            raise
        raise failure from None


def _failure_of_boto(error: Exception, subject: Subject) -> StoreError | None:
    """What boto3 raises; ``None``: something else."""
    # Not imported before something fails: see `Access`.
    from botocore import exceptions
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return failure_of_answer(status, error.response.get("Error", {}).get("Code", ""), subject)
    kinds = ((getattr(exceptions, name), row) for name, row in _BY_BOTO.items())
    row = next((row for kind, row in kinds if isinstance(error, kind)), None)
    if isinstance(error, exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        row = _UNTRUSTED
    elif row is None and isinstance(error, RuntimeError):
        row = _EXPIRED  # credentials were refreshed and are still expired
    elif row is None and isinstance(error, ResponseParserError | HTTPError | OSError):
        row = _BROKEN
    return _worded(row, subject, code=type(error).__name__) if row else None


def _worded(row: Row, subject: Subject, status: int = 0, code: str = "") -> StoreError:
    kind, sentence = row
    text = sentence.format(
        endpoint=subject.endpoint,
        bucket=subject.bucket,
        subject=subject,
        status=status or "",
        code=code or "no reason given",
    )
    return kind(text)
