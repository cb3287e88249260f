"""Creates the bucket of a store that the chart runs, once the store answers. Run in the cpu image by a Job.

BIASGYM_S3_ENDPOINT=http://host:9000 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... python make_bucket.py BUCKET
"""

import os
import sys
import time
from urllib.parse import urlsplit

from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

PATIENCE = 300  # seconds: a store may have to wait for its volume
PAUSE = 3
REFUSED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")


def make_bucket(client: Minio, bucket: str) -> str:
    """Makes the bucket unless it is there; what happened, as a sentence."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if client.bucket_exists(bucket):
                return f"Bucket {bucket} exists."
            client.make_bucket(bucket)
            return f"Bucket {bucket} is made."
        except (HTTPError, S3Error) as error:
            if isinstance(error, S3Error) and error.code in REFUSED:
                sys.exit(f"The store refuses the keys ({error.code}): is its secret older than its volume?")
            if time.monotonic() > deadline:
                raise
            print(f"The store does not answer yet ({type(error).__name__}).", flush=True)
            time.sleep(PAUSE)


def main() -> None:
    endpoint = urlsplit(os.environ["BIASGYM_S3_ENDPOINT"])
    client = Minio(
        endpoint.netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        secure=endpoint.scheme == "https",
    )
    print(make_bucket(client, sys.argv[1]))


if __name__ == "__main__":
    main()
