"""Timed texts as programs and people leave them, and what a viewer reads of them."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flywheel.core.encodings import decoded
from flywheel.formats.timed_text import endings, read_cues

VTT = "WEBVTT\n\n"
#: One cue of a second with these lines.
ONE = "00:00:01.000 --> 00:00:02.000\n"
ASS = "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"


def words(text: str) -> list[str]:
    return [cue.text for cue in read_cues(text)]


def spans(text: str) -> list[tuple[float, float]]:
    return [(cue.start_s, cue.end_s) for cue in read_cues(text)]


@pytest.mark.parametrize(
    ("line", "span"),
    [
        ("00:00:01,000 --> 00:00:02,500", (1, 2.5)),
        ("00:00:01.000-->00:00:02.500", (1, 2.5)),
        ("0:0:1 --> 0:0:2", (1, 2)),
        ("00:01,000 --> 00:02,000", (1, 2)),
        ("01:00:00 --> 01:00:01", (3600, 3601)),
        ("00:00:01,5 --> 00:00:02,25", (1.5, 2.25)),
        ("00:00:01, 500 --> 00:00: 02,000", (1.5, 2)),
        ("00:00:01,000000 --> 00:00:02,999999999", (1, 2.999)),
        ("00:00:01,000 -> 00:00:02,000", (1, 2)),
        ("00:00:01,000 — > 00:00:02,000", (1, 2)),
        ("00:00:01,000 –> 00:00:02,000", (1, 2)),
        ("-00:00:01,000 --> 00:00:02,000", (0, 2)),
        ("100:00:01,000 --> 100:00:02,000", (360001, 360002)),
        ("00:00:01,000 --> 00:00:02,000  X1:100 X2:600 Y1:050 Y2:100", (1, 2)),
        ("  1  00:00:01,000 --> 00:00:02,000", (1, 2)),
        ("\ufeff00:00:01,000 --> 00:00:02,000", (1, 2)),
    ],
)
def test_times_of_subrip(line: str, span: tuple[float, float]) -> None:
    [cue] = read_cues(f"1\n{line}\nA bell.\n")
    assert (cue.start_s, cue.end_s, cue.text) == (*span, "A bell.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\n00:01,000 --> 00:02,000\nA\n\n3\n00:03,000 --> 00:04,000\nB", ["A", "B"]),
        ("00:01,000 --> 00:02,000\nA\n\n00:03,000 --> 00:04,000\nB", ["A", "B"]),
        ("1\n00:01,000 --> 00:02,000\nA\n1\n00:03,000 --> 00:04,000\nB", ["A", "B"]),
        ("1\n\n00:01,000 --> 00:02,000\nA\n\n2\n\n00:03,000 --> 00:04,000\nB", ["A", "B"]),
        # Digits that people say: in a file without numbers, and before a number.
        ("00:01,000 --> 00:02,000\n7\n\n00:03,000 --> 00:04,000\n8", ["7", "8"]),
        ("1\n00:01,000 --> 00:02,000\n1984\n\n2\n00:03,000 --> 00:04,000\nB", ["1984", "B"]),
        ("1\n00:01,000 --> 00:02,000\nA\nB\n\n\nC\n\n2\n00:03,000 --> 00:04,000\n\nD\n", ["A B C", "D"]),
        ("1\r00:01,000 --> 00:02,000\rA\r\r2\r00:03,000 --> 00:04,000\rB", ["A", "B"]),
        ("1\r\n00:01,000 --> 00:02,000\r\nA\r\n\r\n2\r\n00:03,000 --> 00:04,000\r\nB\r\n", ["A", "B"]),
        ("1\n00:03,000 --> 00:04,000\nB\n\n2\n00:01,000 --> 00:02,000\nA", ["A", "B"]),
        ("1\n00:01,000 --> 00:09,000\nA\n\n2\n00:02,000 --> 00:03,000\nB", ["A", "B"]),
        ("1\n00:02,000 --> 00:01,000\nA\n\n2\n00:03,000 --> 00:04,000\nB", ["B"]),
        ("1\n00:01,000 --> 00:02,000\nA\0\n\n2\n00:03,000 --> 00:04,000\nB\ufeff", ["A", "B"]),
        ("1\n00:01,000 --> 00:02,000\nx --> y\n", ["x --> y"]),
        ("1\n00:01,000 --> 00:02,000\n\n2\n00:03,000 --> 00:04,000\nB", ["B"]),
        ("Subtitles by Ann\n\n1\n00:01,000 --> 00:02,000\nA", ["A"]),
    ],
)
def test_cues_of_subrip(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("{\\an8}Up {\\i1}there{\\i0}", "Up there"),
        ("{b}A{/b} {y:i}B {c:$0000ff}C", "A B C"),
        ("{\\an8 Up", "Up"),
        ("a {curly} word", "a {curly} word"),
        ('<FONT face="a b" COLOR=#fff>A</FONT> <b>b</b><br/>c', "A b c"),
        ("<i>A<b>B</b></i> </i> <u >c</u >", "AB c"),
        ("1 < 2 and 3 > 2, <3, a<b, <-", "1 < 2 and 3 > 2, <3, a<b, <-"),
        ("<i and j> stay, <Ann> too", "<i and j> stay, <Ann> too"),
        ("one\\Ntwo\\hthree\\nfour", "one two three four"),
        ("C:\\new\\home is a path, $\\nabla$ a sign", "C:\\new\\home is a path, $\\nabla$ a sign"),
        ("A sign{\\p1}m 0 0 l 100 0 100 100 0 100{\\p0} there", "A sign there"),
        ("A signm 0 0 l 100 0 100 100 0 100", "A sign"),
        ("I am 0 0 years", "I am 0 0 years"),
        ("R&D, AT&T, &amp;lt; &lt;b&gt; &#39;a&#x27; &nbsp;x", "R&D, AT&T, &lt; <b> 'a' x"),
        ("<ruby>\u6f22<rt>kan</rt></ruby>", "\u6f22kan"),
        ("\u266a la la \u266a", "\u266a la la \u266a"),
    ],
)
def test_markup_goes_and_signs_stay(raw: str, read: str) -> None:
    assert words(f"1\n{ONE.replace('.', ',')}{raw}\n") == [read]
    assert words(f"{VTT}{ONE}{raw}\n") == [read]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WEBVTT\tTitle --> x\nKind: captions\n\n" + ONE + "A", ["A"]),
        ("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n" + ONE + "A", ["A"]),
        (VTT + "NOTE\n" + ONE + "no cue\n\n" + ONE + "A", ["A"]),
        (VTT + "STYLE\n::cue(b) { content: '-->' }\n\nREGION\nid:a\n\nNOTE x\n\nname 7\n" + ONE + "A", ["A"]),
        (VTT + ONE + "A\n\na block without times\n\n" + ONE.replace(":02", ":03") + "B", ["A", "B"]),
        (VTT + ONE + "<v.loud Ann Lee>A</v>\n<c.yellow.bg_blue>B</c> <lang en>C</lang>", ["A B C"]),
        (VTT + "00:01.000 --> 00:02.000 line:0 position:20% align:start\n<00:01.200>A <00:00:01.500><c>B</c>", ["A B"]),
        (VTT + "1\n" + ONE + "A\n2\n00:03.000 --> 00:04.000\nB", ["A", "B"]),
        (VTT + ONE + "- A&lrm;\n&rlm;- B", ["- A\u200e \u200f- B"]),
        ("\n\n WEBVTT\n\n" + ONE + "A", ["A"]),
    ],
)
def test_webvtt(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_file_is_what_it_holds() -> None:
    assert words("1\n00:00:01,000 --> 00:00:02,000\nfirst\n\nsecond\n\n2\n00:00:03,000 --> 00:00:04,000\nB") == [
        "first second",
        "B",
    ]
    assert words(f"\ufeff{VTT}{ONE}first\n\nno cue\n") == ["first"]
    assert {".vtt", ".srt", ".ass", ".ssa", ".sbv", ".lrc", ".ttml", ".dfxp", ".json3", ".srv3", ".smi"} <= set(
        endings()
    )


def rolling(*shown: tuple[float, float, str], kind: str = VTT) -> list[str]:
    def stamp(seconds: float) -> str:
        return f"00:00:{seconds:06.3f}"

    return words(kind + "\n\n".join(f"{stamp(a)} --> {stamp(b)}\n{text}" for a, b, text in shown))


def test_rolling_captions_say_each_line_once() -> None:
    three = ((0, 2, "a"), (2, 4, "a\nb"), (4, 6, "a\nb\nc"), (6, 8, "b\nc\nd"), (8, 10, "c\nd\ne"))
    assert rolling(*three) == ["a", "b", "c", "d", "e"]
    two = ((0, 2, "the wheel"), (2, 4, "the wheel\nturns and"), (4, 4.01, "turns and"), (4.01, 6, "turns and\nstops"))
    assert rolling(*two) == ["the wheel", "turns and", "stops"]
    erased = ((0, 2, "a b\nc d"), (2, 4, "c d\ne f"), (4, 6, "e f"), (6, 8, "e f\ng h"))
    assert rolling(*erased) == ["a b c d", "e f", "g h"]
    grown = ((0, 1, "today"), (1, 2, "today we"), (2, 3, "today we plant"), (3, 5, "today we plant\nsix"))
    assert " ".join(rolling(*grown)) == "today we plant six"
    spoken_twice = ((0, 2, "go"), (2, 2.01, "go"), (2.01, 4, "go\ngo"), (4, 4.01, "go"), (4.01, 6, "go\nstop"))
    assert rolling(*spoken_twice) == ["go", "go", "stop"]


def test_what_is_said_twice_stays_twice() -> None:
    assert rolling((0, 2, "No!"), (2, 4, "No!"), (4, 6, "Yes.")) == ["No!", "No!", "Yes."]
    talk = ((0, 2, "- No.\n- Yes."), (2, 4, "- Yes.\n- No."), (4, 6, "A"), (6, 8, "B"), (8, 9, "C"))
    assert rolling(*talk) == ["- No. - Yes.", "- Yes. - No.", "A", "B", "C"]
    # Apart in time, lines are new, whatever they say.
    assert rolling((0, 2, "a"), (3, 5, "a\nb"), (6, 8, "b\nc")) == ["a", "a b", "b c"]
    text = f"{VTT}{ONE}a\n\n00:02.000 --> 00:03.000\na\nb\n\n00:03.000 --> 00:04.000\nb\nc\n"
    assert [cue.text for cue in read_cues(text, rolling=False)] == ["a", "a b", "b c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ASS + "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\k10}so{\\k20}me, {note}words\\Nhere",
            [(1, 2, "some, words here")],
        ),
        (
            ASS
            + "Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,no\n"
            + "Dialogue: 0,0:00:01.00,0:00:02.00,Signs,,0,0,0,Banner;5,A",
            [(1, 2, "A")],
        ),
        (
            ASS + "Dialogue: 1,0:00:01.00,0:00:02.00,D,,0,0,0,,A\nDialogue: 0,0:00:01.00,0:00:02.00,E,,0,0,0,,A",
            [(1, 2, "A")],
        ),
        (
            "[Script Info]\n[Events]\nFormat: Marked, Start, End, Text\nDialogue: Marked=0,0:00:03.50,0:00:04.00,B, b\n"
            "Dialogue: Marked=0,0:00:01.00,0:00:02.00,{\\p1}m 0 0 l 9 9{\\p0}\\h\n"
            "Dialogue: Marked=0,0:00:01.00,0:00:02.00,A",
            [(1, 2, "A"), (3.5, 4, "B, b")],
        ),
        ("0:00:01.000,0:00:02.000\nA[br]B\n\n0:00:03.000,0:00:04.000\nC", [(1, 2, "A B"), (3, 4, "C")]),
        (
            "[ar:Ann]\n[offset:+500]\n[00:01.50][00:03.50]la <00:01.70>la\n[00:02.50]lo",
            [(1, 2, "la la"), (2, 3, "lo"), (3, 8, "la la")],
        ),
        (
            '<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="x" ttp:tickRate="10">'
            '<body begin="1s"><div><p begin="00:00:00.000" end="00:00:01.000">A &lt;b&gt;<br/>B</p>'
            '<p begin="20t" dur="500ms"><span>C</span> d</p>'
            '<p><span begin="3s" end="4s">E</span></p></div></body></tt>',
            [(1, 2, "A <b> B"), (3, 3.5, "C d"), (4, 5, "E")],
        ),
        (
            '{"wireMagic": "pb3", "events": [{"tStartMs": 1000, "dDurationMs": 1000, "segs": [{"utf8": "a"}, '
            '{"utf8": " b"}]}, {"segs": 7}, 3]}',
            [(1, 2, "a b")],
        ),
        (
            '<timedtext format="3"><body><p t="1000" d="1000"><s>a</s><s t="9"> b</s></p></body></timedtext>',
            [(1, 2, "a b")],
        ),
        ('<transcript><text start="1" dur="1.5">it&amp;#39;s</text></transcript>', [(1, 2.5, "it's")]),
        (
            "<SAMI><BODY><SYNC Start=1000><P Class=ENCC>A<br>B<P Class=KRCC>x<SYNC Start=2000><P Class=ENCC>&nbsp;"
            "<SYNC Start=3000><P Class=ENCC>C</BODY></SAMI>",
            [(1, 2, "A B"), (3, 8, "C")],
        ),
    ],
)
def test_other_kinds(text: str, expected: list[tuple[float, float, str]]) -> None:
    assert [(cue.start_s, cue.end_s, cue.text) for cue in read_cues(text)] == expected


def test_entities_of_xml_stand_for_nothing() -> None:
    bomb = '<!DOCTYPE tt [<!ENTITY a "aaaa">]><tt><body><p begin="1s" end="2s">&a;</p></body></tt>'
    assert read_cues(bomb) == []


PIECES = st.sampled_from(
    [
        *(
            "1\n",
            "\n",
            "\n\n",
            " ",
            "00:00:01,000 --> 00:00:02,000\n",
            "00:01.0 --> 00:02.0 align:start\n",
            "-->",
            "<c>",
            "</",
            "<",
        ),
        *(
            "{\\p1}",
            "{",
            "\\N",
            "&amp;",
            "&#x110000;",
            "WEBVTT\n\n",
            "NOTE ",
            "[Events]\n",
            "Dialogue: 0,0:00:01.00,0:00:02.00,,,,,,,",
        ),
        *(
            "[00:01.00]",
            "<tt><p begin='1s'>",
            "<SYNC Start=1>",
            '{"events": [',
            "0:00:01.000,0:00:02.000\n",
            "line",
            "\0",
            "\ud800",
        ),
    ]
)


TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join)
BYTES = st.binary(max_size=200) | st.lists(
    st.sampled_from([b"\xe9t\xe9 ", b"le ", b"\xff\xfe", b"\x00", b"\xce\xea ", b"a"]), max_size=20
).map(b"".join)


def give_cues_that_can_be_kept(text: str) -> None:
    for cue in read_cues(text):
        assert 0 <= cue.start_s < cue.end_s
        assert cue.text == cue.text.strip() != ""
        cue.text.encode("utf-8")
        assert not set(cue.text) & set("\n\r\0")


def are_text_or_a_reason(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        decoded(content).text.encode("utf-8")


@settings(max_examples=5, deadline=None)
@given(TEXTS, BYTES)
@example(f"{VTT}{ONE}\ud800", b"\x1b$B")
def test_any_text_gives_cues_that_can_be_kept(text: str, content: bytes) -> None:
    give_cues_that_can_be_kept(text)
    are_text_or_a_reason(content)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(TEXTS, BYTES)
def test_many_texts_give_cues_that_can_be_kept(text: str, content: bytes) -> None:
    give_cues_that_can_be_kept(text)
    are_text_or_a_reason(content)


@pytest.mark.slow
def test_ten_megabytes_take_seconds() -> None:
    def stamp(second: int) -> str:
        return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.000"

    block = "{} --> {} align:start position:0%\nline {} of it\nline<00:00:01.000><c> {}</c><c> of</c><c> it</c>\n\n"
    text = VTT + "".join(block.format(stamp(i), stamp(i + 1), i - 1, i) for i in range(100_000))
    began = time.process_time()
    cues = read_cues(text)
    assert len(text) > 10**7
    assert len(cues) == 100_000
    assert cues[-1].text == "line 99999 of it"
    assert time.process_time() - began < 20
