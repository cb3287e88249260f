"""What the report makes of one value: a number, a contrast, a text of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biasgym.report.clean import cleaned
from biasgym.report.markdown import escaped, quoted
from biasgym.report.numbers import duration, estimate_text, fixed, p_phrase, p_value, share, size
from biasgym.report.verdict import tone, verdict


def contrasts() -> Iterator[tuple[dict[str, Any] | None, str]]:
    yield {"mean": -1, "low": -2, "high": -0.1}, "lower"
    yield {"mean": 1, "low": 0.1, "high": 2}, "higher"
    yield {"mean": 1, "low": 0, "high": 2}, "no clear difference"
    yield {"mean": 1, "low": None, "high": None}, "no interval"
    yield {"mean": None, "low": None, "high": None}, "not measured"
    yield None, "not measured"


def test_verdicts() -> None:
    for value, words in contrasts():
        assert verdict(value) == words
    assert tone("lower", "lower") == "good"
    assert tone("higher", "lower") == "bad"
    assert tone("no clear difference", "lower") == "flat"
    assert tone("not measured", "lower") == "none"


def test_numbers() -> None:
    assert estimate_text({"mean": 0.42, "low": 0.31, "high": 0.53}) == "0.42 [0.31, 0.53]"
    assert estimate_text({"mean": 0.42, "low": None, "high": None}) == "0.42"
    assert estimate_text(None) == estimate_text({"mean": None}) == estimate_text({"mean": float("nan")}) == "–"
    assert fixed(-0.001) == fixed(-0.001, signed=True) == "0.00"
    assert fixed(-1234.5, 1) == "−1,234.5"
    assert fixed(0.5, signed=True) == "+0.50"
    assert fixed(True) == "–"
    assert [p_value(p) for p in (0.0004, 0.001, 0.0456, 0.5, 1, None)] == [
        "< 0.001",
        "0.001",
        "0.046",
        "0.50",
        "1.00",
        "–",
    ]
    assert p_phrase(0.0001) == "p < 0.001"
    assert p_phrase(None) == ""
    assert [share(value) for value in (0, 0.004, 0.4, None)] == ["0 %", "< 1 %", "40 %", "–"]
    assert [duration(value) for value in (0.42, 48, 59.6, 200.1, 7500, None)] == [
        "0.4 s",
        "48 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
        "–",
    ]
    assert size(2_000_000_000) == "1.9 GiB"
    assert size(5_000_000) == "5 MiB"


def test_cleaned() -> None:
    assert cleaned({"a\x00": ["b\r\nc", 1.5, None, "\ud800\u202e"]}) == {"a\ufffd": ["b\nc", 1.5, None, "\ufffd\ufffd"]}


def test_markdown_quotes_cannot_be_left() -> None:
    text = (
        "one\n\n# two\n> three\n```\n1. four\n| five |\n<b>six</b>\nhttps://seven.example www.eight.example @nine $x$"
    )
    lines = [line.rstrip() for line in quoted(text).rstrip("\n").split("\n")]
    assert all(line.startswith(">") for line in lines)
    assert lines[2:] == [
        "> \\# two",
        "> &gt; three",
        "> \\`\\`\\`",
        "> 1\\. four",
        "> \\| five \\|",
        "> &lt;b&gt;six&lt;/b&gt;",
        "> https&#58;//seven.example www&#46;eight.example &#64;nine \\$x\\$",
    ]
    assert escaped("−0.39 [−0.51, −0.27]") == "−0.39 [−0.51, −0.27]"
    assert escaped("[1, 2](x)") == "\\[1, 2\\](x)"
    assert escaped("- a\n- b") == "\\- a - b"
    assert escaped("0.5") == "0.5"
