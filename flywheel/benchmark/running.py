"""A model is asked a benchmark's questions, each once whatever is killed when, and its answers are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from annotators.interface import Sampling
from annotators.writer import AskedModel, Writer
from flywheel.benchmark.answers import UNPARSED, agreed, chosen, is_comparable
from flywheel.benchmark.asking import Asker, Question, Showing, check_asked
from flywheel.benchmark.items import Item, Questions, Rejected
from flywheel.benchmark.judging import judge_answers
from flywheel.benchmark.prompting import asked
from flywheel.benchmark.record import Answer, Record, open_record
from flywheel.benchmark.scores import Score, likeliest, score
from flywheel.benchmark.videos import Shown, Videos, sampled_hash
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress
from flywheel.core.types import content_id
from flywheel.models.loader import Loader

#: Replies without an answer that are shown.
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How questions are asked: of which model, by its words or its log-probs (``by``), with what shown."""

    model: AskedModel
    videos: Videos
    shown: Shown
    sampling: Sampling
    by: str = "generation"
    batch_size: int = 16
    decoders: int = 2
    #: Who judges open answers; without one they are compared word for word.
    judge: AskedModel | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A benchmark's score for a model, of ``asked`` items out of ``count``.

    ``reused`` answers were on record. ``unreadable`` are replies that name no option, some of them. ``hearing`` is the
    proof that the model hears, where sound was shown and anything was asked.
    """

    score: Score
    asked: int
    count: int
    reused: int
    rejected: Sequence[Rejected] = ()
    unreadable: Sequence[dict[str, str]] = ()
    hearing: dict[str, Any] | None = None
    engine_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {
            **asdict(self.score),
            "asked": self.asked,
            "of": self.count,
            "reused": self.reused,
            "rejected": [asdict(reject) for reject in self.rejected],
            "unparsed_replies": list(self.unreadable),
            "hearing": self.hearing,
            "engine_s": self.engine_s,
        }

    def __str__(self) -> str:
        found = self.score
        lines = [f"accuracy {_shown(found.accuracy)}, chance {found.chance:.1%}; {self.asked} of {self.count} asked"]
        lines += [f"  {name}: {_shown(part)}" for name, part in found.by_type.items()]
        lines += [f"  {name}: {_shown(part)}" for name, part in found.by_length.items()]
        lines += [f"  groups, {name}: {_shown(part)}" for name, part in found.groups.items()]
        if found.unparsed:
            lines.append(f"{found.unparsed} replies name no option and count as wrong, such as:")
            lines += [f"  {reply['id']}: {reply['reply']}" for reply in self.unreadable[:3]]
        if self.rejected:
            lines.append(f"{len(self.rejected)} items were not asked, such as:")
            lines += [f"  {reject.place}: {reject.reason}" for reject in self.rejected[:3]]
        return "\n".join(lines)


def _shown(part: Any) -> str:
    return f"{part.value:.1%} ({part.low:.1%} to {part.high:.1%}, n={part.n})"


def run(questions: Questions, how: Asked, loader: Loader, folder: Path, *, limit: int | None = None) -> Outcome:
    """Ask the first ``limit`` questions, but for those with an answer on record in ``folder``, and score the answers.

    Raises UserError where none can be asked, and where log-probs are wanted of an engine that gives none; ProofFailed
    where a model that is given sound does not hear.
    """
    writer = Writer(how.model, loader, batch_size=how.batch_size)
    writer.check()
    check_asked(how.model, how.by)
    with open_record(folder) as record:
        asked_now = _Run(questions, how, writer, loader, record)
        with writer:
            asked_now.ask(limit)
        # The judge is loaded when the model is let go of.
        asked_now.judge(loader)
        return asked_now.outcome(questions)


@dataclass(frozen=True, kw_only=True)
class _Task:
    item: Item
    file: Path
    key: str


@dataclass(kw_only=True)
class _State:
    rejected: list[Rejected] = field(default_factory=list)
    answered: list[tuple[Item, Answer]] = field(default_factory=list)
    #: Places of open answers that were judged.
    judged: Mapping[str, int] | None = None
    reused: int = 0
    engine_s: float = 0.0


class _Run:
    """One run over the items: those on record are taken, the others asked."""

    def __init__(self, questions: Questions, how: Asked, writer: Writer, loader: Loader, record: Record) -> None:
        self._items, self._how, self._writer = questions.items, how, writer
        self._record, self._state = record, _State(rejected=list(questions.rejected))
        self._asker = Asker(
            writer, loader, by=how.by, sampling=how.sampling, decoders=how.decoders, reject=self._reject
        )
        # What is the same for all items is hashed once.
        self._base = content_id(how.shown.spec(), *how.model.digests(), how.sampling.canonical(), how.by)

    def ask(self, limit: int | None) -> None:
        """Ask what is not answered yet."""
        tasks, state = list(islice(self._tasks(), limit)), self._state
        # Items that differ in nothing but their names are asked once.
        waiting = list({task.key: task for task in tasks if task.key not in self._record.known}.values())
        state.reused = sum(task.key in self._record.known for task in tasks)
        if waiting:
            with progress("benchmark", len(waiting)) as bar:
                for answer in self._asker.answers([self._showing(task) for task in waiting]):
                    self._record.add(answer)
                    state.engine_s += answer.seconds
                    bar.advance()
        known = self._record.known
        state.answered = [(task.item, known[task.key]) for task in tasks if task.key in known]
        told = {reject.place for reject in state.rejected}
        for task in tasks:
            if task.key not in known and task.item.id not in told:
                self._reject(task.item.id, "the same question under another name was not answered")
        if not state.answered:
            first = state.rejected[0] if state.rejected else None
            why = f" ({first.place}: {first.reason})" if first else ""
            raise UserError(f"none of {len(state.rejected)} items can be asked{why}.")

    def judge(self, loader: Loader) -> None:
        """Have the judge, where there is one, say which open answers are right.

        Raises UserError where nothing is left to be scored.
        """
        state, judge = self._state, self._how.judge
        if judge is None:
            return
        answered = [(item, answer) for item, answer in state.answered if item.is_open]
        state.judged = judge_answers(
            answered, judge, loader, self._record, self._reject, batch_size=self._how.batch_size
        )
        state.answered = [(item, a) for item, a in state.answered if not item.is_open or item.id in state.judged]
        if not state.answered:
            raise UserError(f"none of {len(answered)} answers can be judged ({state.rejected[-1].reason}).")

    def outcome(self, questions: Questions) -> Outcome:
        """The score of what was answered."""
        state, hearing = self._state, self._writer.hearing
        items = [item for item, _ in state.answered]
        if self._how.by == "likelihood":
            places = likeliest([answer.logprobs for _, answer in state.answered]).tolist()
        else:
            judged = state.judged or {}
            places = [
                judged[item.id] if item.id in judged else _place(item, answer.text) for item, answer in state.answered
            ]
        unread = [(i, a) for (i, a), place in zip(state.answered, places, strict=True) if place == UNPARSED]
        return Outcome(
            score=score(items, places),
            asked=len(items),
            count=questions.count,
            reused=state.reused,
            rejected=state.rejected,
            unreadable=[{"id": item.id, "reply": " ".join(a.text.split())[:200]} for item, a in unread[:_SHOWN]],
            hearing=asdict(hearing) if hearing is not None else None,
            engine_s=state.engine_s,
        )

    def _tasks(self) -> Iterator[_Task]:
        """The items that can be asked, by what tells their answers apart; the others are rejected."""
        hashes = dict[Path, str]()
        for item in self._items:
            try:
                if item.is_open:
                    self._check_open(item)
                with one_item():
                    file = self._how.videos.file(item)
                    content = hashes.get(file) or hashes.setdefault(file, sampled_hash(file))
            except MediaError as error:
                self._reject(item.id, str(error))
                continue
            yield _Task(item=item, file=file, key=content_id(self._base, content, item.span_s, asked(item)))

    def _check_open(self, item: Item) -> None:
        if self._how.by == "likelihood":
            raise MediaError("is an open question, which has no options whose log-probs could be compared")
        if self._how.judge is None and not is_comparable(item.references):
            raise MediaError("its answer is a whole text, which none but a judge can compare; name one with --judge")

    def _reject(self, item: str, reason: str) -> None:
        self._state.rejected.append(Rejected(place=item, reason=reason))

    def _showing(self, task: _Task) -> Showing:
        item = task.item
        question = Question(key=task.key, item=item.id, prompt=asked(item), options=len(item.options))
        return Showing(media=partial(self._how.shown.input, task.file, item), questions=[question])


def _place(item: Item, text: str) -> int:
    """The place of the option that a reply names; of an open question 0 where it is a right answer."""
    return agreed(text, item.references) if item.is_open else chosen(text, item.options)
