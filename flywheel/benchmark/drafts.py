"""Rows of a benchmark's files, made into items: each checked, what can't be asked refused with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.benchmark.items import FRAMES, Group, Item, Span, length_of
from flywheel.benchmark.wording import key_of, listed, options_of, plain_text, seconds_of
from flywheel.core.types import content_id

#: Lengths in item files are often whole seconds: a time may end so much after the video.
_ROUNDED_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An item as a file has it: any value anywhere, to be checked by :func:`item_of`.

    ``readings`` are how the key may be written, the benchmark's own way first (:func:`wording.key_of`). ``options`` of
    None is an open question, whose right answers are ``answer``. ``span`` is a pair, ``evidence`` a list of pairs.
    """

    id: Any
    question: Any
    video: Any = None
    options: Any = None
    answer: Any = None
    readings: Sequence[str] = ("letter", "text")
    images: Any = None
    sounds: Any = None
    type: Any = None
    needs: frozenset[str] = frozenset({FRAMES})
    span: Any = None
    evidence: Any = None
    duration: Any = None
    length: Any = None
    group: Group | None = None
    licence: Any = None


def item_of(draft: Draft) -> Item:
    """The item of a draft. Raises ValueError with the reason where it can't be asked."""
    question = plain_text(draft.question, "question")
    options = () if draft.options is None else options_of(draft.options)
    duration_s = seconds_of(draft.duration, "duration")
    video, images, sounds = _name(draft.video), _names(draft.images), _names(draft.sounds)
    if not (video or images or sounds):
        raise ValueError("has no video")
    span = _span(draft.span, "the part of the video", duration_s) if draft.span is not None else None
    return Item(
        id=_name(draft.id) or content_id(video, question, *options, *(span or ()))[:16],
        question=question,
        options=options,
        key=key_of(draft.answer, options, draft.readings) if options else -1,
        references=() if options else _references(draft.answer),
        video=video,
        images=images,
        sounds=sounds,
        type=_label(draft.type),
        needs=draft.needs,
        span_s=span,
        evidence_s=tuple(_span(pair, "the evidence", duration_s) for pair in draft.evidence or ()),
        duration_s=duration_s,
        length=_label(draft.length) or length_of(duration_s),
        group=draft.group,
        licence=_label(draft.licence),
    )


def _name(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def _names(value: Any) -> tuple[str, ...]:
    return tuple(name for part in listed(value) if (name := _name(part)))


def _label(value: Any) -> str:
    """A type or a licence in one line; lists are joined."""
    return " / ".join(" ".join(str(part).split()) for part in listed(value) if part not in (None, ""))


def _references(answer: Any) -> tuple[str, ...]:
    answers = listed(answer)
    if not answers:
        raise ValueError("has no answer")
    return tuple(plain_text(part, "answer") for part in answers)


def _span(pair: Any, what: str, duration_s: float | None) -> Span:
    """A span in seconds. Raises ValueError where it is none, ends before it begins, or lies beyond the video."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{what} is no pair of times ({str(pair)[:40]})")
    start_s, end_s = (seconds_of(value, what) for value in pair)
    if start_s is None or end_s is None or end_s <= start_s:
        raise ValueError(f"{what} is no span ({pair[0]} to {pair[1]})")
    if duration_s is not None and end_s > duration_s + _ROUNDED_S:
        raise ValueError(f"{what} ends at {end_s:g} s, beyond the video's {duration_s:g} s")
    return start_s, end_s
