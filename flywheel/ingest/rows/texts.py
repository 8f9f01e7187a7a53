"""Texts that a row says of its video: one is taken, the first; how many others there are is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flywheel.ingest.rows.names import ADDRESSES, TEXTS, TURNS, Row
from flywheel.ingest.rows.times import unpacked_texts

#: Marks by which trainers count media: they stand for the video itself and are no words.
_MARKS = re.compile(r"<\|?/?(?:video|image|audio)(?:_pad)?\|?>")
_ANSWERS = frozenset(("gpt", "assistant", "model", "bot", "chatgpt"))
_WORDS = ("content", "text", "caption", "sentence", "value", "description")
#: Texts of one row that are looked at.
_MOST = 10_000


def texts_of(row: Row) -> list[str]:
    """The texts of a row, the one that counts first; each once."""
    found: list[str] = []
    for _, value in row.given(TEXTS):
        found += words(value)
    for value in row.numbered_texts():
        found += words(value)
    for _, value in row.given(TURNS):
        found += answers(value)
    if not found and row.given(ADDRESSES):
        # WebVid calls what is said of an address its name.
        found += words(row.first(("name",)))
    # The same words with other blanks are the same.
    by_words: dict[str, str] = {}
    for text in found[:_MOST]:
        by_words.setdefault(" ".join(text.split()), text)
    return list(by_words.values())


def is_said_to_be_none(row: Row) -> bool:
    """Whether the row has a column for its text and nothing in it: what lies beside the video is not asked then."""
    return any(row.values[column] == "" for column in row.called(TEXTS))


def words(value: Any) -> list[str]:
    """The texts of a value: itself, a list of texts, or objects that hold one each."""
    value = unpacked_texts(value)
    if isinstance(value, str):
        return [value]
    if isinstance(value, int | float):
        return _digits(value)
    if isinstance(value, Mapping):
        # Columns within a column: {"enCap": […]}, Label Studio's {"text": […]}.
        inner = [value[name] for name in _WORDS if isinstance(value.get(name), str | list)]
        return [text for part in inner[:1] for text in words_of_list([part] if isinstance(part, str) else part)]
    return words_of_list(_whole_first(value)) if isinstance(value, list) else []


def _digits(value: float) -> list[str]:
    """A number in a column of texts, which is a text of digits; none for what is no number."""
    if isinstance(value, bool) or value != value:
        return []
    # Frames of data make whole numbers with gaps between them into floats.
    return [str(int(value)) if isinstance(value, float) and abs(value) < 1e15 and value.is_integer() else str(value)]


def words_of_list(values: Sequence[Any]) -> list[str]:
    """The texts of a list of texts, or of objects that hold one each; lists within it are none."""
    texts = []
    for value in values[:_MOST]:
        if isinstance(value, Mapping):
            value = next((value[name] for name in _WORDS if isinstance(value.get(name), str)), None)
        if isinstance(value, str) and value.strip():
            texts.append(value)
    return texts


def _whole_first(values: Sequence[Any]) -> Sequence[Any]:
    """The list with what is said of the whole video first, which ShareGPT4Video numbers -1."""
    whole = [v for v in values if isinstance(v, Mapping) and str(v.get("idx")) == "-1"]
    return [*whole, *(v for v in values if v not in whole)] if whole else values


def answers(turns: Any) -> list[str]:
    """What the model says in a conversation, turn by turn, without marks of media."""
    turns = unpacked_turns(turns)
    found = []
    for turn in turns:
        if str(turn.get("from") or turn.get("role") or "").lower() in _ANSWERS:
            value = turn.get("value") if turn.get("value") is not None else turn.get("content")
            if said := _said(value):
                found.append(said)
    return found


def _said(value: Any) -> str:
    if isinstance(value, str):
        return _MARKS.sub("", value).strip()
    if not isinstance(value, list):
        return ""
    # In parts: what stands in a part of text is text.
    parts = (part.get("text") for part in value if isinstance(part, Mapping) and part.get("type", "text") == "text")
    return " ".join(part.strip() for part in parts if isinstance(part, str)).strip()


def unpacked_turns(turns: Any) -> list[Mapping[str, Any]]:
    """The turns of a conversation; none where it is no list of them."""
    return [turn for turn in turns if isinstance(turn, Mapping)] if isinstance(turns, list) else []


def video_parts(turns: Any) -> Iterator[Mapping[str, Any]]:
    """The parts of a conversation that show a video."""
    for turn in unpacked_turns(turns):
        content = turn.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and part.get("type") in ("video", "video_url"):
                yield part
