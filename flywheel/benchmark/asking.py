"""One model is asked questions, by its words or its likeliest option; what can't be shown or answered is rejected."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from annotators.interface import Request, Sampling
from annotators.writer import AskedModel, Writer
from flywheel.benchmark.items import LETTERS, SOUND
from flywheel.benchmark.likelihood import option_logprobs
from flywheel.benchmark.prompting import LISTEN
from flywheel.benchmark.record import Answer
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.models.inputs import ClipInput
from flywheel.models.loader import Loader

#: Videos that lie decoded for each decoder: the sound of a long one takes as much as hundreds of frames.
_AHEAD = 4
#: Tokens of a description by which a model is seen to hear.
_LISTEN = Sampling(max_new_tokens=96)

Media = Callable[[], ClipInput | None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question in words: its answer's ``key`` on record, its item, and how many options it has (0 if open)."""

    key: str
    item: str
    prompt: str
    options: int = 0


@dataclass(frozen=True, kw_only=True)
class Showing:
    """Questions to which the same is shown; ``media`` gives it when it is needed, and raises MediaError if it can't."""

    media: Media
    questions: Sequence[Question]


def check_asked(model: AskedModel, by: str) -> None:
    """Raises UserError where the model's engine can't be asked this way."""
    if by == "likelihood" and model.settings.engine != "transformers":
        raise UserError(
            f"--by likelihood: engine '{model.settings.engine}' gives no log-probs of given replies. "
            f"Use --by generation, or models.{model.role}.engine: transformers."
        )


class Asker:
    """A model that is asked. ``reject`` takes the id of an item that it could not be asked, and the reason."""

    def __init__(
        self,
        writer: Writer,
        loader: Loader,
        *,
        by: str,
        sampling: Sampling,
        decoders: int,
        reject: Callable[[str, str], None],
    ) -> None:
        self._writer, self._loader, self._by, self._sampling = writer, loader, by, sampling
        self._decoders, self._reject = decoders, reject
        self._listens = SOUND in writer.model.inputs

    def answers(self, showings: Sequence[Showing], canaries: Sequence[Showing] = ()) -> Iterator[Answer]:
        """Yield an answer to each question that can be asked, as they come; all showings are of one form.

        A model with an adapter, or with ears, is proven on ``canaries`` first, on the showings where there are none.
        """
        proven_on = canaries or showings
        if self._by == "likelihood":
            yield from self._by_options(showings, proven_on)
        else:
            yield from self._by_words(showings, proven_on)

    def _by_words(self, showings: Sequence[Showing], canaries: Sequence[Showing]) -> Iterator[Answer]:
        sampling = _LISTEN if self._listens else self._sampling
        engine = self._writer.engine(lambda: self._canaries(canaries), sampling)
        items = {question.key: question.item for showing in showings for question in showing.questions}
        requests = (request for request, _ in self._requests(showings))
        for result in engine.generate(requests, self._sampling):
            if result.finish == "error":
                self._reject(items[result.key], result.text)
                continue
            yield Answer(
                key=result.key,
                item=items[result.key],
                text=result.text,
                finish=result.finish,
                tokens_in=result.tokens_in,
                tokens_out=len(result.token_ids),
                seconds=result.seconds,
            )

    def _by_options(self, showings: Sequence[Showing], canaries: Sequence[Showing]) -> Iterator[Answer]:
        if self._listens:
            self._writer.engine(lambda: self._canaries(canaries), _LISTEN)
        for request, question in self._requests(showings):
            try:
                with one_item("the model can't read it"):
                    replies = LETTERS[: question.options]
                    found = option_logprobs(self._writer.model, self._loader, request, replies)
            except MediaError as error:
                self._reject(question.item, str(error))
                continue
            yield Answer(key=request.key, item=question.item, logprobs=found.logprobs, seconds=found.seconds)

    def _requests(self, showings: Iterable[Showing]) -> Iterator[tuple[Request, Question]]:
        """Requests with their media, decoded ahead of the engine; what can't be shown is rejected."""
        room = _AHEAD * self._decoders
        with ThreadPoolExecutor(self._decoders) as pool:
            waiting, ahead = iter(showings), deque[tuple[Showing, Future[ClipInput | MediaError | None]]]()
            while True:
                for showing in islice(waiting, room - len(ahead)):
                    ahead.append((showing, pool.submit(_shown, showing)))
                if not ahead:
                    return
                showing, future = ahead.popleft()
                clip = future.result()
                for question in showing.questions:
                    if isinstance(clip, MediaError):
                        self._reject(question.item, str(clip))
                    else:
                        yield Request(key=question.key, clip=clip, prompt=question.prompt), question

    def _canaries(self, showings: Iterable[Showing]) -> Iterator[Request]:
        """Requests that the model is proven on: one with ears is asked what it hears."""
        for showing in showings:
            clip, first = _shown(showing), showing.questions[0]
            # What can't be shown is rejected when its turn comes.
            if not isinstance(clip, MediaError):
                yield Request(key=f"canary-{first.key}", clip=clip, prompt=LISTEN if self._listens else first.prompt)


def _shown(showing: Showing) -> ClipInput | MediaError | None:
    try:
        return showing.media()
    except MediaError as error:
        return error
