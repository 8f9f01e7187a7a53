"""Faults of a text that a model wrote: each has a name, by which it is counted, and a reason that goes on record."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import lru_cache

from annotators.interface import Result
from flywheel.core.types import CAPTION
from flywheel.kinds import BrokenReply, Reply, Unusable, read

#: The longest loop (in words), how often in a row makes a loop, and how many words it must cover.
_LOOP_WORDS, _LOOP_REPEATS, _LOOP_COVERED = 24, 3, 12
_NOT_WORD = re.compile(r"\W")
_CHARACTER_RUN = re.compile(r"([^\s.\-_=*])\1{11,}")
_REFUSAL = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry, (but )?i|i can(no|')t|i cannot|i am unable|i'm unable|i'm not able"
    r"|as an ai\b|as a language model)",
    re.I,
)
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

    Raises Unhealthy for a text that is empty, cut off, broken in its form, a loop, a refusal, a copy of the
    instruction, or in another script.
    """
    if result.finish == "error":
        raise Unhealthy("error", result.text)
    reply = _read(result, kind, schema, duration_s)
    words = reply.text.lower().split()
    # A loop that was cut off is first of all a loop.
    if (loop := looped(words)) or _CHARACTER_RUN.search(reply.text):
        raise Unhealthy("loop", f"the model repeats itself ({loop or 'one character'})")
    if result.finish == "length":
        raise _cut_off(result)
    if _REFUSAL.match(reply.text):
        raise Unhealthy("refusal", f"the model refused: {reply.text[:80]}")
    if copied := _copied(words, instruction):
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
        if _REFUSAL.match(result.text):
            raise Unhealthy("refusal", f"the model refused: {' '.join(result.text.split())[:80]}") from error
        raise Unhealthy("schema", str(error)) from error
    except Unusable as error:
        raise Unhealthy("empty", str(error)) from error


def _cut_off(result: Result) -> Unhealthy:
    return Unhealthy("cut off", f"the text was cut off after {len(result.token_ids)} tokens (annotate.max_new_tokens)")


def looped(words: list[str]) -> str:
    """The words of a loop, empty where there is none.

    A loop is a group of up to 24 words that comes three times or more in a row and covers twelve words, or half of a
    shorter text of at least four.
    """
    count = len(words)
    least = min(_LOOP_COVERED, max(4, count // 2))
    for period in range(1, min(_LOOP_WORDS, count // _LOOP_REPEATS) + 1):
        run = 0
        for index in range(period, count):
            run = run + 1 if words[index] == words[index - period] else 0
            covered = run + period
            if covered >= _LOOP_REPEATS * period and covered >= least:
                return " ".join(words[index - period + 1 : index + 1])
    return ""


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


def _other_script(text: str, script: str) -> str:
    """The script most used besides ``script``, empty where the others have no more than a small share."""
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in text if c.isalpha())
    others = {name: count for name, count in scripts.items() if name != script}
    if sum(others.values()) <= _OTHER_SCRIPT * max(1, sum(scripts.values())):
        return ""
    return max(others, key=lambda name: others[name])
