"""An S3 bucket as a store, through the minio SDK: MinIO, SeaweedFS, AWS and the like.

The SDK has no public way to send If-None-Match and none to go on with a multipart upload, so methods with an underscore
are used for these; the dependency is pinned to the minor version.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.error import S3Error
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from biasgym.errors import BiasGymError
from biasgym.files import atomic_file
from biasgym.store.faults import FAULTS, explained, is_transient
from biasgym.store.policy import bucket_and_prefix
from biasgym.store.protocol import Entry, NotFound, checked_key

T = TypeVar("T")
PART = 16 * 2**20  # bytes of one request; S3 allows 10,000 parts
PATIENCE = 90.0  # seconds of retries for one request: a server that restarts is back within them
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_AWS = "https://s3.amazonaws.com"


def open_s3(url: str, *, patience: float = PATIENCE) -> S3Store:
    """Opens a bucket; endpoint and keys come from the environment.

    Args:
        url: `s3://bucket/prefix`.
        patience: Seconds of retries for one request.

    Raises:
        BiasGymError: The URL or the endpoint is none, or there are no keys.
    """
    bucket, prefix = bucket_and_prefix(url)
    endpoint = os.environ.get("BIASGYM_S3_ENDPOINT") or _AWS
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname and (parts.port or 1) > 0 and not parts.username
    except ValueError:  # brackets or a port that are none
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.path.strip("/"):
        raise BiasGymError(
            "not an endpoint", where="BIASGYM_S3_ENDPOINT", hint="write http://host:port or https://host"
        )
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise BiasGymError("no keys for the store", where=url, hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    client = Minio(
        parts.netloc,
        access_key,
        secret_key,
        session_token=os.environ.get("AWS_SESSION_TOKEN") or None,
        secure=parts.scheme == "https",
        region=os.environ.get("AWS_REGION") or _region_in(parts.hostname or "") or "us-east-1",
        http_client=urllib3.PoolManager(
            timeout=_TIMEOUT,
            retries=False,  # ours know which answers are worth it
            maxsize=16,
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        ),
    )
    return S3Store(client, bucket, prefix, patience)


def _region_in(host: str) -> str | None:
    """The region that an address of AWS names: `s3.eu-central-1.amazonaws.com`."""
    found = re.fullmatch(r"s3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com", host)
    return found and found[1]


class S3Store:
    """Objects below a prefix of a bucket.

    Args:
        client: The SDK's client.
        bucket: Name of the bucket.
        prefix: Where in the bucket; may be empty.
        patience: Seconds of retries for one request.
    """

    def __init__(self, client: Minio, bucket: str, prefix: str, patience: float = PATIENCE) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client, self._bucket, self._patience = client, bucket, patience
        self._root = f"{prefix}/" if prefix else ""

    def read(self, key: str) -> bytes:
        with self._explained(key, reading=True):
            return self._try(partial(self._get, key))

    def write(self, key: str, data: bytes) -> None:
        with self._explained(key):
            self._try(partial(self._put, key, data))

    def create(self, key: str, data: bytes) -> bool:
        retrying = self._retrying()
        with self._explained(key):
            try:
                retrying(self._put, key, data, {"If-None-Match": "*"})
            except S3Error as error:
                if error.code != "PreconditionFailed":
                    raise
                # after a lost answer the object in the way may be our own
                return retrying.statistics["attempt_number"] > 1 and self.read(key) == data
        return True

    def upload(self, path: Path, key: str) -> None:
        try:
            file = path.open("rb")
        except OSError as error:
            raise BiasGymError(f"cannot read ({error.strerror})", where=str(path)) from error
        size = path.stat().st_size
        with file, self._explained(key):
            if size <= PART:
                self._try(partial(self._put, key, file.read()))
                return
            try:
                self._upload_parts(file, key, size)
            except S3Error as error:
                if error.code != "NoSuchUpload":
                    raise
                # somebody else has completed or aborted the same upload
                file.seek(0)
                self._upload_parts(file, key, size)

    def download(self, key: str, path: Path) -> None:
        with self._explained(key, reading=True), atomic_file(path) as temporary, temporary.open("wb") as file:
            found = self._try(partial(self._client.stat_object, self._bucket, self._name(key)))
            same = {"If-Match": f'"{found.etag}"'}
            for offset in range(0, found.size or 0, PART):
                length = min(PART, (found.size or 0) - offset)
                file.write(self._try(partial(self._get, key, offset, length, same)))

    def list(self, prefix: str) -> Iterator[Entry]:
        start = f"{self._name(prefix)}/" if prefix else self._root
        with self._explained(prefix):
            found = self._try(
                lambda: list(self._client.list_objects(self._bucket, prefix=start or None, recursive=True))
            )
        for item in found:
            if item.object_name and not item.object_name.endswith("/"):
                yield Entry(item.object_name.removeprefix(self._root), item.size or 0)

    def exists(self, key: str) -> bool:
        name = self._name(key)
        with self._explained(key):  # by listing: the answer to HEAD says too little when the bucket is missing
            first = self._try(
                lambda: next(iter(self._client.list_objects(self._bucket, prefix=name, recursive=True)), None)
            )
        return first is not None and first.object_name == name

    def delete(self, key: str) -> None:
        with self._explained(key):
            self._try(partial(self._client.remove_object, self._bucket, self._name(key)))

    def _name(self, key: str) -> str:
        return self._root + checked_key(key)

    def _get(self, key: str, offset: int = 0, length: int = 0, headers: dict[str, str] | None = None) -> bytes:
        response = self._client.get_object(
            self._bucket, self._name(key), offset=offset, length=length, request_headers=dict(headers or {})
        )
        with closing(response):
            return bytes(response.read())

    def _put(self, key: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._client._put_object(
            self._bucket, self._name(key), data, {"Content-Type": "application/octet-stream", **(headers or {})}
        )

    def _upload_parts(self, file: BinaryIO, key: str, size: int) -> None:
        """Sends the parts that the server does not have yet."""
        name = self._name(key)
        upload, have = self._unfinished(name)
        parts = []
        for number, offset in enumerate(range(0, size, PART), start=1):
            file.seek(offset)
            data = file.read(PART)
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if have.get(number) != etag:
                etag = self._try(partial(self._client._upload_part, self._bucket, name, data, None, upload, number))
            parts.append(Part(number, etag))
        self._try(partial(self._client._complete_multipart_upload, self._bucket, name, upload, parts))

    def _unfinished(self, name: str) -> tuple[str, dict[int, str]]:
        """The last interrupted upload of an object and the parts it has; a new one without any if there is none."""
        listed = self._try(partial(self._client._list_multipart_uploads, self._bucket, prefix=name))
        uploads = [upload for upload in listed.uploads if upload.object_name == name and upload.upload_id]
        if not uploads:
            return self._try(partial(self._client._create_multipart_upload, self._bucket, name, {})), {}
        upload = str(uploads[-1].upload_id)
        have: dict[int, str] = {}
        marker: str | None = None
        while True:
            page = self._try(partial(self._client._list_parts, self._bucket, name, upload, part_number_marker=marker))
            have |= {part.part_number: part.etag for part in page.parts}
            marker = page.next_part_number_marker
            if not page.is_truncated or not marker:
                return upload, have

    def _retrying(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_random_exponential(multiplier=0.25, max=8),
            stop=stop_after_delay(self._patience),
            reraise=True,
        )

    def _try(self, request: Callable[[], T]) -> T:
        return self._retrying()(request)

    @contextmanager
    def _explained(self, key: str, *, reading: bool = False) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            where = f"{self.url}/{key}"
            code = error.code if isinstance(error, S3Error) else None
            # who may list only below a prefix is told on AWS that access to a missing object is denied
            if code == "NoSuchKey" or (code == "AccessDenied" and reading and not self.exists(key)):
                raise NotFound("no such object in the store", where=where) from error
            raise explained(error, where) from error
