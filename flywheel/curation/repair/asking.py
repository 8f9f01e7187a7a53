"""The model that plans: asked for one clip at a time by any number of threads, what waits meanwhile goes together."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from annotators.interface import Request, Sampling
from annotators.writer import AskedModel, Writer
from flywheel.core.errors import BorderError, MediaError, UserError
from flywheel.core.types import content_id
from flywheel.curation.repair.planners import Ask
from flywheel.models.load import model_folder
from flywheel.models.loader import Loader

if TYPE_CHECKING:
    from annotators.interface import Result
    from flywheel.store import Workspace

#: What asking is counted by.
COSTS = ("calls", "tokens_in", "tokens_out", "engine_s")
#: Most tokens of a plan, and the temperature of what is asked again because the reply before was none.
_MOST_TOKENS, _WARM = 256, 0.7
#: Questions in a row that the engine could not answer, after which one that no clip is to blame for is asked.
_MOST_UNANSWERED = 3
_CANARY = "A sound is well as it is. Reply with the plan that leaves it alone."


class Unanswered(MediaError):
    """An engine could not answer a question: no plan was made, and the clip waits."""


@dataclass(eq=False)
class _Waiting:
    """A question, and what came of it."""

    request: Request
    sampling: Sampling
    result: Result | None = None
    failure: BaseException | None = None


class PlanModel:
    """The model of a role, started when it is first asked. Raises UserError where the configuration has none."""

    def __init__(self, workspace: Workspace, role: str) -> None:
        config = workspace.config
        if role not in config.models:
            raise UserError(f"models.{role}: is missing, and repair.planner asks for it. Name its folder and engine.")
        model = AskedModel(
            role=role,
            name=role,
            folder=model_folder(config.models[role].folder, workspace.root),
            settings=config.models[role],
            inputs=frozenset(),
            inputs_from="repair.planner",
        )
        self._writer = Writer(model, Loader(), batch_size=config.annotate.batch_size)
        self._seed = config.annotate.seed
        self._queue: list[_Waiting] = []
        self._lock, self._engine_lock = threading.Lock(), threading.Lock()
        self._counts, self._seconds = Counter[str](), 0.0
        #: Questions in a row that were not answered.
        self.unanswered = 0
        #: Why the engine can't be used: whoever asks from then on fails at once, and by the same.
        self._broken: BaseException | None = None

    def check(self) -> None:
        """Find what is wrong with engine and folder; loads no weights. Raises UserError."""
        self._writer.check()

    def digests(self) -> tuple[str, str]:
        """Hashes of what decides on a plan, as generations have them."""
        return self._writer.model.digests()

    def close(self) -> None:
        """End the engine, where it was started."""
        self._writer.__exit__(None, None, None)

    def costs(self) -> dict[str, float]:
        """Calls, tokens read and written, and the engine's seconds until now."""
        return {**{name: float(self._counts[name]) for name in COSTS[:-1]}, "engine_s": self._seconds}

    def asked_about(self, clip_id: str) -> Ask:
        """What asks about this clip.

        It raises Unanswered where the engine can't answer a question. An engine that can't be used, or that answered
        none of the last few questions, is no reply, whatever is wrong with it: then BorderError, or what else it fails
        by.
        """
        return partial(self._ask, clip_id)

    def _ask(self, clip_id: str, question: str, schema: str, in_vain: int) -> str:
        sampling = Sampling(
            max_new_tokens=_MOST_TOKENS,
            temperature=_WARM if in_vain else 0.0,
            seed=self._seed + in_vain,
            schema=schema,
        )
        key = content_id("plan", clip_id, question, sampling.canonical())
        waiting = _Waiting(request=Request(key=key, clip=None, prompt=question), sampling=sampling)
        with self._lock:
            self._queue.append(waiting)
        with self._engine_lock:
            if waiting.result is None and waiting.failure is None:
                self._answer()
        if waiting.failure is not None:
            raise waiting.failure
        result = waiting.result
        if result is None or result.finish == "error":
            raise self._unanswered("no answer came" if result is None else result.text, schema)
        with self._lock:
            self.unanswered = 0
        return result.text

    def _unanswered(self, why: str, schema: str) -> BaseException:
        """What a question raises that was not answered: the engine's fault where it answers no other either."""
        with self._lock:
            self.unanswered += 1
            if self.unanswered < _MOST_UNANSWERED:
                return Unanswered(f"planner: {why}")
        if self._is_well(schema):
            with self._lock:
                self.unanswered = 0
            return Unanswered(f"planner: {why}")
        with self._lock:
            self._broken = self._broken or BorderError(
                f"planner: the last {self.unanswered} questions were not answered ({why}). Is the server of "
                "models.planner well, and does it take JSON schemas? No clip is at fault: run the same command again."
            )
            return self._broken

    def _is_well(self, schema: str) -> bool:
        """Whether the engine answers a question that is about no clip."""
        sampling = Sampling(max_new_tokens=_MOST_TOKENS, temperature=0.0, seed=self._seed, schema=schema)
        request = Request(key=content_id("plan", _CANARY, sampling.canonical()), clip=None, prompt=_CANARY)
        waiting = _Waiting(request=request, sampling=sampling)
        with self._lock:
            self._queue.append(waiting)
        with self._engine_lock:
            if waiting.result is None and waiting.failure is None:
                self._answer()
        return waiting.failure is None and waiting.result is not None and waiting.result.finish != "error"

    def _answer(self) -> None:
        """Answer all that waits now, by one call for each way of sampling."""
        with self._lock:
            some, self._queue = self._queue, []
        by_sampling: dict[Sampling, dict[str, _Waiting]] = {}
        for waiting in some:
            by_sampling.setdefault(waiting.sampling, {})[waiting.request.key] = waiting
        try:
            if self._broken is not None:
                raise self._broken
            engine = self._writer.engine(lambda: ())
            for sampling, alike in by_sampling.items():
                for result in engine.generate((waiting.request for waiting in alike.values()), sampling):
                    alike[result.key].result = result
                    self._counts.update(calls=1, tokens_in=result.tokens_in, tokens_out=len(result.token_ids))
                    self._seconds += result.seconds
        except BaseException as error:
            self._broken = _no_reply(error)
            for waiting in some:
                waiting.failure = self._broken


def _no_reply(error: BaseException) -> BaseException:
    """An engine's failure as one that no planner's caller takes for a plan that can't be done."""
    if not isinstance(error, UserError):
        return error
    broken = BorderError(str(error), code=error.code or None)
    broken.__cause__ = error
    return broken
