"""What a store needs before anything is read or written: its URL, the environment, the client, the policy of its key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pytest

from biasgym.errors import BiasGymError
from biasgym.store import LocalStore, open_store, policy
from biasgym.store.s3 import S3Store


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "s3://Bad_Name/x", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BiasGymError, match=r"s3://bucket"):
        open_store(url)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"BIASGYM_S3_ENDPOINT": "127.0.0.1:9000"}, "BIASGYM_S3_ENDPOINT: not an endpoint"),
        ({"BIASGYM_S3_ENDPOINT": "http://host/path"}, "BIASGYM_S3_ENDPOINT: not an endpoint"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_what_the_environment_lacks_is_said(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
) -> None:
    given = {"BIASGYM_S3_ENDPOINT": "http://h:1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    for name, value in {**given, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BiasGymError, match=message):
        open_store("s3://bucket/prefix")


@pytest.mark.parametrize(
    ("endpoint", "named", "region"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "", "eu-central-1"),
        ("https://s3.amazonaws.com", "", "us-east-1"),
        ("https://s3.amazonaws.com", "ap-southeast-2", "ap-southeast-2"),
        ("http://minio:9000", "", "us-east-1"),
        ("http://minio:9000", "here", "here"),
    ],
)
def test_the_region(endpoint: str, named: str, region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the environment, else the one that an address of AWS names."""
    given = {
        "BIASGYM_S3_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": named,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cast(S3Store, open_store("s3://bucket/x"))._client._base_url.region == region


def test_without_the_s3_client_folders_work_and_buckets_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "minio", None)
    for name in ("biasgym.store.s3", "biasgym.store.faults"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert isinstance(open_store(tmp_path), LocalStore)
    with pytest.raises(BiasGymError, match=r"pip install 'biasgym\[store\]'"):
        open_store("s3://bucket/prefix")


def test_the_policy_allows_no_more_than_the_prefix() -> None:
    listing, objects = policy("s3://bucket/team/bias")["Statement"]
    assert objects["Resource"] == ["arn:aws:s3:::bucket/team/bias/*"]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["team/bias/*"]}}
    assert not any("*" in action for statement in (listing, objects) for action in statement["Action"])
