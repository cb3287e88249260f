"""What goes wrong with a store: servers that die, fill up, refuse or garble; processes that are killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import minio.time
import pytest

from biasgym.errors import BiasGymError, StorageError
from biasgym.files import sha256_of, write_text
from biasgym.stages.folder import StageFolder, stage_folder, working
from biasgym.store import Evaluation, Mirror, Record, Registry, fetch, mirrored, open_store, policy, publish
from biasgym.store.s3 import PART, S3Store, open_s3
from s3_server import BUCKET, READER_KEY, READER_SECRET, WORKER_KEY, WORKER_SECRET, S3Server


@pytest.fixture
def environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what a client of a server needs to know, by default of the common one, with some of it wrong."""

    def use(server: S3Server = s3, **changes: str) -> None:
        for name, value in {**server.environment, **changes}.items():
            monkeypatch.setenv(name, value)

    use()
    return use


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path, environment: Callable[..., None]) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"s3://{BUCKET}/{tmp_path.name}"


def big_stage(folder: Path, small: int = 12, large: int = 3 * PART + 5) -> StageFolder:
    """A finished stage that takes a while to travel: some small files and one that goes in parts."""
    stage = stage_folder(folder, "inject", {"seed": 1})
    with working(stage, {}):
        for number in range(small):
            (stage.path / f"file-{number:02d}").write_bytes(os.urandom(2**20))
        (stage.path / "large").write_bytes(os.urandom(large))
    return stage


PUBLISH = """
import sys, time
from pathlib import Path
from biasgym.store import open_store, publish
store = open_store(sys.argv[1])
upload = store.upload
store.upload = lambda path, key: (time.sleep(0.3), upload(path, key))  # nobody has published before the other looks
publish(store, Path(sys.argv[2]), "p")
"""


def test_a_publisher_that_is_killed_leaves_no_complete_folder(url: str, tmp_path: Path) -> None:
    stage, store = big_stage(tmp_path / "cell"), open_store(url)
    arrived: list[set[str]] = []
    for wanted in (1, 6):  # killed twice, each time a little later
        process = subprocess.Popen([sys.executable, "-c", PUBLISH, url, str(stage.path)])
        while len(list(store.list("p"))) < wanted and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        arrived.append({entry.key for entry in store.list("p")})
        assert not store.exists("p/manifest.json") and not fetch(store, "p", tmp_path / "copy")
    assert 1 <= len(arrived[0]) <= len(arrived[1]) < 14
    sent: list[str] = []
    upload = store.upload
    store.upload = lambda path, key: (sent.append(key), upload(path, key))[1]  # type: ignore[method-assign]
    publish(store, stage.path, "p")
    # what had arrived is not sent again; the server may still have taken in a file that it had when the client died
    assert sent and not arrived[1] & set(sent)
    assert fetch(store, "p", tmp_path / "copy") and sha256_of(tmp_path / "copy") == sha256_of(stage.path)


def test_an_interrupted_upload_goes_on_at_the_part_where_it_stopped(
    environment: Callable[..., None], s3: S3Server, tmp_path: Path
) -> None:
    store, client = open_s3(f"s3://{BUCKET}/parts"), s3.client()
    data = os.urandom(2 * PART + 7)
    (tmp_path / "large").write_bytes(data)
    upload = client._create_multipart_upload(BUCKET, "parts/large", {})
    client._upload_part(BUCKET, "parts/large", data[:PART], None, upload, 1)
    client._upload_part(BUCKET, "parts/large", b"x" * PART, None, upload, 2)  # of a file that has changed since
    sent: list[int] = []
    send = store._client._upload_part
    store._client._upload_part = lambda *a: (sent.append(a[-1]), send(*a))[1]  # type: ignore[method-assign]
    assert not store.exists("large")
    store.upload(tmp_path / "large", "large")
    assert sent == [2, 3] and store.read("large") == data
    assert client._list_multipart_uploads(BUCKET, prefix="parts/").uploads == []


def test_a_server_that_dies_and_starts_again_in_the_middle_of_a_transfer_costs_only_time(
    s3: S3Server, environment: Callable[..., None], tmp_path: Path
) -> None:
    stage, store, copy = big_stage(tmp_path / "cell"), open_s3(f"s3://{BUCKET}/restarted"), tmp_path / "copy"
    transfers: list[tuple[str, Callable[[], object], Callable[[], int]]] = [
        ("upload", lambda: publish(store, stage.path, "p"), lambda: len(list(store.list("p")))),
        ("download", lambda: fetch(store, "p", copy), lambda: len(list(copy.iterdir())) if copy.is_dir() else 0),
    ]
    for name, transfer, arrived in transfers:
        dead, begun, move = threading.Event(), itertools.count(), getattr(store, name)

        def at_most_six_before_its_death(
            *where: object, dead: threading.Event = dead, begun: Iterator[int] = begun, move: Callable[..., None] = move
        ) -> None:
            if next(begun) >= 6:
                dead.wait()
            move(*where)

        setattr(store, name, at_most_six_before_its_death)
        with ThreadPoolExecutor(1) as threads:
            moving = threads.submit(transfer)
            while arrived() < 3:
                time.sleep(0.001)
            s3.kill()
            dead.set()
            assert not moving.done()
            s3.start()
            moving.result()
    assert sha256_of(copy) == sha256_of(stage.path)


def test_a_full_store_is_said_and_what_was_there_stays(tmp_path: Path, environment: Callable[..., None]) -> None:
    options = {"volume.max": "1", "master.volumeSizeLimitMB": "1"}
    server = S3Server(tmp_path / "server", **options)
    server.start()
    environment(server)
    try:
        store = open_s3(f"s3://{BUCKET}/run", patience=1)
        first = stage_folder(tmp_path, "inject", {"seed": 1})
        with working(first, {}):
            (first.path / "file").write_bytes(b"small")
        publish(store, first.path, "first")
        second = big_stage(tmp_path, 1, 2**22)
        with pytest.raises(StorageError, match="as a full one does"):
            publish(store, second.path, "second")
        assert fetch(store, "first", tmp_path / "copy") and not fetch(store, "second", tmp_path / "other")
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "the server does not know the access key; check AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, "the secret key is wrong; check AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET}, "access is denied"),
    ],
)
def test_wrong_keys_are_refused_at_once(
    environment: Callable[..., None], changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    environment(**changes)
    store = open_s3(f"s3://{BUCKET}/keys", patience=3600)
    (tmp_path / "file").write_bytes(b"data")
    for action in (
        lambda: store.write("a", b""),
        lambda: store.create("a", b""),
        lambda: store.upload(tmp_path / "file", "a"),
    ):
        with pytest.raises(BiasGymError, match=message) as refused:
            action()
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(refused.value)
    if "access is denied" not in message:
        for read in (lambda: store.read("a"), lambda: list(store.list("")), lambda: store.exists("a")):
            with pytest.raises(BiasGymError, match=message):
                read()


def test_a_bucket_that_is_missing_is_named(environment: Callable[..., None], tmp_path: Path) -> None:
    environment(AWS_ACCESS_KEY_ID=READER_KEY, AWS_SECRET_ACCESS_KEY=READER_SECRET)
    store = open_s3("s3://no-such-bucket/x", patience=3600)
    for action in (
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: list(store.list("")),
        lambda: fetch(store, "p", tmp_path / "copy"),
        lambda: Registry(store).list(),
    ):
        with pytest.raises(BiasGymError, match="there is no such bucket; create it, or correct the URL"):
            action()


def test_the_policy_is_enough_and_no_more(environment: Callable[..., None], s3: S3Server, tmp_path: Path) -> None:
    environment(AWS_ACCESS_KEY_ID=WORKER_KEY, AWS_SECRET_ACCESS_KEY=WORKER_SECRET)
    ours, theirs = f"s3://{BUCKET}/team/ours", f"s3://{BUCKET}/team/theirs"
    allowed = policy(ours)
    for statement in allowed["Statement"]:
        statement["Principal"] = {"AWS": "*"}
    s3.client().set_bucket_policy(BUCKET, json.dumps(allowed))
    try:
        store, stage = open_s3(ours), big_stage(tmp_path, 1, PART + 1)
        publish(store, stage.path, "p")
        assert fetch(store, "p", tmp_path / "copy") and not fetch(store, "q", tmp_path / "none")
        mirror = Mirror(store, "c", tmp_path / "copy")
        assert mirror.save()
        mirror.clear()
        registry = Registry(store)
        assert registry.claim(_EVALUATION, "run") and registry.register(Record(**_EVALUATION._asdict()))
        assert len(registry.list()) == 1
        other = open_s3(theirs)
        for action in (
            lambda: other.read("a"),
            lambda: other.write("a", b""),
            lambda: other.create("a", b""),
            lambda: list(other.list("")),
            lambda: other.delete("a"),
            lambda: publish(other, stage.path, "p"),
        ):
            with pytest.raises(BiasGymError, match="access is denied"):
                action()
    finally:
        s3.client().delete_bucket_policy(BUCKET)


def test_a_clock_that_is_wrong_is_named(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    now = minio.time.utcnow
    monkeypatch.setattr(minio.time, "utcnow", lambda: now() - timedelta(hours=2))
    with pytest.raises(BiasGymError, match="clock and the server's differ too much; set the clock"):
        open_store(f"s3://{BUCKET}/clock").read("a")


def test_a_server_that_is_not_there_is_named(environment: Callable[..., None], tmp_path: Path) -> None:
    environment(BIASGYM_S3_ENDPOINT="http://127.0.0.1:9")
    store = open_s3(f"s3://{BUCKET}/x", patience=0.5)
    with pytest.raises(BiasGymError, match=r"cannot be reached .*check BIASGYM_S3_ENDPOINT"):
        store.read("a")
    with pytest.raises(BiasGymError, match="cannot be reached"):
        fetch(store, "p", tmp_path / "copy")


def test_a_store_that_goes_away_costs_the_copy_and_not_the_work(
    environment: Callable[..., None], tmp_path: Path
) -> None:
    store = open_s3(f"s3://{BUCKET}/away", patience=0.2)
    told: list[str] = []
    with mirrored(store, "c", tmp_path / "work", every=0.01, progress=_Told(told)):
        write_text(tmp_path / "work" / "a", "1")
        environment(BIASGYM_S3_ENDPOINT="http://127.0.0.1:9")
        store._client = open_s3(store.url)._client
        while not told:
            time.sleep(0.01)
    assert "work in progress is not copied" in told[0] and (tmp_path / "work" / "a").exists()


class _Told:
    def __init__(self, said: list[str]) -> None:
        self._said = said

    def task(self, description: str, total: float, unit: str) -> Iterator[Callable[[float], None]]:
        yield lambda _amount: None

    def say(self, message: str) -> None:
        self._said.append(message)


# Answers that SeaweedFS never gives, from a server that only says them.
Answers = list[tuple[int, str, str]]  # status, content type, body
CUT = "cut short"  # in place of a content type


@pytest.fixture
def saying(environment: Callable[..., None]) -> Iterator[Callable[[Answers], S3Store]]:
    """A store whose server gives the listed answers in turn, the last one for ever."""
    servers = []

    def start(answers: Answers) -> S3Store:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, kind, body = answers[0] if len(answers) == 1 else answers.pop(0)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body) + (kind == CUT)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_PUT = do_HEAD = do_POST = answer

            def log_message(self, *_arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        environment(BIASGYM_S3_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
        return open_s3("s3://bucket/x", patience=5)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def error(code: str, status: int) -> tuple[int, str, str]:
    return status, "application/xml", f"<Error><Code>{code}</Code><Message>message</Message></Error>"


BUSY = [error("SlowDown", 503), (502, "text/html", "<html>bad gateway</html>"), error("InternalError", 500)]
DONE = (200, "application/xml", "")
_EVALUATION = Evaluation("m", "r", "c", "j", "s")


def test_a_busy_server_is_asked_again(saying: Callable[[Answers], S3Store]) -> None:
    saying([*BUSY, DONE]).write("a", b"1")
    assert saying([*BUSY, (200, "text/plain", "data")]).read("a") == b"data"
    assert saying([error("ConditionalRequestConflict", 409), DONE]).create("a", b"1")


def test_an_object_that_our_own_lost_request_made_is_ours(saying: Callable[[Answers], S3Store]) -> None:
    exists, ours = error("PreconditionFailed", 412), (200, "text/plain", "ours")
    assert saying([BUSY[0], exists, ours]).create("a", b"ours")
    assert not saying([BUSY[0], exists, ours]).create("a", b"theirs")
    assert not saying([exists, ours]).create("a", b"ours")


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (error("NoSuchBucket", 404), StorageError, "there is no such bucket; create it"),
        (error("XMinioStorageFull", 507), StorageError, "the store is full"),
        (error("ExpiredToken", 400), StorageError, "the session token has expired"),
        (error("PermanentRedirect", 301), StorageError, "another region; set AWS_REGION"),
        (error("Whatever", 400), StorageError, r"refuses \(Whatever: message\)"),
        (error("InternalError", 500), StorageError, "fails again and again"),
        ((404, "text/html", "<html>no</html>"), StorageError, "not the answer of an S3 server"),
    ],
)
def test_what_a_server_refuses_is_explained(
    saying: Callable[[Answers], S3Store], answer: tuple[int, str, str], kind: type[BiasGymError], message: str
) -> None:
    store = saying([answer])
    store._patience = 0.1
    with pytest.raises(kind, match=message) as caught:
        store.write("a", b"1")
    assert type(caught.value) is kind and "s3://bucket/x/a" in str(caught.value)


def test_a_missing_object_is_missing_even_where_access_to_it_is_denied(saying: Callable[[Answers], S3Store]) -> None:
    listing = (200, "application/xml", "<ListBucketResult><Name>bucket</Name></ListBucketResult>")
    assert Registry(saying([error("AccessDenied", 403), listing])).get(_EVALUATION) is None


def test_an_answer_cut_short_is_asked_for_again(saying: Callable[[Answers], S3Store]) -> None:
    assert saying([(200, CUT, "da"), (200, "text/plain", "data")]).read("a") == b"data"
