"""A model judges written answers: whether one says what a right answer says, by yes or no and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from annotators.interface import Sampling
from annotators.writer import AskedModel, Writer
from flywheel.benchmark.answers import UNPARSED, agreed
from flywheel.benchmark.asking import Asker, Question, Showing
from flywheel.benchmark.items import Item
from flywheel.benchmark.record import Answer, Record
from flywheel.core.foreign import one_line
from flywheel.core.progress import progress
from flywheel.core.types import content_id
from flywheel.kinds import Unusable, cleaned_words
from flywheel.models.loader import Loader

_SAMPLING = Sampling(max_new_tokens=256)
_ASK = "Does the given answer say the same as the right answer? Answer with yes or no alone."
#: Yes or no alone, or set off at the beginning.
_VERDICT = re.compile(r"""[\s*"'(]*(yes|no)[*"')]*(?:[\s*"').!]*\Z|[.,!:;]|[ \t]*\n)""", re.I)
#: The other word behind it: two verdicts are none.
_WORD = re.compile(r"\b(yes|no)\b", re.I)
_SHOWN = 60


def verdict(text: str) -> bool | None:
    """Whether a judge's reply says yes; None where it says neither yes nor no, or both."""
    try:
        words = cleaned_words(text)
    except Unusable:
        return None
    found = _VERDICT.match(words)
    if found is None:
        return None
    said = {word.lower() for word in _WORD.findall(words)}
    return found[1].lower() == "yes" if len(said) == 1 else None


def question_of(item: Item, reply: str) -> str:
    """What a judge is asked of a reply. Texts are quoted as JSON: whatever they say, their ends are plain."""
    rights = " or ".join(json.dumps(right, ensure_ascii=False) for right in item.references)
    lines = [f"Question: {json.dumps(item.question, ensure_ascii=False)}", f"Right answer: {rights}"]
    return "\n".join([*lines, f"Given answer: {json.dumps(reply.strip(), ensure_ascii=False)}", _ASK])


def judge_answers(
    answered: Sequence[tuple[Item, Answer]],
    judge: AskedModel,
    loader: Loader,
    record: Record,
    reject: Callable[[str, str], None],
    *,
    batch_size: int,
) -> Mapping[str, int]:
    """The places of open answers by their items' ids: 0 for right, 1 for wrong, ``UNPARSED`` where nothing was said.

    One that is a right answer word for word is not asked about. An answer of which the judge says neither yes nor no is
    rejected, and has no place. Verdicts are on record: none is asked twice.
    """
    places = {item.id: agreed(answer.text, item.references) for item, answer in answered}
    base = content_id(*judge.digests(), _SAMPLING.canonical(), "judge")
    asked = {}
    for item, answer in answered:
        if places[item.id] not in (0, UNPARSED):
            prompt = question_of(item, answer.text)
            asked[item.id] = Question(key=content_id(base, prompt), item=item.id, prompt=prompt)
    waiting = {q.key: q for q in asked.values() if q.key not in record.known}
    writer = Writer(replace(judge, inputs=frozenset()), loader, batch_size=batch_size)
    failed = dict[str, str]()
    if waiting:
        writer.check()
        asker = Asker(writer, loader, by="generation", sampling=_SAMPLING, decoders=1, reject=failed.__setitem__)
        showings = [Showing(media=_nothing, questions=list(waiting.values()))]
        with writer, progress("judging", len(waiting)) as bar:
            for answer in asker.answers(showings):
                record.add(answer)
                bar.advance()
    for name, question in asked.items():
        reply = record.known.get(question.key)
        found = verdict(reply.text) if reply is not None else None
        if found is None:
            del places[name]
            reject(name, failed.get(name) or _why_none(reply))
        else:
            places[name] = 0 if found else 1
    return places


def _why_none(reply: Answer | None) -> str:
    if reply is None:
        return "the judge gave no reply"
    return f"the judge said neither yes nor no ('{one_line(reply.text, _SHOWN)}')"


def _nothing() -> None:
    return None
