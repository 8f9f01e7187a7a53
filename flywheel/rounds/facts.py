"""Facts of a round's texts of anchors against people's: a judge takes both apart and compares them both ways.

What it said is on record by the round and the texts it was asked about, and after a kill it goes on. A question that an
earlier round asked, as about people's unchanged texts, is answered from its generation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from annotators.asking import annotation_id, ask, rejected_texts
from annotators.tasks import Asking, Task
from flywheel.core.errors import UserError
from flywheel.core.types import CAPTION, MEASURE, VERIFY, content_id, form_of
from flywheel.kinds.verdicts import OPEN
from flywheel.metrics import words
from flywheel.metrics.facts import ClipFacts, Fact
from flywheel.models.load import folder_digest
from flywheel.models.prompt import Evidence, Prompt
from flywheel.rounds.context import RoundContext
from flywheel.store import Workspace

#: A text with so many facts has more than the judge was asked for.
_MOST_FACTS = 96
_NOT_ASKED = "the judge was not asked yet"
#: Facts as a judge stated them, each with text, quote, modality and aspect.
_Stated = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A clip's text of a round, and the true text beside it."""

    clip_id: str
    uri: str
    video: str
    text: str
    true: str


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """A judge by its role, with what it is asked; ``digest`` tells its answers from another's."""

    role: str
    facts: Prompt
    verdicts: Prompt
    digest: str

    @classmethod
    def of(cls, context: RoundContext, role: str) -> _Judge:
        facts, verdicts = (prompt.model_copy(update={"model": role}) for prompt in context.fact_prompts)
        digests = context.asked_model(facts, 0).digests()
        return cls(
            role=role, facts=facts, verdicts=verdicts, digest=content_id(*digests, facts.digest, verdicts.digest)
        )

    def about(self, *texts: str) -> str:
        """What a reply is about: these texts, by this judge."""
        return content_id(self.digest, *texts)


def measure_facts(context: RoundContext, round: int) -> None:
    """Have all judges compare M_``round``'s texts of corrected anchors with people's; the caller holds the lock.

    Raises UserError for a judge that is the model under test, unless ``evaluate.judges_of_own`` names it.
    """
    roles = context.config.evaluate.judges
    # Texts are looked up for a judge alone: most rounds have none.
    pairs = _pairs(context, round) if roles else []
    for role in roles if pairs else ():
        _check_judge(context, role, round)
        _asked(context, _Judge.of(context, role), pairs, round)


def check_judges(context: RoundContext) -> None:
    """Find what is wrong with the judges before a night of annotation. Raises UserError, as :func:`measure_facts`."""
    for role in context.config.evaluate.judges:
        # The gate has the champion's texts judged as well.
        for round in {0, context.workspace.champion()}:
            _check_judge(context, role, round)
        context.writer(_Judge.of(context, role).facts, 0).check()


def clip_facts(context: RoundContext, round: int, role: str | None = None) -> list[ClipFacts]:
    """What a judge (the first if left out) found of each corrected anchor's text of a round, as it is on record.

    A clip of which nothing can be told says why. Empty where no judge is named.
    """
    judges = context.config.evaluate.judges
    if not judges:
        return []
    judge = _Judge.of(context, role or judges[0])
    pairs = _pairs(context, round)
    stated = _facts_on_record(context.workspace, judge, pairs, round)
    verdicts = _verdicts_on_record(context.workspace, judge, pairs, stated, round)
    about_verdicts = [(task.clip_id, task.about) for task in _verdict_tasks(judge, pairs, stated)]
    failed = rejected_texts(context.workspace, round, "facts", VERIFY, _facts_wanted(judge, pairs))
    failed |= rejected_texts(context.workspace, round, "verdicts", VERIFY, about_verdicts)
    return [_judged(pair, judge, stated, verdicts, failed) for pair in pairs]


def _pairs(context: RoundContext, round: int) -> list[_Pair]:
    """The corrected anchors that the round was asked about, with an empty text where it could write none."""
    anchors = context.texts().anchors()
    if not anchors:
        return []
    rejected = context.workspace.rejected(round=round).filter(
        (pl.col("stage") == "annotate") & (pl.col("kind") == CAPTION) & (pl.col("purpose") == MEASURE)
    )
    written = {clip_id: "" for clip_id in rejected["clip_id"] if clip_id in anchors}
    measured = context.workspace.texts(round, MEASURE, "clip_id", "text")
    written |= {clip_id: text for clip_id, text in measured.iter_rows() if clip_id in anchors}
    clips = [context.clips[clip_id] for clip_id in sorted(written)]
    return [
        _Pair(clip_id=c.id, uri=c.uri, video=c.content_hash, text=_plain(written[c.id]), true=_plain(anchors[c.id]))
        for c in clips
    ]


def _plain(text: str) -> str:
    """A text as a prompt shows it: what is quoted of it is looked for in this."""
    return " ".join(text.split())


def _check_judge(context: RoundContext, role: str, round: int) -> None:
    """Raise UserError for a judge whose weights are those that wrote, or that they began with.

    What servers run is known by the folder alone, which their engine asks them for.
    """
    digest, _ = context.asked_model(_Judge.of(context, role).facts, 0).digests()
    own = {folder_digest(context.base), folder_digest(context.checkpoint(round)[0])}
    if digest in own and role not in context.config.evaluate.judges_of_own:
        raise UserError(
            f"evaluate.judges: models.{role} is the model under test, or the base that it began with, and would judge "
            f"itself. Name another model (models.{role}.folder, also of one that servers run), or allow it: "
            f"evaluate.judges_of_own: [{role}]."
        )


def _asked(context: RoundContext, judge: _Judge, pairs: Sequence[_Pair], round: int) -> None:
    workspace = context.workspace
    # As its digest says: of a judge that is the main model it is the base that judges, in every round.
    with context.writer(judge.facts, 0) as writer:

        def put(tasks: Iterable[Task], prompt: Prompt) -> None:
            asking = replace(Asking.of(context.config.annotate, prompt), num_candidates=1, script="")
            ask(workspace, tasks, writer, prompt, round=round, purpose=VERIFY, asking=asking)

        put(_facts_tasks(judge, pairs), judge.facts)
        stated = _facts_on_record(workspace, judge, pairs, round)
        put(_verdict_tasks(judge, pairs, stated), judge.verdicts)


def _facts_tasks(judge: _Judge, pairs: Sequence[_Pair]) -> Iterator[Task]:
    for pair in pairs:
        # Texts that are the same are taken apart once.
        for text in dict.fromkeys((pair.text, pair.true)):
            if text and not _too_long(judge, pair):
                prompt = judge.facts.render(Evidence(text=text))
                yield Task(clip_id=pair.clip_id, uri=pair.uri, prompt=prompt, about=judge.about(text))


def _too_long(judge: _Judge, pair: _Pair) -> bool:
    return max(len(pair.text), len(pair.true)) > judge.facts.max_hint_chars


def _verdict_tasks(judge: _Judge, pairs: Sequence[_Pair], stated: Mapping[str, _Stated]) -> Iterator[Task]:
    for pair in pairs:
        if not (pair.text and pair.true):
            continue
        for text, other in dict.fromkeys(((pair.text, pair.true), (pair.true, pair.text))):
            facts = _quoting(stated.get(judge.about(text), []), text)
            listed = json.dumps([fact["fact"] for fact in facts], ensure_ascii=False)
            if facts and len(listed) <= judge.verdicts.max_hint_chars:
                prompt = judge.verdicts.render(Evidence(text=other, facts=listed))
                about = judge.about(text, other, listed)
                yield Task(clip_id=pair.clip_id, uri=pair.uri, prompt=prompt, about=about)


def _quoting(facts: _Stated, text: str) -> _Stated:
    """The facts whose quote stands in the text, each once: what quotes nothing, nobody said."""
    low = text.casefold()
    kept = {fact["fact"].casefold().rstrip("."): fact for fact in facts if fact["quote"].casefold() in low}
    return list(kept.values())


def _payloads(workspace: Workspace, kind: str, wanted: Iterable[tuple[str, str]], round: int) -> dict[str, Any]:
    """What is on record of clips' texts: ``about`` -> payload."""
    ids = {annotation_id(round, form_of(kind, VERIFY), clip_id, about): about for clip_id, about in wanted}
    frame = workspace.records.rows("annotations", ids, ["id", "payload"])
    return {ids[row["id"]]: json.loads(row["payload"]) for row in frame.iter_rows(named=True)}


def _facts_wanted(judge: _Judge, pairs: Sequence[_Pair]) -> list[tuple[str, str]]:
    return [(pair.clip_id, judge.about(text)) for pair in pairs for text in (pair.text, pair.true) if text]


def _facts_on_record(workspace: Workspace, judge: _Judge, pairs: Sequence[_Pair], round: int) -> dict[str, _Stated]:
    found = _payloads(workspace, "facts", _facts_wanted(judge, pairs), round)
    return {about: payload["facts"] for about, payload in found.items()}


def _verdicts_on_record(
    workspace: Workspace, judge: _Judge, pairs: Sequence[_Pair], stated: Mapping[str, _Stated], round: int
) -> dict[str, list[str]]:
    wanted = [(task.clip_id, task.about) for task in _verdict_tasks(judge, pairs, stated)]
    return {
        about: [v["verdict"] for v in sorted(payload["verdicts"], key=lambda v: int(v["number"]))]
        for about, payload in _payloads(workspace, "verdicts", wanted, round).items()
    }


def _judged(
    pair: _Pair,
    judge: _Judge,
    stated: Mapping[str, _Stated],
    verdicts: Mapping[str, list[str]],
    failed: Set[tuple[str, str]],
) -> ClipFacts:
    """What can be told of a clip, or why nothing can. ``failed``: what the judge was asked and gave no such reply."""

    def unsure(why: str) -> ClipFacts:
        return ClipFacts(clip_id=pair.clip_id, video=pair.video, words=len(words(pair.text)), why=why)

    if _too_long(judge, pair):
        return unsure(f"a text has more than the {judge.facts.max_hint_chars} characters that a judge is shown")
    sides: list[tuple[Fact, ...]] = []
    for text, other in ((pair.text, pair.true), (pair.true, pair.text)):
        facts = stated.get(judge.about(text)) if text else []
        if facts is None:
            is_asked = (pair.clip_id, judge.about(text)) in failed
            return unsure("the judge's reply was no list of facts" if is_asked else _NOT_ASKED)
        kept = _quoting(facts, text)
        if facts and not kept:
            return unsure("none of the judge's facts quotes the text")
        if len(facts) >= _MOST_FACTS:
            return unsure(f"a text has {_MOST_FACTS} facts or more, and the judge is asked for no more")
        listed = json.dumps([fact["fact"] for fact in kept], ensure_ascii=False)
        # A clip without a text has said nothing of what people say.
        silent = [OPEN] * len(kept) if not other else []
        about = judge.about(text, other, listed)
        said = silent or (verdicts.get(about, []) if kept else [])
        if len(said) != len(kept):
            is_asked = about in verdicts or (pair.clip_id, about) in failed
            return unsure("the judge's reply has no verdict on each fact" if is_asked else _NOT_ASKED)
        sides.append(tuple(Fact(**fact, verdict=verdict) for fact, verdict in zip(kept, said, strict=True)))
    found = ClipFacts(
        clip_id=pair.clip_id, video=pair.video, words=len(words(pair.text)), said=sides[0], wanted=sides[1]
    )
    if not found.wanted:
        return unsure("people's text states no facts")
    return unsure("the judge contradicts itself when the texts are swapped") if found.contradicts_itself else found
