"""What is wrong with a text that a model wrote: each finding is a reason that goes on record and is counted by its name."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import lru_cache

from annotators.interface import Result
from annotators.kinds import BrokenReply, Reply, read
from annotators.parsing import Unusable

#: Words that a loop may be long, how often it must come in a row, and how many words it must cover.
_LONGEST_LOOP, _LEAST_TURNS, _LEAST_COVERED = 24, 3, 12
_NOT_WORD = re.compile(r"\W")
_CHARACTER_RUN = re.compile(r"([^\s.\-_=*])\1{11,}")
_REFUSAL = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry, (but )?i|i can(no|')t|i cannot|i am unable|i'm unable|i'm not able|as an ai\b|as a language model)",
    re.I,
)
#: Words in a row that a text may share with the instruction.
_COPIED_WORDS = 8
#: Share of letters that may be of another script: names and quotes are.
_OTHER_SCRIPT = 0.3


class Unhealthy(Unusable):
    """``name`` is the kind of fault, the message the reason in full."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def check(
    result: Result,
    *,
    kind: str = "caption",
    instruction: str = "",
    script: str = "",
    schema: str = "",
    duration_s: float = math.inf,
) -> Reply:
    """What the text says. Raises Unhealthy for one that is empty, cut off, broken in its form, a loop, a refusal, the prompt again,
    or in another script than ``script`` (a word of Unicode's character names, such as LATIN; empty for any)."""
    if result.finish == "error":
        raise Unhealthy("error", result.text)
    try:
        reply = read(kind, result.text, schema=schema, duration_s=duration_s)
        text = reply.text
    except BrokenReply as error:
        if result.finish == "length":
            raise _cut_off(result) from error
        if _REFUSAL.match(result.text):
            raise Unhealthy("refusal", f"the model refused: {' '.join(result.text.split())[:80]}") from error
        raise Unhealthy("schema", str(error)) from error
    except Unusable as error:
        raise Unhealthy("empty", str(error)) from error
    words = text.lower().split()
    # A loop that was cut off is first of all a loop.
    if (loop := looped(words)) or _CHARACTER_RUN.search(text):
        raise Unhealthy("loop", f"the model repeats itself ({loop or 'one character'})")
    if result.finish == "length":
        raise _cut_off(result)
    if _REFUSAL.match(text):
        raise Unhealthy("refusal", f"the model refused: {text[:80]}")
    if copied := _copied(words, instruction):
        raise Unhealthy("copied prompt", f"the model copied its instruction: {copied}")
    if script and (other := _other_script(text, script)):
        raise Unhealthy("language", f"written in {other}, not {script}")
    return reply


def _cut_off(result: Result) -> Unhealthy:
    return Unhealthy("cut off", f"the text was cut off after {len(result.token_ids)} tokens (annotate.max_new_tokens)")


def looped(words: list[str]) -> str:
    """The words that are repeated, where a group of up to 24 words comes three times or more in a row and covers twelve words
    (or half of a shorter text of at least four); else an empty text."""
    count = len(words)
    least = min(_LEAST_COVERED, max(4, count // 2))
    for period in range(1, min(_LONGEST_LOOP, count // _LEAST_TURNS) + 1):
        run = 0
        for index in range(period, count):
            run = run + 1 if words[index] == words[index - period] else 0
            covered = run + period
            if covered >= _LEAST_TURNS * period and covered >= least:
                return " ".join(words[index - period + 1 : index + 1])
    return ""


def _copied(words: list[str], instruction: str) -> str:
    known, size = _phrases(instruction)
    if size < 4 or len(words) < size:
        return ""
    said = [_NOT_WORD.sub("", word) for word in words]
    return next(
        (" ".join(said[i : i + size]) for i in range(len(said) - size + 1) if tuple(said[i : i + size]) in known), ""
    )


@lru_cache(maxsize=8)
def _phrases(instruction: str) -> tuple[frozenset[tuple[str, ...]], int]:
    """Runs of words of the instruction that a text must not share, and how long they are."""
    asked = [_NOT_WORD.sub("", word) for word in instruction.lower().split()]
    size = min(_COPIED_WORDS, len(asked))
    return frozenset(tuple(asked[i : i + size]) for i in range(len(asked) - size + 1)), size


def _other_script(text: str, script: str) -> str:
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in text if c.isalpha())
    wrong = {name: n for name, n in scripts.items() if name != script}
    if sum(wrong.values()) <= _OTHER_SCRIPT * max(1, sum(scripts.values())):
        return ""
    return max(wrong, key=lambda name: wrong[name])
