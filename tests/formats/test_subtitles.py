"""Subtitles as the wild has them, and as they are written."""

from __future__ import annotations

import random

import pytest

from flywheel.core.types import Cue
from flywheel.formats.subtitles import cues_within, parse_subtitles, srt, text_within, webvtt


def cue(start_s: float, end_s: float, text: str = "A bell.") -> Cue:
    return Cue(start_s=start_s, end_s=end_s, text=text)


@pytest.mark.parametrize(
    ("text", "cues"),
    [
        ("", []),
        ("WEBVTT", []),
        ("\ufeffWEBVTT\r\n\r\n00:01.000 --> 00:02.500\r\nA bell.\r\n", [cue(1, 2.5)]),
        ("1\r00:00:01,5 --> 00:00:02,25\rA bell.\r\r", [cue(1.5, 2.25)]),
        ("WEBVTT\n\nintro\n01:00:01.000 --> 01:00:02.000 align:start\nA bell.", [cue(3601, 3602)]),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>A <b>bell</b></v>\n{\\an8}rings.", [cue(1, 2, "A bell rings.")]),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\na &lt;b&gt; &amp; c", [cue(1, 2, "a <b> & c")]),
        ("WEBVTT\n\nNOTE 00:01.000 -> 00:02.000\nno cue\n\nSTYLE\n::cue {}\n", []),
        ("WEBVTT\n\n00:02.000 --> 00:01.000\nEnds before it begins.", []),
        ("WEBVTT\n\n00:01.000 --> 00:01.000\nHas no length.", []),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n   \n", []),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nA bell.\n \t\n00:02.000 --> 00:03.000\nB.", [cue(1, 2), cue(2, 3, "B.")]),
        ("no times at all\n\nand none here", []),
    ],
)
def test_what_is_read(text: str, cues: list[Cue]) -> None:
    assert parse_subtitles(text) == cues


def test_what_is_written_is_read_again_to_the_millisecond() -> None:
    chance = random.Random(3)
    cues, end_ms = [], 0
    for number in range(200):
        start_ms = end_ms + chance.randrange(5000)
        end_ms = start_ms + chance.randrange(1, 100_000)
        cues.append(cue(start_ms / 1000, end_ms / 1000, f"{number}: <b> & --> \u65e5\u672c"))
    for text in (webvtt(cues, note="a note"), srt(cues)):
        read = [cue(round(c.start_s, 9), round(c.end_s, 9), c.text) for c in parse_subtitles(text)]
        assert read == cues


def test_a_second_is_never_written_with_a_thousand_milliseconds() -> None:
    assert "00:00:02.000 --> 01:00:00.000" in webvtt([cue(1.9996, 3599.9999)])


def test_a_cue_belongs_to_the_span_that_holds_its_middle() -> None:
    cues = [cue(0, 2, "a"), cue(2, 4, "b"), cue(4, 6, "c")]
    assert cues_within(cues, 1, 3) == cues[:1]
    assert text_within(cues, 3, 6) == "b c"
    spans = [(0, 1.5), (1.5, 3), (3, 9)]
    assert [c for start_s, end_s in spans for c in cues_within(cues, start_s, end_s)] == cues, "each exactly once"
