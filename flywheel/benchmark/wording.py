"""Texts, options, keys and times as benchmark files have them: letters, numbers, lists, and lists written as text."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from flywheel.benchmark.items import FEWEST, LETTERS, MOST
from flywheel.core.foreign import parsed_json, without_hidden

#: Tags that only form words, and those that begin a new line.
_FORM = "b|i|u|s|em|strong|span|sub|sup|font|small|big|mark|code|tt|center|a|ul|ol"
_BREAK = "br|p|div|li|pre|h[1-6]|hr"
_FORM_TAG = re.compile(rf"</?(?:{_FORM})(?:\s[^<>]{{0,200}})?/?>", re.I)
_BREAK_TAG = re.compile(rf"</?(?:{_BREAK})(?:\s[^<>]{{0,200}})?/?>", re.I)
#: Where conversations put the media.
_PLACEHOLDER = re.compile(r"<(?:video|image|audio)>", re.I)
#: Tags of what no text can show.
_SHOWN = re.compile(
    r"<(script|style|img|iframe|audio|video|source|table|t[rdh]|svg|math|input|form|button|object|embed|canvas)\b", re.I
)
_LETTERED = re.compile(r"\s*\(?([A-Za-z])\s?[.):：、]\s*")
_NAMED_LETTER = re.compile(r"\s*(?:option\s+)?\(?([A-Za-z])(?:\s*[.):：]\s*(?P<text>.*)|\)?\s*)\Z", re.I | re.S)
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d{1,6})?)\Z")
#: A list that is longer as text is no list of options.
_MOST_CHARS = 100_000


def plain_text(value: Any, what: str) -> str:
    """A text in one paragraph, without HTML's forms. Raises ValueError where it is none, or holds more than words."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"has no {what}" if value is None else f"{what} is a {type(value).__name__}, and no text")
    text = str(value)
    if shown := _SHOWN.search(_PLACEHOLDER.sub(" ", text)):
        raise ValueError(f"{what} holds HTML that is no text (<{shown[1].lower()}>)")
    text = _BREAK_TAG.sub(" ", _FORM_TAG.sub("", _PLACEHOLDER.sub(" ", text)))
    text = " ".join(without_hidden(html.unescape(text)).split())
    if not text:
        raise ValueError(f"has no {what}")
    return text


def folded(text: str) -> str:
    """A text as it is compared: without case, outer punctuation and the width of its blanks."""
    return " ".join(text.casefold().split()).strip(" .!,;:\"'")


def listed(value: Any) -> list[Any]:
    """A list, also where it is written as text (JSON, or as Python prints it), or a mapping by its letters."""
    if isinstance(value, str):
        value = _of_text(value)
    if isinstance(value, Mapping):
        return [value[name] for name in sorted(value)]
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def _of_text(text: str) -> Any:
    if text.strip()[:1] not in ("[", "{", "(") or len(text) > _MOST_CHARS:
        return text
    for read in (parsed_json, ast.literal_eval):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, list | tuple | dict):
            return value
    return text


def options_of(value: Any) -> tuple[str, ...]:
    """Options without their letters. Raises ValueError where there are too few or too many, or two are the same.

    ``value`` is a list, a mapping by letters, or one text with a lettered option a line.
    """
    parts: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in listed(value)]
    if len(parts) == 1 and isinstance(parts[0], str):
        parts = _lettered_lines(parts[0]) or parts
    texts = [plain_text(part, f"option {_letter(place)}") for place, part in enumerate(parts)]
    if not FEWEST <= len(texts) <= MOST:
        raise ValueError(f"has {len(texts)} options; {FEWEST} to {MOST} are needed")
    texts = _without_letters(texts)
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        if not text:
            raise ValueError(f"has no option {_letter(place)}")
        before = first.setdefault(folded(text) or text, place)
        if before != place:
            raise ValueError(f"options {_letter(before)} and {_letter(place)} are the same ('{text[:60]}')")
    return tuple(texts)


def _lettered_lines(text: str) -> list[str]:
    """The options of a text that has one a line, each after its letter; empty where it has not."""
    parts: list[str] = []
    for line in text.splitlines():
        found = _LETTERED.match(line)
        if found and found[1].upper() == _letter(len(parts)):
            parts.append(line)
        elif parts:
            parts[-1] += f" {line}"
        elif line.strip():
            return []
    return parts


def _without_letters(texts: Sequence[str]) -> list[str]:
    """The options without letters, where each begins with its own."""
    found = [_LETTERED.match(text) for text in texts]
    if all(match and match[1].upper() == _letter(place) for place, match in enumerate(found)):
        return [text[match.end() :] for text, match in zip(texts, found, strict=True) if match]
    return list(texts)


def _letter(place: int) -> str:
    return ascii_uppercase[place] if place < len(ascii_uppercase) else f"number {place + 1}"


def key_of(answer: Any, options: Sequence[str], readings: Sequence[str]) -> int:
    """The place of the right option. Raises ValueError where the answer names none, or several.

    ``readings`` are ways to read it, the benchmark's own first: as a ``letter``, as the ``text`` of an option, or as an
    ``index`` from 0.
    """
    answers = listed(answer)
    if len(answers) != 1:
        raise ValueError(f"has {len(answers)} right options; one is needed" if answers else "has no key")
    value = answers[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ValueError("has no key" if value in (None, "") else f"the key is a {type(value).__name__}")
    for reading in readings:
        if (place := _READ[reading](value, options)) is not None:
            return place
    last = LETTERS[len(options) - 1]
    raise ValueError(f"the key '{str(value)[:60]}' is no option (there are A to {last})")


def _as_letter(value: Any, options: Sequence[str]) -> int | None:
    found = _NAMED_LETTER.match(str(value))
    if found is None:
        return None
    place = LETTERS.find(found[1].upper())
    if not 0 <= place < len(options):
        return None
    text = folded(found["text"] or "")
    if text and (other := _as_text(found["text"], options)) not in (None, place):
        raise ValueError(f"the key names option {LETTERS[place]} and quotes option {LETTERS[other or 0]}")
    return place


def _as_text(value: Any, options: Sequence[str]) -> int | None:
    text = folded(str(value))
    return next((place for place, option in enumerate(options) if folded(option) == text), None)


def _as_index(value: Any, options: Sequence[str]) -> int | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() and 0 <= number < len(options) else None


_READ: Mapping[str, Callable[[Any, Sequence[str]], int | None]] = {
    "letter": _as_letter,
    "text": _as_text,
    "index": _as_index,
}


def seconds_of(value: Any, what: str) -> float | None:
    """A time in seconds (a number, ``MM:SS``, ``HH:MM:SS``); None where there is none. Raises ValueError for others."""
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str):
        if clock := _CLOCK.match(value.strip()):
            return 3600 * float(clock[1] or 0) + 60 * float(clock[2]) + float(clock[3])
        value = value.strip().removesuffix("s").strip()
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{what} '{str(value)[:40]}' is no time")
    return seconds
