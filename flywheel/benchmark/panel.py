"""A panel of models answers items in each way: with the words alone, with what one medium gives, with both.

A way is shown really: a model that is asked by the picture gets frames and no sound, whatever the file holds. The ways
are asked one after the other, since an engine's batch is of one form, and the models too, since one is loaded at a
time. Every answer is on record before the next: what was killed goes on, and nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from annotators.engines import takes_a_model
from annotators.interface import Sampling
from annotators.writer import AskedModel, Writer
from flywheel.benchmark.answers import chosen
from flywheel.benchmark.asking import Asker, Question, Showing, check_asked
from flywheel.benchmark.certifying import ALL_WAYS, BOTH, CAPTIONS, FAILED, SWAPPED, TRANSCRIPT, Solver, orders_of
from flywheel.benchmark.items import FRAMES, SOUND, Item, Rejected
from flywheel.benchmark.prompting import DESCRIBE, asked, with_captions, with_transcript
from flywheel.benchmark.record import Answer, Record, open_record
from flywheel.benchmark.scores import likeliest
from flywheel.benchmark.videos import Shown, Videos, sampled_hash
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress
from flywheel.core.types import content_id
from flywheel.ingest.beside import Listings, words_of_side_cars
from flywheel.models.inputs import ClipInput
from flywheel.models.load import inputs_of, load_processor
from flywheel.models.loader import Loader

#: What each way shows; transcripts and captions are words.
_INPUTS: Mapping[str, frozenset[str]] = {
    "picture": frozenset({FRAMES}),
    "sound": frozenset({SOUND}),
    SWAPPED: frozenset({FRAMES, SOUND}),
    BOTH: frozenset({FRAMES, SOUND}),
}
#: Tokens of a caption.
_CAPTION = Sampling(max_new_tokens=256)


@dataclass(frozen=True, kw_only=True)
class HowAsked:
    """How a panel is asked: by words or log-probs, under which orders, and how videos are found and shown."""

    videos: Videos
    shown: Shown
    sampling: Sampling
    by: str = "generation"
    turns: int = 2
    seed: int = 0
    batch_size: int = 16
    decoders: int = 2


class Panel:
    """Models that were asked. Its solvers look answers up."""

    def __init__(self, items: Sequence[Item], how: HowAsked, loader: Loader, folder: Path) -> None:
        """``folder`` holds the records, one of each model's."""
        self._how, self._loader, self._folder = how, loader, folder
        self.rejected: list[Rejected] = []
        self._told: set[tuple[str, str]] = set()
        self._listings = Listings()
        self._items: list[tuple[Item, Path, str]] = []
        #: What files of words beside a video say; empty where there are none.
        self._transcripts: dict[Path, str] = {}
        for item in items:
            try:
                with one_item():
                    file = how.videos.file(item)
                    if file not in self._transcripts:
                        self._transcripts[file] = self._said_beside(file)
                    self._items.append((item, file, sampled_hash(file)))
            except MediaError as error:
                self._reject(item.id, str(error))
        #: What a medium holds in words, by the video's content and the medium.
        self._captions: dict[tuple[str, str], str] = {}
        self._places: dict[tuple[str, str, str, tuple[int, ...]], int] = {}

    def ask(self, models: Sequence[AskedModel], verifier: AskedModel | None = None) -> None:
        """Ask all that is not answered yet; ``verifier`` is asked with both alone.

        Raises UserError where no model takes the picture, or the sound, or both, and where the verifier does not take
        both; ProofFailed where one that is given sound does not hear.
        """
        takes = {model.role: _takes(model) for model in models}
        # Before anybody is asked: a panel takes hours.
        for model in (*models, *([verifier] if verifier else [])):
            check_asked(model, self._how.by)
        if verifier is not None and not _INPUTS[BOTH] <= _takes(verifier):
            raise UserError(f"--verify {verifier.role}: does not take frames and sound. Name one that does.")
        if not any(_INPUTS[BOTH] <= found for found in takes.values()):
            raise UserError(
                f"--model {', '.join(takes)}: none takes frames and sound, so that no need of both can be seen. "
                "Name one that does."
            )
        for medium in (FRAMES, SOUND):
            model = next(model for model in models if medium in takes[model.role])
            with self._asker(model, takes[model.role] & {medium}, _CAPTION, "generation") as (asker, record):
                self._describe(model, medium, asker, record)
        for model in models:
            ways = [way for way in ALL_WAYS if _INPUTS.get(way, frozenset()) <= takes[model.role]]
            self._answer(model, takes[model.role], ways)
        if verifier is not None:
            self._answer(verifier, _INPUTS[BOTH], [BOTH])

    def solver(self, model: AskedModel) -> Solver:
        """What a model answered, as a solver."""

        def solve(item: Item, way: str, order: Sequence[int]) -> int | None:
            return self._places.get((model.role, item.id, way, tuple(order)))

        return solve

    def _reject(self, item: str, reason: str) -> None:
        # An item that can't be shown fails under every order.
        if (item, reason) not in self._told:
            self._told.add((item, reason))
            self.rejected.append(Rejected(place=item, reason=reason))

    @contextmanager
    def _asker(
        self, model: AskedModel, inputs: frozenset[str], sampling: Sampling, by: str
    ) -> Iterator[tuple[Asker, Record]]:
        model = replace(model, inputs=inputs)
        check_asked(model, by)
        digest = "".join(model.digests())[:16]
        writer = Writer(model, self._loader, batch_size=self._how.batch_size)
        writer.check()
        with open_record(self._folder / f"certify-{digest}") as record, writer:
            decoders = self._how.decoders
            yield (
                Asker(writer, self._loader, by=by, sampling=sampling, decoders=decoders, reject=self._reject),
                record,
            )

    def _describe(self, model: AskedModel, medium: str, asker: Asker, record: Record) -> None:
        """Have what a medium of each video holds put into words."""
        base, inputs = content_id(*model.digests(), _CAPTION.canonical(), DESCRIBE[medium]), frozenset({medium})
        showings, keys = list[Showing](), dict[str, tuple[str, str]]()
        for item, file, content in self._items:
            key = content_id(base, content, item.span_s, replace(self._how.shown, inputs=inputs).spec())
            if key not in keys:
                keys[key] = (_part(item, content), medium)
                question = Question(key=key, item=item.id, prompt=DESCRIBE[medium])
                showings.append(Showing(media=partial(self._media, item, file, inputs), questions=[question]))
        self._record(showings, asker, record, f"describing {medium}")
        self._captions |= {place: record.known[key].text for key, place in keys.items() if key in record.known}

    def _answer(self, model: AskedModel, takes: frozenset[str], ways: Sequence[str]) -> None:
        """Ask a model in these ways, one after the other."""
        how = self._how
        with self._asker(model, takes, how.sampling, how.by) as (asker, record):
            canaries = self._showings(model, BOTH if len(takes) > 1 else "sound", {}) if SOUND in takes else []
            for way in ways:
                keys: dict[str, list[tuple[Item, tuple[int, ...]]]] = {}
                showings = self._showings(model, way, keys)
                self._record(showings, asker, record, f"{model.role}, {way}", canaries)
                for key, asked_of in keys.items():
                    self._note(model, way, record.known.get(key), asked_of)

    def _note(
        self, model: AskedModel, way: str, answer: Answer | None, asked_of: Sequence[tuple[Item, tuple[int, ...]]]
    ) -> None:
        for item, order in asked_of:
            if answer is None:
                place = FAILED
            elif self._how.by == "likelihood":
                place = int(likeliest([answer.logprobs])[0])
            else:
                place = chosen(answer.text, [item.options[n] for n in order])
            self._places[model.role, item.id, way, order] = place

    def _record(
        self,
        showings: Sequence[Showing],
        asker: Asker,
        record: Record,
        what: str,
        canaries: Sequence[Showing] = (),
    ) -> None:
        """Put the answers to what is not on record there."""
        waiting = [
            replace(showing, questions=left)
            for showing in showings
            if (left := [question for question in showing.questions if question.key not in record.known])
        ]
        with progress(what, sum(len(showing.questions) for showing in waiting)) as bar:
            for answer in asker.answers(waiting, canaries) if waiting else ():
                record.add(answer)
                bar.advance()

    def _showings(
        self, model: AskedModel, way: str, keys: dict[str, list[tuple[Item, tuple[int, ...]]]]
    ) -> list[Showing]:
        """What is shown in a way, with the questions under all orders; ``keys`` gets what each key asks.

        Questions that differ in nothing but their items' names are asked once.
        """
        how, inputs = self._how, _INPUTS.get(way, frozenset())
        spec = replace(how.shown, inputs=inputs).spec() if inputs else {}
        base = content_id(*model.digests(), how.sampling.canonical(), how.by, spec)
        showings = []
        for item, file, content in self._items:
            words = self._words(way, item, file, content)
            if words is None:
                continue
            other = self._other(file) if way == SWAPPED else None
            shown = (content, item.span_s, other and (other[1], other[0][1].span_s)) if inputs else ()
            questions = []
            for order in orders_of(item, how.turns, how.seed):
                prompt = words(asked(replace(item, options=tuple(item.options[place] for place in order))))
                key = content_id(base, *shown, prompt)
                if key not in keys:
                    questions.append(Question(key=key, item=item.id, prompt=prompt, options=len(order)))
                keys.setdefault(key, []).append((item, tuple(order)))
            if questions:
                media = partial(self._media, item, file, inputs, other[0] if other else None)
                showings.append(Showing(media=media, questions=questions))
        return showings

    def _words(self, way: str, item: Item, file: Path, content: str) -> Callable[[str], str] | None:
        """How a question is put in a way; None where the way has nothing of this video."""
        if way == CAPTIONS:
            seen, heard = (self._captions.get((_part(item, content), medium), "") for medium in (FRAMES, SOUND))
            return partial(with_captions, seen, heard) if seen and heard else None
        if way == TRANSCRIPT:
            said = self._transcripts[file]
            return partial(with_transcript, said) if said else None
        if way == SWAPPED and self._other(file) is None:
            return None
        return str

    def _said_beside(self, file: Path) -> str:
        words = words_of_side_cars(file, None, self._listings)
        said = words.text or " ".join(cue.text for cue in words.cues)
        if words.is_there and words.notes and not said:
            note = words.notes[0]
            raise MediaError(f"{note.of} beside it: {note.what}")
        return said

    @cached_property
    def _files(self) -> list[tuple[Path, str, Item]]:
        found = {file: (file, content, item) for item, file, content in self._items}
        return sorted(found.values(), key=lambda part: part[0])

    @cached_property
    def _place(self) -> dict[Path, int]:
        return {part[0]: n for n, part in enumerate(self._files)}

    def _other(self, file: Path) -> tuple[tuple[Path, Item], str] | None:
        """The video half of all away, with its content: no neighbour, such as a twin or another part."""
        if len(self._files) < 2:
            return None
        other, content, item = self._files[(self._place[file] + len(self._files) // 2) % len(self._files)]
        return (other, item), content

    def _media(
        self, item: Item, file: Path, inputs: frozenset[str], other: tuple[Path, Item] | None = None
    ) -> ClipInput | None:
        """What is shown of an item; None where nothing is."""
        if not inputs:
            return None
        own = replace(self._how.shown, inputs=inputs).input(file, item)
        if other is None:
            return own
        return _with_sound(own, replace(self._how.shown, inputs=frozenset({SOUND})).input(*other))


def _with_sound(own: ClipInput, other: ClipInput) -> ClipInput:
    """An input with another's sound: cut, or with silence behind it, so that its length tells nothing."""
    if own.sound is None or other.sound is None:
        raise MediaError("has no sound that could be exchanged")
    sound, length = np.zeros_like(own.sound), min(len(own.sound), len(other.sound))
    sound[:length] = other.sound[:length]
    return replace(own, key=content_id(own.key, other.key), sound=sound)


def _part(item: Item, content: str) -> str:
    return content_id(content, item.span_s)


def _takes(model: AskedModel) -> frozenset[str]:
    """The media that a model takes; an engine without a model takes what it is given."""
    if not takes_a_model(model.settings.engine):
        return _INPUTS[BOTH]
    return inputs_of(load_processor(model.folder, ()))
