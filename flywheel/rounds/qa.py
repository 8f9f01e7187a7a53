"""Certified questions about anchor clips, answered by a reader from a round's captions alone, without the video.

Replies are on record by the round, the caption and the questions; after a kill it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from annotators.asking import annotation_id, ask, rejected_texts
from annotators.tasks import Asking, Task
from flywheel.benchmark import Item
from flywheel.benchmark.items import LETTERS
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.types import CAPTION, MEASURE, VERIFY, Clip, content_id, form_of
from flywheel.kinds.answers import NONE
from flywheel.models.prompt import Evidence, Prompt
from flywheel.rounds.context import RoundContext
from flywheel.rounds.qa_measure import AnswersBeside, ClipAnswers, answer_figures
from flywheel.rounds.qa_questions import ClipQuestions, questions_of

#: Questions that are asked of a clip at a time; of more the reader is asked in lots.
_MOST = 32
_NOT_ASKED = "the reader was not asked yet"


def measure_answers(context: RoundContext, round: int) -> None:
    """Have the reader answer from M_``round``'s captions of anchors; the caller holds the lock.

    Raises UserError where ``evaluate.questions`` can't be read.
    """
    if not context.config.evaluate.questions:
        return
    prompt, texts = _prompt(context), _captions(context, round)
    tasks = [task for of_clip in _tasks(context, questions_of(context), texts).values() for task in of_clip]
    if not tasks:
        return
    with context.writer(prompt, 0) as writer:
        asking = replace(Asking.of(context.config.annotate, prompt), num_candidates=1, script="")
        ask(context.workspace, tasks, writer, prompt, round=round, purpose=VERIFY, asking=asking)


def clip_answers(context: RoundContext, round: int) -> list[ClipAnswers]:
    """What was answered of each anchor clip that has questions and a caption of the round, as it is on record."""
    if not context.config.evaluate.questions:
        return []
    texts, questions = _captions(context, round), questions_of(context)
    tasks = _tasks(context, questions, texts)
    replies, failed = _replies(context, round, tasks)
    answers = []
    for clip, items in questions.by_clip:
        if clip.id in texts:
            asked = [(clip.id, task.about) for task in tasks.get(clip.id, ())]
            lots = [replies.get(pair) for pair in asked] if asked else None
            answers.append(_scored(clip, items, lots, not failed.isdisjoint(asked)))
    return answers


def answers_beside(context: RoundContext, after: int, before: int) -> AnswersBeside:
    """The answers from two rounds' captions, side by side."""
    return AnswersBeside.of(clip_answers(context, after), clip_answers(context, before))


def compared_answers(context: RoundContext, a: int, b: int) -> dict[str, Any]:
    """``qa``: what can be answered from two rounds' captions; nothing where no clip of both was asked about."""
    beside, resamples = answers_beside(context, b, a), context.config.evaluate.resamples
    if not beside.after:
        return {}
    sides = {
        side: {name.removeprefix("qa_"): asdict(value) for name, value in answer_figures(clips, resamples).items()}
        for side, clips in (("a", beside.before), ("b", beside.after))
    }
    questions = sum(clip.asked for clip in beside.after)
    test = asdict(beside.test(resamples))
    return {
        "qa": {"clips": len(beside.after), "questions": questions, "untold": beside.untold, **sides, "accuracy": test}
    }


def check_questions(context: RoundContext) -> None:
    """Find what is wrong with questions and reader before a night of annotation. Raises UserError."""
    if not context.config.evaluate.questions:
        return
    context.writer(_prompt(context), 0).check()
    questions = questions_of(context)
    if not questions.by_clip:
        raise UserError(
            "evaluate.questions: none is about a clip of the anchor split. Name a file of questions about their videos "
            f"({questions})."
        )
    if questions.left_out:
        say(f"evaluate.questions: {questions}")


def questions_record(context: RoundContext) -> dict[str, int]:
    """How many questions are asked of anchor clips, and by reason how many are not; empty without a file of them."""
    return questions_of(context).record() if context.config.evaluate.questions else {}


def _prompt(context: RoundContext) -> Prompt:
    return context.question_prompt.model_copy(update={"model": context.config.evaluate.reader})


def _captions(context: RoundContext, round: int) -> dict[str, str]:
    """A round's captions of anchor clips by clip id, empty where it could write none."""
    anchors = set(context.split("anchor").columns("id")["id"])
    rejected = context.workspace.rejected(round=round, open_only=True)
    rows = rejected.select("clip_id", "stage", "kind", "purpose").iter_rows()
    texts = {c: "" for c, stage, *what in rows if stage == "annotate" and what == [CAPTION, MEASURE]}
    texts |= dict(context.workspace.texts(round, MEASURE, "clip_id", "text").iter_rows())
    return {clip_id: " ".join(text.split()) for clip_id, text in texts.items() if clip_id in anchors}


def _lots(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _MOST] for start in range(0, len(items), _MOST)]


def _tasks(context: RoundContext, questions: ClipQuestions, texts: Mapping[str, str]) -> dict[str, list[Task]]:
    """Clip id -> what the reader is asked of its caption, a task for each lot; nothing of clips without a caption."""
    prompt = _prompt(context)
    digests = context.asked_model(prompt, 0).digests()
    return {
        clip.id: [_task(prompt, digests, clip, text, lot) for lot in _lots(items)]
        for clip, items in questions.by_clip
        if (text := texts.get(clip.id))
    }


def _task(prompt: Prompt, digests: tuple[str, str], clip: Clip, text: str, items: Sequence[Item]) -> Task:
    listed = json.dumps(
        [
            {"question": i.question, "options": dict(zip(LETTERS, i.options, strict=False)), "number": n}
            for n, i in enumerate(items, 1)
        ],
        ensure_ascii=False,
    )
    about = content_id(*digests, prompt.digest, text, listed)
    return Task(clip_id=clip.id, uri=clip.uri, prompt=prompt.render(Evidence(text=text, facts=listed)), about=about)


def _replies(
    context: RoundContext, round: int, tasks: Mapping[str, Sequence[Task]]
) -> tuple[dict[tuple[str, str], list[str]], set[tuple[str, str]]]:
    """By clip id and what it was asked about: the answers in the questions' order, and which replies were refused."""
    asked = [(task.clip_id, task.about) for of_clip in tasks.values() for task in of_clip]
    form = form_of("answers", VERIFY)
    ids = {annotation_id(round, form, *pair): pair for pair in asked}
    rows = context.workspace.records.rows("annotations", ids, ["id", "payload"])
    replies = {ids[i]: list(_in_order(json.loads(payload)["answers"])) for i, payload in rows.iter_rows()}
    return replies, rejected_texts(context.workspace, round, "answers", VERIFY, asked)


def _in_order(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (answer["answer"] for answer in sorted(answers, key=lambda answer: int(answer["number"])))


def _scored(
    clip: Clip, items: Sequence[Item], replies: Sequence[list[str] | None] | None, is_failed: bool
) -> ClipAnswers:
    """What the replies to its lots come to; None are those of a clip without a caption, which answers nothing."""
    wanted = [len(lot) for lot in _lots(items)]
    if replies is None:
        replies = [[NONE] * count for count in wanted]
    given = [reply for reply in replies if reply is not None]
    if [len(reply) for reply in given] != wanted:
        is_read = len(given) == len(wanted)
        why = "the reader's reply has no answer to each question" if is_failed or is_read else _NOT_ASKED
        return ClipAnswers(clip_id=clip.id, video=clip.content_hash, why=why)
    answers = [answer for reply in given for answer in reply]
    right = sum(LETTERS[item.key] == answer for item, answer in zip(items, answers, strict=True))
    return ClipAnswers(
        clip_id=clip.id, video=clip.content_hash, asked=len(items), right=right, unanswered=answers.count(NONE)
    )
