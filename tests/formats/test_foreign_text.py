"""Text from outside: parsers take time in proportion to it, whatever it holds; one rule says what nobody can see."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable

import pytest

from annotators import Result
from annotators.health import check
from flywheel import kinds
from flywheel.core.foreign import escaped, hidden_character, parsed_json, without_hidden
from flywheel.core.types import Cue
from flywheel.formats import corrections
from flywheel.formats.subtitles import cues_by_span, cues_within, parse_subtitles, webvtt
from flywheel.kinds._reply import MOST_CHARS
from human_refine.cleaning import clean_text

_TIMES = "00:00.0 --> 00:01.0\n"
_LENGTH = 300_000
#: What was slow, or could be, each repeated up to the length. A square of that would take hours.
_REPEATED = {
    "digits": "1",
    "tags": "<",
    "spaces": " ",
    "colons": ":",
    "times": "00:",
    "arrows": "00:00.0-->",
    "lines": "\n ",
    "styles": "{\\",
    "references": "&#9",
    "fences": "```",
    "brackets": "[",
    "escapes": "\x1b",
}


def _replied(text: str) -> None:
    check(
        Result(key="", text=text, token_ids=(), logprobs=(), tokens_in=0, finish="stop", seconds=0.0),
        instruction="Say what is seen and heard in the clip.",
        script="LATIN",
    )


_PARSERS: dict[str, Callable[[str], object]] = {
    "subtitles": parse_subtitles,
    "a cue's words": lambda text: parse_subtitles(_TIMES + text),
    "side-car, as a correction": lambda text: list(corrections.get("srt").read(text.encode(), "x")),
    "csv": lambda text: list(corrections.get("csv").read(text.encode(), "x")),
    "jsonl": lambda text: list(corrections.get("jsonl").read(text.encode(), "x")),
    "label studio": lambda text: list(corrections.get("label-studio").read(text.encode(), "x")),
    # A longer one is refused unread.
    "a reply": lambda text: kinds.read("dense_caption", "```json" + text[: MOST_CHARS - 10] + "``"),
    "a reply's faults": _replied,
    "a person's text": lambda text: clean_text(text, 10**7),
    "a note": lambda text: webvtt([], note=text),
}


@pytest.mark.parametrize("name", _PARSERS)
def test_a_long_text_of_anything_is_read_at_once(name: str) -> None:
    worst: tuple[float, str] = (0.0, "")
    for what, part in _REPEATED.items():
        text = part * (_LENGTH // len(part))
        began = time.process_time()
        with contextlib.suppress(ValueError):
            _PARSERS[name](text)
        worst = max(worst, (time.process_time() - began, what))
    assert worst[0] < 0.3, worst


def test_many_cues_and_many_spans_take_no_square() -> None:
    cues = [Cue(start_s=i / 16, end_s=i / 16 + 1 / 16, text=str(i)) for i in range(5000)]
    spans = [(i / 16, (i + 1) / 16) for i in range(5000)]
    began = time.process_time()
    found = list(cues_by_span(cues, spans))
    assert time.process_time() - began < 1.0
    assert list(itertools.chain(*found)) == cues
    overlapping = [(0.0, 1.0), (0.5, 1.5), (-1.0, 0.0), (311.0, 500.0)]
    shuffled = cues[::-1]
    assert list(cues_by_span(shuffled, overlapping)) == [cues_within(shuffled, *span) for span in overlapping]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a &#" + "9" * 5000 + "; b", "a \ufffd b"),
        ("a &#27;[2J&#x202e;b", "a [2Jb"),
        ("a < b <i>c</i>", "a < b c"),
    ],
)
def test_references_and_tags_of_a_cue(text: str, words: str) -> None:
    assert [cue.text for cue in parse_subtitles(_TIMES + text)] == [words]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("1" * 200_000, "a number has too many digits"),
        (b'"\xff"', "not valid UTF-8 at byte 1"),
        ("{", "at character 1"),
    ],
)
def test_json_that_cant_be_read_is_a_value_error(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed_json(text)


@pytest.mark.parametrize("depth", range(300, 1000, 50))
def test_a_reply_of_any_depth_is_broken_and_ends_nothing(depth: int) -> None:
    schema = json.dumps({"type": "object", "required": ["tags"]})
    with pytest.raises(kinds.BrokenReply):
        kinds.read("tags", "[" * depth + "]" * depth, schema=schema, duration_s=math.inf)


@pytest.mark.parametrize(
    "hidden", ["\x1b", "\x00", "\x9b", "\u200b", "\u202e", "\U000e0041", "\ue000", "\u3164", "\ud800"]
)
def test_what_nobody_can_see(hidden: str) -> None:
    text = f"a{hidden}b"
    assert hidden_character(text) == hidden
    assert without_hidden(text) == "ab"
    assert escaped(text).isascii()
    with pytest.raises(ValueError, match=f"nobody can see .U.{ord(hidden):04X}"):
        clean_text(text, 100)


def test_what_scripts_need_is_no_hidden_character() -> None:
    text = "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f680 \u05d0\u200e1 \U0001fae8 \u8fbb\U000e0100"
    assert hidden_character(text) == ""
    assert clean_text(text, 100) == escaped(text) == text
    assert escaped("a\n\x1b]0;b\x07\u2028") == r"a\n\x1b]0;b\x07\u2028"
    assert escaped("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"


def test_a_note_stays_one_comment() -> None:
    text = webvtt([], note="a.mp4\n\n00:00.000 --> 00:09.000\nforged")
    assert parse_subtitles(text) == []
    assert len(text.split("\n\n")) == 2
