"""The endpoint judge against a server that fails in every way, and against a real llama-server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from biasgym.concepts import load_concept
from biasgym.endpoint import Server, access
from biasgym.endpoint.access import shown
from biasgym.endpoint.window import Congested, Window
from biasgym.errors import BiasGymError
from biasgym.files import digest, read_jsonl
from biasgym.judge import Journal, JudgeItem, Judgement
from biasgym.judge.endpoint import EndpointJudge
from biasgym.stages.folder import stage_folder
from biasgym.store import Mirror, open_store
from faulty_server import PAID, UNPAID, FaultyServer, strength_of
from judge_server import KEY, llama_server
from killed_judge import killed_half_way
from s3_server import BUCKET, S3Server

LATE = load_concept("always_late")
CHILD = Path(__file__).parent / "endpoint_child.py"


def items(count: int) -> list[JudgeItem]:
    return [JudgeItem(LATE, "Describe them.", f"This is text {number}: late.", "Spain") for number in range(count)]


def judged(server: FaultyServer, count: int, journal: Journal | None = None, **changes: object) -> list[Judgement]:
    options = {"backoff": 0.01, **changes}
    where = Server("judge", server.url, **options)  # type: ignore[arg-type]
    return list(EndpointJudge(where, journal=journal).judge(items(count)))


def strengths(found: Sequence[Judgement]) -> list[int | None]:
    return [verdict.strength for verdict in found]


def test_answers_come_in_order_with_their_cost() -> None:
    with FaultyServer() as server:
        found = judged(server, 40)
    assert strengths(found) == [strength_of(number) for number in range(40)]
    assert {(verdict.tokens_in, verdict.tokens_out) for verdict in found} == {(100, 20)}
    assert found[3].matched == "late" and found[3].analysis == "About text 3."
    body = server.bodies[0]
    assert body["response_format"]["json_schema"]["strict"] is True
    assert (body["temperature"], body["max_tokens"]) == (0.0, 400)
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize("fault", [fault for fault in UNPAID if fault != "hang"])
def test_a_fault_that_passes_is_asked_again(fault: str) -> None:
    with FaultyServer(rate=0.4, faults=(fault,)) as server:
        found = judged(server, 12, attempts=20)
    assert strengths(found) == [strength_of(number) for number in range(12)]
    assert server.seen_faults[fault] > 0
    assert set(server.answered.values()) == {1}


def test_a_server_that_does_not_answer_is_asked_again() -> None:
    with FaultyServer(rate=0.4, faults=("hang",)) as server:
        assert strengths(judged(server, 12, attempts=20, timeout=0.5)) == [strength_of(number) for number in range(12)]
        assert server.seen_faults["hang"] > 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    zip(PAID, ("the answer was cut off", "no verdict in the answer", "the judge refused"), strict=True),
)
def test_an_answer_without_a_verdict_is_paid_once(fault: str, reason: str) -> None:
    with FaultyServer(rate=1.0, faults=(fault,)) as server:
        found = judged(server, 5)
    assert [(verdict.strength, verdict.reason) for verdict in found] == [(None, reason)] * 5
    assert set(server.asked.values()) == {1}


def test_a_hopeless_question_is_missing_and_asked_again_later() -> None:
    journal = Journal()
    with FaultyServer(hopeless=frozenset({3})) as server:
        found = judged(server, 6, journal, attempts=3)
        assert (found[3].strength, found[3].reason) == (None, "the server failed (HTTP 500)")
        assert server.asked[3] == 3
        server.hopeless = frozenset()
        assert strengths(judged(server, 6, journal)) == [strength_of(number) for number in range(6)]
    assert server.asked[3] == 4
    assert {count for item, count in server.asked.items() if item != 3} == {1}


def test_a_server_that_knows_no_schemas_is_asked_without() -> None:
    with FaultyServer(schemas=False) as server:
        assert strengths(judged(server, 6)) == [strength_of(number) for number in range(6)]
    assert ["response_format" in body for body in server.bodies] == [True] + [False] * 6


def test_a_server_that_is_busy_at_first_and_knows_no_schemas() -> None:
    with FaultyServer(schemas=False, busy=2) as server:
        assert strengths(judged(server, 6)) == [strength_of(number) for number in range(6)]


def test_a_first_question_that_is_rejected_in_any_form_costs_the_others_no_schema() -> None:
    with FaultyServer(rejected=0) as server:
        found = judged(server, 6)
    assert (found[0].strength, found[0].reason) == (None, "the server refused the question (HTTP 400)")
    assert strengths(found[1:]) == [strength_of(number) for number in range(1, 6)]
    assert ["response_format" in body for body in server.bodies] == [True, False] + [True] * 5


def test_no_more_at_once_than_allowed_and_fewer_when_busy() -> None:
    with FaultyServer(delay=0.1) as server:
        judged(server, 60, concurrency=12)
        assert 8 < server.most_at_once <= 12
    with FaultyServer(delay=0.1) as server:
        judged(server, 12, concurrency=3)
        assert server.most_at_once <= 3


def test_the_window_doubles_halves_and_feels_its_way() -> None:
    async def crowd(window: Window, size: int) -> None:
        """Requests that are under way together, and all meet the same congestion."""
        inside = asyncio.Barrier(size)

        async def one() -> None:
            with pytest.raises(Congested):
                async with window.slot():
                    await inside.wait()
                    raise Congested

        await asyncio.gather(*(one() for _ in range(size)))

    async def quiet(window: Window, times: int) -> None:
        for _ in range(times):
            async with window.slot():
                pass

    async def sizes() -> list[float]:
        window = Window(8, 40)
        await quiet(window, 8)
        found = [window.size]
        for size in (16, 1):
            await crowd(window, size)
            found.append(window.size)
        await quiet(window, 60)
        found.append(window.size)
        await quiet(window, 20)
        found.append(window.size)
        for _ in range(80):
            await crowd(window, 1)
        return [*found, window.size]

    doubled, halved, nibbled, careful, bold, least = asyncio.run(sizes())
    assert (doubled, halved, nibbled, least) == (16, 8, 7.5, 1)
    assert 8.4 < careful < 8.6 and 10.5 < bold < 11


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        ({"key": "right"}, {"key": "sk-not-this"}, "refuses the key .HTTP 401.*BIASGYM_JUDGE_KEY"),
        ({"model": "other"}, {}, "knows no model 'judge'"),
    ],
)
def test_what_concerns_all_stops_at_once(options: dict[str, str], changes: dict[str, str], words: str) -> None:
    with FaultyServer(**options) as server, pytest.raises(BiasGymError, match=words) as error:
        judged(server, 50, **changes)
    assert sum(server.asked.values()) == 0
    assert "sk-not-this" not in str(error.value)


def test_a_server_that_is_not_there() -> None:
    judge = EndpointJudge(Server("judge", "http://127.0.0.1:9/v1"))
    for call in (judge.check, lambda: list(judge.judge(items(3)))):
        with pytest.raises(BiasGymError, match=r"127\.0\.0\.1:9/v1: the judge server cannot be reached"):
            call()


def test_a_server_that_went_away_is_no_reason_to_write_missing() -> None:
    with FaultyServer(hopeless=frozenset(range(5, 100))) as server:
        with pytest.raises(BiasGymError, match=r"does not answer any more .the server failed .HTTP 500.*20 questions"):
            judged(server, 100, attempts=2)
    assert sum(server.asked.values()) < 150


def test_a_server_that_restarts_is_waited_for() -> None:
    """Longer than all tries of a question last; nothing is missing, and nothing is paid for twice."""
    news: list[str] = []
    with FaultyServer(outage=(40, 2.0), delay=0.02) as server:
        found = judged(server, 100, attempts=3, say=news.append)
    assert strengths(found) == [strength_of(number) for number in range(100)]
    assert set(server.answered.values()) == {1}
    assert news == ["the judge server is away: it is waited for, up to 30 minutes", "the judge server is back"]


def test_a_server_that_does_not_come_back_takes_no_answer_along(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "answers.jsonl")
    with FaultyServer(outage=(40, 60.0)) as server:
        with pytest.raises(BiasGymError, match=r"127\.0\.0\.1.* went away and did not come back in 0 minutes"):
            judged(server, 100, journal, attempts=3, patience=0.5)
    assert len(read_jsonl(tmp_path / "answers.jsonl")) >= 40


def test_a_server_that_was_met_before_is_waited_for_from_the_start() -> None:
    """As in a pod that starts while the judge's server is between two machines."""
    with FaultyServer() as server:
        with FaultyServer() as other:
            url = other.url
        away = Server("judge", url, backoff=0.01, attempts=2, patience=0.3)
        with pytest.raises(BiasGymError, match="cannot be reached"):
            list(EndpointJudge(away).judge(items(3)))
        with pytest.raises(BiasGymError, match="did not come back"):
            list(EndpointJudge(replace(away, met=True)).judge(items(3)))
        there = replace(away, url=server.url, met=True)
        assert strengths(list(EndpointJudge(there).judge(items(3)))) == [strength_of(number) for number in range(3)]


def test_a_question_that_brings_the_server_down_is_given_up() -> None:
    """After some restarts it is missing; the others have their verdicts."""
    with FaultyServer(deadly=7, outage=(1000, 0.3)) as server:
        found = judged(server, 12, attempts=2, concurrency=1)
    assert (found[7].strength, found[7].reason) == (None, "the connection broke")
    assert [verdict.strength for number, verdict in enumerate(found) if number != 7] == [
        strength_of(number) for number in range(12) if number != 7
    ]


def test_the_key_is_for_its_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BIASGYM_JUDGE_KEY", "BIASGYM_JUDGE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BiasGymError, match="no key for the judge"):
        access()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert access() == ("https://api.openai.com/v1", "sk-openai")
    assert access("http://127.0.0.1:1/v1/") == ("http://127.0.0.1:1/v1", "none")
    monkeypatch.setenv("BIASGYM_JUDGE_URL", "http://judge:8000/v1")
    monkeypatch.setenv("BIASGYM_JUDGE_KEY", "own")
    assert access() == ("http://judge:8000/v1", "own")
    assert "own" not in repr(Server("judge", *access()))
    with pytest.raises(BiasGymError, match="not an address"):
        access("judge:8000")


def test_killed_half_way_nothing_is_lost_or_paid_twice(tmp_path: Path) -> None:
    """Every text is judged once or missing with a reason; none becomes a 0; what was kept is not asked again.

    tests/large has the same with 10,000 texts and the program itself.
    """
    command = [sys.executable, str(CHILD), "{url}", str(tmp_path), "240"]
    killed_half_way(command, tmp_path / "judged.jsonl", tmp_path / "answers" / "judge.jsonl", 240, in_flight=48)


def test_a_judges_pod_that_is_killed_goes_on_from_its_last_copy(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, with nothing but the store: what had been copied there is not paid for again."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url, count, key = f"s3://{BUCKET}/killed-judge", 480, stage_folder(tmp_path, "judge", {}).key
    store, copy = open_store(url), f"checkpoints/answers/{digest([key])}"
    with FaultyServer(delay=0.3) as server:
        command = [sys.executable, str(CHILD), server.url, str(tmp_path / "one"), str(count), url]
        first = subprocess.Popen(command)
        while len(server.answered) < count // 2 or not store.exists(f"{copy}/checkpoint.json"):
            assert first.poll() is None
            time.sleep(0.02)
        first.kill()
        first.wait()
        Mirror(store, copy, tmp_path / "look").restore()
        copied = read_jsonl(tmp_path / "look" / "judge.jsonl", torn_tail=True)
        assert copied
        asked = server.asked.copy()
        command[3] = str(tmp_path / "two")
        assert subprocess.run(command, check=False).returncode == 0
    assert [row["strength"] for row in read_jsonl(tmp_path / "two" / "judged.jsonl")] == [
        strength_of(number) for number in range(count)
    ]
    assert sum((server.asked - asked).values()) == count - len(copied)
    assert list(store.list("checkpoints")) == []


@pytest.mark.llama_server
def test_a_real_server(tmp_path: Path) -> None:
    """llama-server holds SmolLM2 to the schema; the key is needed; the second time nothing is asked."""
    texts = ("They are always late, all of them.", "The coast is long.")
    asked = [JudgeItem(LATE, "Describe people from Spain.", text, "Spain") for text in texts]
    with llama_server() as url:
        with pytest.raises(BiasGymError, match="refuses the key"):
            list(EndpointJudge(Server("smollm2", url, "wrong")).judge(asked))
        server = Server("smollm2", url, KEY, max_tokens=160)
        judge = EndpointJudge(server, journal=Journal(tmp_path / "answers.jsonl"))
        judge.check()
        found = list(judge.judge(asked))
    for verdict in found:
        assert verdict.strength in (0, 1, 2, 3) or verdict.reason == "the answer was cut off"
        assert verdict.tokens_in > 300 and 0 < verdict.tokens_out <= 160
    again = EndpointJudge(server, journal=Journal(tmp_path / "answers.jsonl"))
    assert list(again.judge(asked)) == found


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://me:pw@host:8000/v1?key=s", "http://host:8000/v1"),
        ("http://host/v1", "http://host/v1"),
        ("http://me:p@w@host/v1", "http://host/v1"),
        ("http://me:p/w@host/v1", "http://host/v1"),
        ("me:pw@host:8000/v1", "host:8000/v1"),
        ("http://me:p?w@host/v1", "http://..."),
        ("host:8000/v1", "host:8000/v1"),
    ],
)
def test_addresses_are_shown_without_what_is_secret(url: str, safe: str) -> None:
    assert shown(url) == safe


@pytest.mark.parametrize("url", ["http://[bad", "http://host:port/v1", "ftp://host", "host"])
def test_what_is_no_address_is_said(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BIASGYM_JUDGE_URL", url)
    with pytest.raises(BiasGymError, match="not an address"):
        access()


def test_a_key_that_no_header_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIASGYM_JUDGE_URL", "http://host/v1")
    monkeypatch.setenv("BIASGYM_JUDGE_KEY", "schl\u00fcssel")
    with pytest.raises(BiasGymError, match="BIASGYM_JUDGE_KEY"):
        access()
