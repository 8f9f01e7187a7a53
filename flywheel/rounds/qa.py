"""Certified questions about anchor clips, answered by a reader from a round's captions alone, without the video.

Replies are on record by the round, the caption and the questions; after a kill it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from annotators.asking import Asking, Task, annotation_id, ask, rejected_texts
from flywheel.benchmark import Item, read
from flywheel.benchmark.items import LETTERS
from flywheel.benchmark.videos import Videos
from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import CAPTION, MEASURE, VERIFY, Clip, content_id, form_of
from flywheel.kinds.answers import NONE
from flywheel.media.probe import file_hash
from flywheel.models.prompt import Evidence, Prompt
from flywheel.rounds.context import RoundContext
from flywheel.rounds.qa_measure import AnswersBeside, ClipAnswers, answer_figures

#: Questions that are asked of a clip at a time.
_MOST = 32
_NOT_ASKED = "the reader was not asked yet"


def measure_answers(context: RoundContext, round: int) -> None:
    """Have the reader answer from M_``round``'s captions of anchors; the caller holds the lock.

    Raises UserError where ``evaluate.questions`` can't be read.
    """
    if not context.config.evaluate.questions:
        return
    prompt, texts = _prompt(context), _captions(context, round)
    tasks = [_task(context, clip, texts[clip.id], items) for clip, items in _questions(context) if texts.get(clip.id)]
    if not tasks:
        return
    with context.writer(prompt, 0) as writer:
        asking = replace(Asking.of(context.config.annotate, prompt), num_candidates=1, script="")
        ask(context.workspace, tasks, writer, prompt, round=round, purpose=VERIFY, asking=asking)


def clip_answers(context: RoundContext, round: int) -> list[ClipAnswers]:
    """What was answered of each anchor clip that has questions and a caption of the round, as it is on record."""
    if not context.config.evaluate.questions:
        return []
    texts, asked = _captions(context, round), _questions(context)
    tasks = {clip.id: _task(context, clip, texts[clip.id], items) for clip, items in asked if texts.get(clip.id)}
    replies = _replies(context, round, tasks)
    failed = rejected_texts(
        context.workspace, round, "answers", VERIFY, [(clip_id, task.about) for clip_id, task in tasks.items()]
    )
    return [
        _scored(clip, items, texts[clip.id], replies.get(clip.id), (clip.id, _about(tasks, clip.id)) in failed)
        for clip, items in asked
        if clip.id in texts
    ]


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
    if not _questions(context):
        raise UserError(
            "evaluate.questions: none is about a clip of the anchor split. Name a file of questions about their videos."
        )


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


def _questions(context: RoundContext) -> list[tuple[Clip, list[Item]]]:
    """Anchor clips with the questions about them: of their video, and of a part of it where they are that part."""
    settings = context.config.evaluate
    source = context.workspace.root / settings.questions
    beside = (source if source.is_dir() else source.parent) / "videos"
    folder = context.workspace.root / settings.question_videos if settings.question_videos else beside
    try:
        items, videos = read(source, settings.question_format).items, Videos(folder)
    except UserError as error:
        raise UserError(f"evaluate.questions: {error}") from error
    by_video: dict[str, list[Item]] = {}
    for item in items:
        if item.options and (content := _content(videos, item)):
            by_video.setdefault(content, []).append(item)
    clips = [clip for clip in context.split("anchor") if clip.content_hash in by_video]
    found = [(clip, [i for i in by_video[clip.content_hash] if _is_about(i, clip)][:_MOST]) for clip in clips]
    return [(clip, some) for clip, some in found if some]


def _is_about(item: Item, clip: Clip) -> bool:
    if item.span_s is None:
        # Of a video that was cut, a question about all of it is about no clip.
        return clip.start_s == 0 and (item.duration_s is None or clip.end_s >= item.duration_s - 0.1)
    return clip.start_s <= item.span_s[0] and item.span_s[1] <= clip.end_s


def _content(videos: Videos, item: Item) -> str:
    """The content of an item's video; empty where it can't be read."""
    try:
        file = videos.file(item)
        return _hashed(file, file.stat().st_mtime_ns)
    except (MediaError, OSError):
        return ""


@lru_cache(maxsize=65_536)
def _hashed(file: Path, _: int) -> str:
    return file_hash(file)


def _task(context: RoundContext, clip: Clip, text: str, items: Sequence[Item]) -> Task:
    prompt = _prompt(context)
    listed = json.dumps(
        [
            {"question": i.question, "options": dict(zip(LETTERS, i.options, strict=False)), "number": n}
            for n, i in enumerate(items, 1)
        ],
        ensure_ascii=False,
    )
    digests = context.asked_model(prompt, 0).digests()
    about = content_id(*digests, prompt.digest, text, listed)
    return Task(clip_id=clip.id, uri=clip.uri, prompt=prompt.render(Evidence(text=text, facts=listed)), about=about)


def _about(tasks: Mapping[str, Task], clip_id: str) -> str:
    return tasks[clip_id].about if clip_id in tasks else ""


def _replies(context: RoundContext, round: int, tasks: Mapping[str, Task]) -> dict[str, list[str]]:
    """Clip id -> answers in the order of the questions, of replies that are on record."""
    form = form_of("answers", VERIFY)
    ids = {annotation_id(round, form, clip_id, task.about): clip_id for clip_id, task in tasks.items()}
    rows = context.workspace.records.rows("annotations", ids, ["id", "payload"])
    return {ids[i]: list(_in_order(json.loads(payload)["answers"])) for i, payload in rows.iter_rows()}


def _in_order(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return (answer["answer"] for answer in sorted(answers, key=lambda answer: int(answer["number"])))


def _scored(clip: Clip, items: Sequence[Item], text: str, reply: list[str] | None, is_failed: bool) -> ClipAnswers:
    """What the reply comes to. A clip without a caption answers nothing."""
    reply = [NONE] * len(items) if not text else reply
    if reply is None or len(reply) != len(items):
        why = "the reader's reply has no answer to each question" if is_failed or reply is not None else _NOT_ASKED
        return ClipAnswers(clip_id=clip.id, video=clip.content_hash, why=why)
    right = sum(LETTERS[item.key] == answer for item, answer in zip(items, reply, strict=True))
    return ClipAnswers(
        clip_id=clip.id, video=clip.content_hash, asked=len(items), right=right, unanswered=reply.count(NONE)
    )
