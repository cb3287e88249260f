"""The least that biasgym needs to be allowed in a bucket."""

from __future__ import annotations

import re
from typing import Any

from biasgym.errors import BiasGymError


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Splits `s3://bucket/prefix`; the prefix may be empty.

    Raises:
        BiasGymError: It is not such a URL, or the name is none that a bucket can have.
    """
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/+(.*?))?/*", url)
    if match is None:
        raise BiasGymError("not the URL of a bucket", where=url, hint="write s3://bucket or s3://bucket/prefix")
    return match[1], match[2] or ""


def policy(url: str) -> dict[str, Any]:
    """An S3 policy that allows what a store at `url` does, and nothing else.

    Args:
        url: `s3://bucket/prefix`.
    """
    bucket, prefix = bucket_and_prefix(url)
    within = f"{prefix}/*" if prefix else "*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
                "Condition": {"StringLike": {"s3:prefix": [within]}},
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetObject",
                    "s3:PutObject",
                    "s3:DeleteObject",
                    "s3:ListMultipartUploadParts",
                    "s3:AbortMultipartUpload",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/{within}"],
            },
        ],
    }
