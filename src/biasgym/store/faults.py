"""Which answers of an S3 server are worth another try, and what the others mean to a user."""

from __future__ import annotations

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, SSLError

from biasgym.errors import StorageError

FAULTS = (MinioException, HTTPError)  # all that the SDK raises for a request

_BUSY = {
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
}
_FULL = {"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_NO_SUCH_THING = 501
_FULL_STATUS = 507
_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
_REFUSED = {
    "AccessDenied": ("access is denied", f"{_KEYS}; `biasgym store policy` prints what must be allowed"),
    "InvalidAccessKeyId": ("the server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": ("the secret key is wrong", _KEYS),
    "ExpiredToken": ("the session token has expired", _KEYS),
    "InvalidToken": ("the session token is wrong", _KEYS),
    "NoSuchBucket": ("there is no such bucket", "create it, or correct the URL of the store"),
    "RequestTimeTooSkewed": ("this machine's clock and the server's differ too much", "set the clock"),
    "PermanentRedirect": ("the bucket is in another region", "set AWS_REGION"),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", "set AWS_REGION"),
}


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, S3Error):
        status = error.response.status
        return error.code in _BUSY or (
            status >= 500 and status not in (_NO_SUCH_THING, _FULL_STATUS) and not _full(error)
        )
    if isinstance(error, ServerError):
        return error.status_code >= 500
    # what is not XML comes from something between here and the server, such as a proxy without a backend
    return isinstance(error, InvalidResponseError) or (isinstance(error, HTTPError) and not isinstance(error, SSLError))


def explained(error: Exception, where: str) -> StorageError:
    """The error that a user reads. It stops a run: what is done could not be kept, and no cell is to blame.

    Args:
        error: One of FAULTS.
        where: URL of the object.
    """
    if isinstance(error, S3Error):
        if _full(error):
            return StorageError("the store is full", where=where, hint="free some space in the bucket")
        if error.code == "InternalError":  # all that SeaweedFS says when it is full
            return StorageError(
                "the store fails again and again with an internal error, as a full one does",
                where=where,
                hint="see the server's log and its free space",
            )
        what, hint = _REFUSED.get(error.code or "", (f"the store refuses ({error.code}: {error.message})", ""))
        return StorageError(what, where=where, hint=hint)
    if isinstance(error, SSLError):
        return StorageError(
            "the server's certificate is not trusted", where=where, hint="name its authority in SSL_CERT_FILE"
        )
    if isinstance(error, HTTPError):
        return StorageError(
            f"the store cannot be reached ({type(error).__name__})", where=where, hint="check BIASGYM_S3_ENDPOINT"
        )
    first = str(error).splitlines()[0][:200]
    return StorageError(f"not the answer of an S3 server ({first})", where=where, hint="check BIASGYM_S3_ENDPOINT")


def _full(error: S3Error) -> bool:
    return error.code in _FULL or error.response.status == _FULL_STATUS
