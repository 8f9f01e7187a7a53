"""Faults of a text that a model wrote: each has a name, by which it is counted, and a reason that goes on record."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import lru_cache

from annotators.interface import Result
from annotators.loops import loop_of
from annotators.refusals import refuses
from flywheel.core.types import CAPTION
from flywheel.kinds import BrokenReply, Reply, Unusable, read

_NOT_WORD = re.compile(r"\W")
#: Characters of a loop that its reason shows.
_MOST_SHOWN = 120
#: Words in a row that a text may share with the instruction.
_COPIED_WORDS = 8
#: Share of letters that may be of another script: names and quotes are.
_OTHER_SCRIPT = 0.3


class Unhealthy(Unusable):
    """A text with a fault: ``name`` is the kind of fault, the message its reason in full."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def check(
    result: Result,
    *,
    kind: str = CAPTION,
    instruction: str = "",
    script: str = "",
    schema: str = "",
    duration_s: float = math.inf,
) -> Reply:
    """Read a result's text and look for faults.

    ``script`` is a word of Unicode's character names, such as LATIN (empty for any), ``schema`` the prompt's JSON
    schema as text, ``duration_s`` the clip's length in seconds.

    Thoughts, talk, marks and formatting are cut first (``cut`` of the reply names them). Raises Unhealthy for a text
    that is empty, nothing but thoughts, a tool call, cut off, broken in its form or its characters, a loop, a refusal,
    a copy of the instruction, or in another script.
    """
    if result.finish == "error":
        raise Unhealthy("error", result.text)
    reply = _read(result, kind, schema, duration_s)
    # A loop that was cut off is first of all a loop.
    if loop := loop_of(reply.text):
        raise Unhealthy("loop", f"the model repeats itself ({loop[:_MOST_SHOWN]})")
    if result.finish == "length":
        raise _cut_off(result)
    if refuses(reply.text):
        raise Unhealthy("refusal", f"the model refused: {reply.text[:80]}")
    if copied := _copied(reply.text.lower().split(), instruction):
        raise Unhealthy("copied prompt", f"the model copied its instruction: {copied}")
    if script and (other := _other_script(reply.text, script)):
        raise Unhealthy("language", f"written in {other}, not {script}")
    return reply


def _read(result: Result, kind: str, schema: str, duration_s: float) -> Reply:
    try:
        return read(kind, result.text, schema=schema, duration_s=duration_s)
    except BrokenReply as error:
        if result.finish == "length":
            raise _cut_off(result) from error
        if refuses(result.text):
            raise Unhealthy("refusal", f"the model refused: {' '.join(result.text.split())[:80]}") from error
        raise Unhealthy(error.name, str(error)) from error
    except Unusable as error:
        raise Unhealthy(error.name, str(error)) from error


def _cut_off(result: Result) -> Unhealthy:
    return Unhealthy("cut off", f"the text was cut off after {len(result.token_ids)} tokens (annotate.max_new_tokens)")


def _copied(words: list[str], instruction: str) -> str:
    """The first run of words that the text shares with the instruction, empty where there is none."""
    phrases, size = _phrases(instruction)
    if size < 4 or len(words) < size:
        return ""
    plain = [_NOT_WORD.sub("", word) for word in words]
    runs = (plain[i : i + size] for i in range(len(plain) - size + 1))
    return next((" ".join(run) for run in runs if tuple(run) in phrases), "")


@lru_cache(maxsize=8)
def _phrases(instruction: str) -> tuple[frozenset[tuple[str, ...]], int]:
    """Runs of words of the instruction that a text must not share, and their length."""
    words = [_NOT_WORD.sub("", word) for word in instruction.lower().split()]
    size = min(_COPIED_WORDS, len(words))
    return frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1)), size


def script_of(text: str) -> str:
    """The script in which nearly all of a text is written, such as LATIN; empty where there is no such one."""
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in text if c.isalpha())
    (script, count), *_ = [*scripts.most_common(1), ("", 0)]
    return script if count > (1 - _OTHER_SCRIPT) * scripts.total() else ""


def _other_script(text: str, script: str) -> str:
    """The script most used besides ``script``, empty where the others have no more than a small share."""
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in text if c.isalpha())
    others = {name: count for name, count in scripts.items() if name != script}
    if sum(others.values()) <= _OTHER_SCRIPT * max(1, sum(scripts.values())):
        return ""
    return max(others, key=lambda name: others[name])
