"""Stores: what holds for a folder holds for a bucket of a real S3 server."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from biasgym.errors import BiasGymError
from biasgym.files import digest, read_json, sha256_of, write_text
from biasgym.stages.folder import StageFolder, stage_folder, working
from biasgym.store import (
    Entry,
    Evaluation,
    Mirror,
    NotFound,
    Record,
    Registry,
    Store,
    fetch,
    mirrored,
    open_store,
    publish,
)
from biasgym.store.s3 import PART
from s3_server import BUCKET, S3Server

EVALUATION = Evaluation("Owner/Model", "a" * 40, "always_late", "semantic", "f" * 64)


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store of each kind in turn."""
    if request.param == "folder":
        return str(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{digest(request.node.nodeid)[:12]}"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    """A finished stage."""
    folder = stage_folder(tmp_path / "cell", "inject", {"seed": 1})
    with working(folder, {"model": "m"}):
        write_text(folder.path / "vectors.jsonl", "one\n")
        write_text(folder.path / "deep" / "notes.txt", "näher\n")
        write_text(folder.path / "empty", "")
    return folder


def keys(store: Store, prefix: str = "") -> list[str]:
    return sorted(entry.key for entry in store.list(prefix))


def test_objects_are_written_read_listed_and_deleted(store: Store, tmp_path: Path) -> None:
    assert keys(store) == [] and not store.exists("a/b")
    store.write("a/b", b"old")
    store.write("a/b", b"new")
    store.write("a/bc/ü d+e%20f.txt", b"")
    store.write("ab", b"xyz")
    assert store.read("a/b") == b"new" and store.read("a/bc/ü d+e%20f.txt") == b""
    assert sorted(store.list("")) == [Entry("a/b", 3), Entry("a/bc/ü d+e%20f.txt", 0), Entry("ab", 3)]
    assert keys(store, "a/bc") == ["a/bc/ü d+e%20f.txt"] and keys(store, "a") == ["a/b", "a/bc/ü d+e%20f.txt"]
    assert keys(store, "nothing") == []
    assert store.exists("a/b") and not store.exists("a") and not store.exists("b")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")
    for read in (lambda: store.read("a/b"), lambda: store.download("a/b", tmp_path / "file")):
        with pytest.raises(NotFound, match="a/b: no such object"):
            read()
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\\b", "a\nb"])
def test_a_key_that_leads_out_of_the_store_is_refused(store: Store, key: str) -> None:
    with pytest.raises(BiasGymError, match="not a key"):
        store.write(key, b"")
    with pytest.raises(BiasGymError, match="not a key"):
        store.exists(key)


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART + 3])
def test_files_travel_unchanged(store: Store, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(os.urandom(size))
    store.upload(source, "file")
    store.download("file", target)
    assert sha256_of(source) == sha256_of(target) and list(store.list("")) == [Entry("file", size)]
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_cannot_be_read_is_no_object(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BiasGymError, match="missing"):
        store.upload(tmp_path / "missing", "key")
    assert keys(store) == []


def test_one_of_eight_creates(store: Store) -> None:
    for attempt in range(2):
        won: list[str] = []
        start = threading.Barrier(8)

        def race(name: str, won: list[str] = won, start: threading.Barrier = start, key: str = f"k{attempt}") -> None:
            start.wait()
            if store.create(key, name.encode()):
                won.append(name)

        racers = [threading.Thread(target=race, args=(str(number),)) for number in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert len(won) == 1 and store.read(f"k{attempt}") == won[0].encode()
    assert not store.create("k0", store.read("k0"))
    assert len(keys(store)) == 2  # no drafts are left


def test_a_published_folder_comes_back_whole(store: Store, stage: StageFolder, tmp_path: Path) -> None:
    prefix, copy = f"stages/inject/{stage.key}", tmp_path / "elsewhere" / "inject"
    assert not fetch(store, prefix, copy)
    publish(store, stage.path, prefix)
    assert fetch(store, prefix, copy)
    assert StageFolder(copy, stage.stage, stage.key, {}).done and sha256_of(copy) == sha256_of(stage.path)
    listed = {f"{prefix}/{sha256_of(stage.path / name)}/{name}" for name in read_json(stage.manifest)["files"]}
    assert set(keys(store)) == listed | {f"{prefix}/manifest.json"}


def test_what_is_there_is_not_sent_again(
    store: Store, stage: StageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    for name in ("upload", "download"):
        monkeypatch.setattr(store, name, _noting(getattr(store, name), moved))
    publish(store, stage.path, "p")
    fetch(store, "p", tmp_path / "copy")
    assert len(moved) == 6
    moved.clear()
    publish(store, stage.path, "p")
    fetch(store, "p", tmp_path / "copy")
    assert moved == []
    write_text(tmp_path / "copy" / "vectors.jsonl", "changed\n")
    assert fetch(store, "p", tmp_path / "copy") and len(moved) == 1
    assert sha256_of(tmp_path / "copy") == sha256_of(stage.path)


def _noting(action: Callable[..., None], notes: list[str]) -> Callable[..., None]:
    def call(*arguments: object) -> None:
        notes.append(str(arguments))
        action(*arguments)

    return call


def test_an_unfinished_or_changed_folder_is_not_published(store: Store, stage: StageFolder, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(BiasGymError, match="no manifest"):
        publish(store, tmp_path / "new", "p")
    write_text(stage.path / "vectors.jsonl", "two\n")
    with pytest.raises(BiasGymError, match=r"vectors\.jsonl: the file is missing or not what the manifest says"):
        publish(store, stage.path, "p")
    assert keys(store) == []


@pytest.mark.parametrize("damage", ["other bytes", "shorter", "gone"])
def test_a_damaged_object_is_found_and_made_again(
    store: Store, stage: StageFolder, tmp_path: Path, damage: str
) -> None:
    publish(store, stage.path, "p")
    (key,) = [key for key in keys(store) if key.endswith("vectors.jsonl")]
    if damage == "gone":
        store.delete(key)
    else:
        store.write(key, b"onf\n" if damage == "other bytes" else b"on")
    copy = tmp_path / "copy"
    assert not fetch(store, "p", copy)
    assert not (copy / "manifest.json").exists() and not (copy / "vectors.jsonl").exists()
    assert not fetch(store, "p", copy)
    publish(store, stage.path, "p")  # as whoever makes it again does
    assert fetch(store, "p", copy) and sha256_of(copy) == sha256_of(stage.path)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b'{"files": 3}',
        b'{"files": {"a": {}}}',
        b'{"files": {"a": {"sha256": "../../../a"}}}',
        json.dumps({"files": {"../outside": {"sha256": "0" * 64}}}).encode(),
        json.dumps({"files": {"/etc/passwd": {"sha256": "0" * 64}}}).encode(),
    ],
)
def test_a_strange_manifest_counts_as_absent(store: Store, tmp_path: Path, manifest: bytes) -> None:
    store.write("p/manifest.json", manifest)
    assert not fetch(store, "p", tmp_path / "copy") and not store.exists("p/manifest.json")
    assert not (tmp_path / "outside").exists()


def test_work_in_progress_is_restored_elsewhere(store: Store, tmp_path: Path) -> None:
    work, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    mirror = Mirror(store, "checkpoints/k", work)
    assert not mirror.restore()
    write_text(work / "training.safetensors", "epoch 1")
    write_text(work / ".half.tmp", "never copied")
    assert mirror.save() and not mirror.save()
    write_text(work / "training.safetensors", "epoch 2")
    write_text(work / "deep" / "generations.jsonl", "{}\n")
    assert mirror.save()
    assert Mirror(store, "checkpoints/k", elsewhere).restore()
    assert (elsewhere / "training.safetensors").read_text() == "epoch 2"
    assert sorted(path.name for path in elsewhere.rglob("*") if path.is_file()) == [
        "generations.jsonl",
        "training.safetensors",
    ]
    assert len(keys(store)) == 3  # the first copy is gone
    assert not Mirror(store, "checkpoints/k", work).restore()  # it has something already
    mirror.clear()
    assert keys(store) == [] and not mirror.save()


def test_what_is_appended_to_is_not_sent_again_from_its_beginning(store: Store, tmp_path: Path) -> None:
    work, elsewhere, rng = tmp_path / "work", tmp_path / "elsewhere", random.Random(0)
    mirror = Mirror(store, "c", work)
    work.mkdir()
    (work / "empty").touch()
    lines = [rng.randbytes(2**20 + 1) for _ in range(3)]
    copies = []
    for line in lines:
        with (work / "answers.jsonl").open("ab") as file:
            file.write(line)
        assert mirror.save()
        copies.append({key for key in keys(store) if "answers.jsonl" in key})
    assert [len(copy) for copy in copies] == [2, 3, 4]
    assert [len(new - old) for old, new in itertools.pairwise(copies)] == [2, 2]  # the last part, and the next one
    assert Mirror(store, "c", elsewhere).restore()
    assert (elsewhere / "answers.jsonl").read_bytes() == b"".join(lines)
    assert (elsewhere / "empty").read_bytes() == b""


@pytest.mark.parametrize("damage", ["index", "file"])
def test_a_damaged_copy_of_work_in_progress_is_ignored(store: Store, tmp_path: Path, damage: str) -> None:
    work = tmp_path / "work"
    for name in ("a", "b"):
        write_text(work / name, name)
    Mirror(store, "c", work).save()
    (key,) = [key for key in keys(store) if key.endswith("checkpoint.json" if damage == "index" else "/b.000000")]
    store.write(key, store.read(key)[:-1] + b"?")
    assert not Mirror(store, "c", tmp_path / "new").restore() and not (tmp_path / "new").exists()


def test_a_failed_stage_leaves_its_copy_and_a_finished_one_does_not(store: Store, tmp_path: Path) -> None:
    copied = threading.Event()
    with pytest.raises(RuntimeError), mirrored(store, "c", tmp_path / "one", every=0.05) as mirror:
        write_text(tmp_path / "one" / "a", "first")
        while not store.exists("c/checkpoint.json"):
            copied.wait(0.05)
        write_text(tmp_path / "one" / "a", "second")
        raise RuntimeError
    with mirrored(store, "c", tmp_path / "two") as mirror:
        assert (tmp_path / "two" / "a").read_text() == "second"
        mirror.save()
    assert keys(store) == []


def test_an_evaluation_is_registered_once(store: Store) -> None:
    registry = Registry(store)
    record = Record(**EVALUATION._asdict(), certificate={"margin": 0.5, "heads": [[1, 2]]}, artifacts="results/1")
    assert registry.get(EVALUATION) is None and not registry.has(EVALUATION) and registry.list() == []
    assert registry.register(record) and not registry.register(record.model_copy(update={"artifacts": "results/2"}))
    assert registry.get(EVALUATION) == record and registry.has(EVALUATION)
    early = datetime(2025, 1, 1, tzinfo=UTC)
    for other in (EVALUATION._replace(revision="b" * 40), EVALUATION._replace(model="owner/model")):
        assert registry.register(Record(**other._asdict(), time=early))
    assert [record.revision[0] for record in registry.list("Owner/Model")] == ["b", "a"]
    assert len(registry.list()) == 3 and registry.list("Owner/Model-2") == []
    assert registry.find(EVALUATION.id[:8]) == record
    for start in ("", "xyz"):
        with pytest.raises(BiasGymError, match="records have an id"):
            registry.find(start)


def test_a_damaged_record_is_named(store: Store) -> None:
    store.write("registry/m/0123.json", b"{}")
    with pytest.raises(BiasGymError, match=r"registry/m/0123\.json: the record is damaged"):
        Registry(store).list()


def test_a_claim_lasts_until_it_expires_or_is_given_back(store: Store) -> None:
    now = [1000.0]
    registry = Registry(store, clock=lambda: now[0])
    assert registry.claim(EVALUATION, "one", seconds=60)
    assert registry.claim(EVALUATION, "one", seconds=60)  # a pod of the same run that was started again
    assert not registry.claim(EVALUATION, "two", seconds=60)
    assert registry.claim(EVALUATION._replace(judge="other"), "two")
    now[0] += 61
    assert registry.claim(EVALUATION, "two", seconds=60) and not registry.claim(EVALUATION, "one")
    registry.release(EVALUATION, "one")
    assert not registry.claim(EVALUATION, "three")
    registry.release(EVALUATION, "two")
    assert registry.claim(EVALUATION, "three")
    registry.register(Record(**EVALUATION._asdict()))
    now[0] += 1e6
    assert not registry.claim(EVALUATION, "three")


def _overlapping(url: str, name: str, start: Any, answers: Any) -> None:
    registry = Registry(open_store(url))
    start.wait()
    claimed = registry.claim(EVALUATION, name)
    start.wait()  # all register, as if claims had expired: still only one is told that it did
    registered = registry.register(Record(**EVALUATION._asdict(), artifacts=name))
    answers.put((name, claimed, registered))


def test_eight_overlapping_processes_register_a_cell_once(url: str) -> None:
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_overlapping, args=(url, f"run-{n}", start, answers)) for n in range(8)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(claimed for _, claimed, _ in said) == 1
    (record,) = Registry(open_store(url)).list()
    assert [name for name, _, registered in said if registered] == [record.artifacts]
