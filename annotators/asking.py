"""Asking one model about many clips: every key is written once, what fails is on record, and it resumes at any moment.

Tasks come from an iterator and are dropped when they are committed, so memory does not grow with their number.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import polars as pl

from annotators.executors import Decoders, Media
from annotators.generations import generation_of, kept_or_failed, result_of
from annotators.health import Unhealthy, check
from annotators.interface import Engine, Request, Result, Sampling
from annotators.kept_tokens import of_kept_text
from annotators.selection import SELECTIONS
from annotators.tasks import RETRY_TEMPERATURE, Asking, AskResult, Task
from annotators.writer import Writer
from flywheel.core.border import one_item
from flywheel.core.errors import NO_MEDIUM, MediaError
from flywheel.core.progress import progress
from flywheel.core.reading import IN_A_ROW, Reading
from flywheel.core.types import LEARN, Annotation, Generation, Purpose, content_id, form_of
from flywheel.kinds import Reply, Unusable, read_as_it_is
from flywheel.models.inputs import ClipInput
from flywheel.models.prompt import Prompt
from flywheel.store import Workspace
from flywheel.store.claims import Claims
from flywheel.store.writing import reject_id

#: Clip inputs that lie ready, in batches.
_PREFETCH_BATCHES = 2
#: Clips that one decoder takes at a time: handing over each by itself takes longer than reading it from the cache.
_CLIPS_PER_DECODE = 8
#: Tasks that are looked up, asked and tried again together; what bounds the memory of a pass.
_WINDOW = 8192
#: Tasks whose keys are looked up in one query.
_LOOKUP = 512
#: The longest that a finished text waits for its commit.
_COMMIT_EVERY_S = 20.0


def ask(
    workspace: Workspace,
    tasks: Iterable[Task],
    writer: Writer,
    prompt: Prompt,
    *,
    round: int,
    purpose: Purpose = LEARN,
    asking: Asking,
    limit: int | None = None,
    retry: bool = False,
    total: int | None = None,
) -> AskResult:
    """Write a text of the prompt's kind for each task's clip that has none in the round; the caller holds the lock.

    A generation whose key exists (same clip, media, prompt with its hints, model, adapter, sampling) is used, never
    made again. Clips that were rejected are left out, or with ``retry`` are the only ones asked about. ``total`` is how
    many tasks there are, for the progress bar. Raises ProofFailed, before a text is kept, where the adapter can't be
    proven to write, or a model that is given sound does not hear.
    """
    asked = _Pass(workspace, writer, prompt, round=round, purpose=purpose, asking=asking)
    wanted = islice(asked.unanswered(tasks, retry=retry), limit)
    return asked.run(_windows(wanted), total if limit is None else limit)


def ask_together(
    workspace: Workspace,
    tasks_of: Callable[[slice], Iterable[Task]],
    claims: Claims,
    writer: Writer,
    prompt: Prompt,
    *,
    round: int,
    purpose: Purpose = LEARN,
    asking: Asking,
) -> AskResult:
    """As :func:`ask`, with other processes that ask the same: each takes parts of the tasks until all are done.

    ``tasks_of`` gives a part's tasks; all processes divide the same tasks in the same order. The caller shares the
    workspace (:meth:`Workspace.share`). The result is what this process did.
    """
    asked = _Pass(workspace, writer, prompt, round=round, purpose=purpose, asking=asking)
    return asked.run(asked.parts(claims, tasks_of), None)


def _windows(tasks: Iterator[Task]) -> Iterator[list[Task]]:
    return iter(lambda: list(islice(tasks, _WINDOW)), [])


@dataclass(frozen=True, kw_only=True)
class _Job:
    task: Task
    keys: tuple[str, ...]
    #: Of each key: the generation and what it says, or why there is none.
    outcome: dict[str, tuple[Generation, Reply] | str] = field(default_factory=dict)

    def done(self) -> bool:
        return len(self.outcome) == len(self.keys)


def annotation_id(round: int, form: str, clip_id: str, about: str = "") -> str:
    """The id of a clip's text of this form in a round; ``about`` as in :class:`Task`."""
    return content_id(round, form, clip_id, *([about] if about else []))


def rejected_texts(
    workspace: Workspace, round: int, kind: str, purpose: Purpose, asked: Iterable[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Those of these pairs of a clip's id and what it was asked about that were rejected in the round."""
    ids = {reject_id(round, kind, purpose, *pair): pair for pair in asked}
    return {ids[known] for known in workspace.records.known("rejected", ids)} if ids else set()


class _UnreadableReason(str):
    """Why the media of a clip can't be had, in place of a reply."""

    __slots__ = ()


class _Pass:
    """One pass over tasks: decode ahead, generate, judge, try again, commit."""

    def __init__(
        self,
        workspace: Workspace,
        writer: Writer,
        prompt: Prompt,
        *,
        round: int,
        purpose: Purpose,
        asking: Asking,
    ) -> None:
        self._workspace, self._writer, self._prompt, self._asking = workspace, writer, prompt, asking
        self._round, self._purpose = round, purpose
        self._form = form_of(prompt.kind, purpose)
        self._prompt_name = f"{prompt.name}@{prompt.version}:{prompt.digest}"
        self._model, self._adapter = writer.model.digests()
        self._made: list[Generation] = []
        self._finished: list[_Job] = []
        #: Rejects for their files wait: where most clips can't be read, the disk is away and none of them is at fault.
        self._unreadable: list[tuple[Task, str]] = []
        self._reading = Reading(f"round {round} {self._form}", workspace.config.corpus.most_unreadable)
        self._counts, self._unhealthy, self._cut = Counter[str](), Counter[str](), Counter[str]()
        self._starved_s = self._store_s = self._decode_s = 0.0
        self._decoding = deque[float]()
        #: Files that were read, and found in the cache, in other processes.
        self._elsewhere = Counter[str]()
        self._committed_at = time.monotonic()
        self._committing = False
        self._began: float | None = None
        self._cache_before = (workspace.cache.decodes, workspace.cache.hits)
        self._costs_on_record: Mapping[str, float] = {}

    # Which tasks.

    def unanswered(self, tasks: Iterable[Task], *, retry: bool) -> Iterator[Task]:
        """The tasks that have no such text yet and, but with ``retry``, were not rejected."""
        failed_clips = self._rejected_clips()
        stream = iter(tasks)
        while some := list(islice(stream, _LOOKUP)):
            ids = [self._annotation_id(task) for task in some]
            answered = self._workspace.records.known("annotations", ids)
            self._reading.tried += len(answered)
            asked = [(task.clip_id, task.about) for task in some if task.about]
            failed = rejected_texts(self._workspace, self._round, self._prompt.kind, self._purpose, asked)
            for task, its_id in zip(some, ids, strict=True):
                # One text's failure says nothing of the clip's others.
                is_failed = (task.clip_id, task.about) in failed if task.about else task.clip_id in failed_clips
                if its_id not in answered and is_failed == retry:
                    yield task

    def _rejected_clips(self) -> set[str]:
        of_this = (pl.col("stage") == "annotate") & (pl.col("kind") == self._prompt.kind)
        rejected = self._workspace.rejected(round=self._round).filter(of_this & (pl.col("purpose") == self._purpose))
        return set(rejected["clip_id"])

    def _annotation_id(self, task: Task) -> str:
        return annotation_id(self._round, self._form, task.clip_id, task.about)

    def _job(self, task: Task) -> _Job:
        sampling = self._asking.sampling.canonical()
        names = (self._prompt_name, task.prompt, self._model, self._adapter, sampling)
        numbers = range(self._asking.num_candidates)
        return _Job(
            task=task, keys=tuple(content_id(task.clip_id, *task.key_parts, *names, number) for number in numbers)
        )

    # The pass.

    def parts(self, claims: Claims, tasks_of: Callable[[slice], Iterable[Task]]) -> Iterator[list[Task]]:
        """The windows of those parts that this process claims, each part committed before the next is claimed."""
        parts = claims.parts()
        while (part := self._next_of(parts)) is not None:
            yield from _windows(self.unanswered(tasks_of(part), retry=False))
            self._commit()

    def _next_of(self, parts: Iterator[slice]) -> slice | None:
        """The next part, or None after the last; the engine stands still while others hold all that is left."""
        began = time.perf_counter()
        part = next(parts, None)
        if self._began is not None:
            self._starved_s += time.perf_counter() - began
        return part

    def run(self, windows: Iterable[list[Task]], total: int | None) -> AskResult:
        with (
            progress(f"round {self._round} {self._form}", total) as bar,
            self._writer.executor.decoders(self._asking.decoders) as pool,
        ):
            self._bar = bar
            try:
                for tasks in windows:
                    self._window([self._job(task) for task in tasks], pool)
                self._commit()
                self._settle(ended=True)
            except (Exception, KeyboardInterrupt):
                # The engine died, or was asked to stop: what is finished is kept.
                if not self._committing:
                    self._commit()
                raise
        return AskResult(
            written=self._counts["written"],
            generated=self._counts["generated"],
            reused=self._counts["reused"],
            rejected=self._counts["rejected"],
            unhealthy=dict(self._unhealthy),
            cut=dict(self._cut),
            proof=asdict(self._writer.proof) if self._writer.proof is not None else None,
            hearing=asdict(self._writer.hearing) if self._writer.hearing is not None else None,
            **self._costs(),
        )

    def _window(self, jobs: list[_Job], pool: Decoders) -> None:
        """Ask about some tasks until each has a text or was tried often enough."""
        self._reuse(jobs)
        left = [(job, key) for job in jobs for key in job.keys if key not in job.outcome]
        for job in jobs:
            if job.done():
                self._finish(job)
        if not left:
            return
        base = self._asking.sampling
        engine = self._writer.engine(lambda: self._canary_requests(jobs), base)
        self._began = self._began if self._began is not None else time.perf_counter()
        for number in range(self._asking.max_tries):
            if not left:
                break
            sampling = base
            if number:
                warm = max(RETRY_TEMPERATURE, base.temperature)
                sampling = replace(base, temperature=warm, seed=base.seed + number)
            left = self._try(engine, left, sampling, pool, last=number + 1 == self._asking.max_tries)

    def _reuse(self, jobs: Sequence[_Job]) -> None:
        """Take generations that exist already."""
        known = self._workspace.records.known("generations", [key for job in jobs for key in job.keys])
        if not known:
            return
        frame = self._workspace.records.rows("generations", known)
        stored = {row["id"]: generation_of(row) for row in frame.iter_rows(named=True)}
        for job in jobs:
            for key in job.keys:
                if key in stored:
                    judged = self._judge(job, result_of(stored[key]))
                    job.outcome[key] = str(judged) if isinstance(judged, Unhealthy) else (stored[key], judged)
        self._counts["reused"] += sum(job.done() for job in jobs)

    def _canary_requests(self, jobs: Sequence[_Job]) -> Iterator[Request]:
        """Yield requests for the adapter's proof, each decoded when it is taken."""
        for job in jobs:
            if job.done():
                continue
            clip = self._load([job.task])[job.task.clip_id]
            if not isinstance(clip, MediaError):  # Else its row will say so.
                yield Request(key=f"canary-{job.task.clip_id}", clip=clip, prompt=job.task.prompt)

    def _try(
        self,
        engine: Engine,
        left: list[tuple[_Job, str]],
        sampling: Sampling,
        pool: Decoders,
        *,
        last: bool,
    ) -> list[tuple[_Job, str]]:
        """Generate once for each; returns those whose text is to be tried again."""
        by_key, again = {key: job for job, key in left}, []
        for result in engine.generate(self._requests(left, pool), sampling):
            job = by_key.pop(result.key)
            result = kept_or_failed(result)
            self._counts["tokens_in"] += result.tokens_in
            self._counts["tokens_out"] += len(result.token_ids)
            judged = self._judge(job, result)
            if isinstance(judged, Unhealthy):
                self._unhealthy[judged.name] += 1
                if judged.name != "error" and not last:
                    again.append((job, result.key))
                    continue
            if result.finish != "error":
                generation = self._generation(job, result, sampling)
                self._made.append(generation)
                job.outcome[result.key] = str(judged) if isinstance(judged, Unhealthy) else (generation, judged)
            else:
                job.outcome[result.key] = result.text
            if job.done():
                self._finish(job)
        return again

    def _requests(self, left: Sequence[tuple[_Job, str]], pool: Decoders) -> Iterator[Request]:
        """Requests with their media, decoded ahead of the engine by a bounded number."""
        asking = self._asking
        # Each decoder has work, however small the batches are, also while the engine takes what lies ready.
        batches = _PREFETCH_BATCHES * self._writer.executor.width
        room = max(asking.decoders, batches * asking.batch_size // _CLIPS_PER_DECODE)
        ahead: deque[tuple[list[tuple[_Job, str]], Future[Media]]] = deque()
        waiting = iter(left)

        def fill() -> None:
            while len(ahead) < room and (some := list(islice(waiting, _CLIPS_PER_DECODE))):
                ahead.append((some, pool.submit(self._load, [job.task for job, _ in some])))

        fill()
        while ahead:
            some, future = ahead.popleft()
            fill()
            began = time.perf_counter()
            inputs = future.result()
            self._starved_s += time.perf_counter() - began
            for job, key in some:
                clip = inputs[job.task.clip_id]
                if isinstance(clip, MediaError):
                    # A clip without what is asked about was read well enough.
                    job.outcome[key] = str(clip) if clip.code == NO_MEDIUM else _UnreadableReason(clip)
                    if job.done():
                        self._finish(job)
                    continue
                yield Request(key=key, clip=clip, prompt=job.task.prompt)

    def _load(self, tasks: Iterable[Task]) -> dict[str, ClipInput | MediaError | None]:
        """Media by clip id; candidate replies of a clip stand together and share them."""
        inputs: dict[str, ClipInput | MediaError | None] = {}
        for task in tasks:
            if task.clip_id in inputs:
                continue
            began = time.perf_counter()
            try:
                with one_item():
                    inputs[task.clip_id] = task.media() if task.media is not None else None
            except MediaError as error:
                inputs[task.clip_id] = error
            # One append is whole in any thread; adding to a sum is not.
            self._decoding.append(time.perf_counter() - began)
        return inputs

    def _judge(self, job: _Job, result: Result) -> Reply | Unhealthy:
        try:
            with one_item("the reply can't be read"):
                return self._reply(job, result)
        except MediaError as error:
            return error.__cause__ if isinstance(error.__cause__, Unhealthy) else Unhealthy("unreadable", str(error))

    def _reply(self, job: _Job, result: Result) -> Reply:
        """The reply that a result is read as. Raises Unhealthy where its text can't be kept."""
        if self._asking.keep_unhealthy and result.finish != "error":
            with suppress(Unusable):
                return read_as_it_is(result.text)
        return check(
            result,
            kind=self._prompt.kind,
            instruction=self._prompt.instruction,
            script=self._asking.script,
            schema=self._prompt.schema_text,
            duration_s=job.task.duration_s,
        )

    # What is kept.

    def _finish(self, job: _Job) -> None:
        self._finished.append(job)
        full = len(self._finished) >= self._asking.commit_rows
        if full or time.monotonic() - self._committed_at > _COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        began, self._committing = time.perf_counter(), True
        self._workspace.add_generations(self._made)
        annotations = []
        for job in self._finished:
            annotation = self._annotation(job)
            if isinstance(annotation, _UnreadableReason):
                self._reading.bad(job.task.uri, annotation)
                self._unreadable.append((replace(job.task, media=None, prompt=""), annotation))
                continue
            self._reading.good()
            if isinstance(annotation, str):
                self._reject(job.task, annotation)
            else:
                annotations.append(annotation)
        self._counts["written"] += self._workspace.add_annotations(annotations, self._round)
        self._counts["generated"] += len(self._made)
        self._bar.advance(len(self._finished))
        self._made, self._finished, self._committed_at, self._committing = [], [], time.monotonic(), False
        self._record_costs()
        if len(self._unreadable) >= IN_A_ROW:
            self._settle()
        self._store_s += time.perf_counter() - began

    def _settle(self, *, ended: bool = False) -> None:
        """Reject the clips that can't be read. Raises Unreadable, and rejects none of them, where they are most."""
        waiting, self._unreadable = self._unreadable, []
        self._reading.check(ended=ended)
        for task, reason in waiting:
            self._reject(task, reason)

    def _reject(self, task: Task, reason: str) -> None:
        self._workspace.add_rejected(
            round=self._round,
            stage="annotate",
            uri=task.uri,
            clip_id=task.clip_id,
            reason=reason,
            kind=self._prompt.kind,
            purpose=self._purpose,
            about=task.about,
        )
        self._counts["rejected"] += 1

    def _generation(self, job: _Job, result: Result, sampling: Sampling) -> Generation:
        return Generation(
            id=result.key,
            clip_id=job.task.clip_id,
            prompt=self._prompt_name,
            model=self._model,
            adapter=self._adapter,
            sampling=sampling.canonical(),
            candidate=job.keys.index(result.key),
            text=result.text,
            token_ids=result.token_ids,
            logprobs=result.logprobs,
            tokens_in=result.tokens_in,
            tokens_out=len(result.token_ids),
            seconds=result.seconds,
            finish=result.finish,
        )

    def _annotation(self, job: _Job) -> Annotation | str:
        """The best of a job's healthy replies, or why there is none."""
        healthy = [outcome for outcome in job.outcome.values() if not isinstance(outcome, str)]
        if not healthy:
            return next((outcome for outcome in reversed(job.outcome.values()) if isinstance(outcome, str)), "")
        # By the log-probs of the words that are kept: the likeliest thoughts make no better text.
        tokenizer = self._writer.tokenizer
        generation, reply = SELECTIONS[self._asking.select]([(of_kept_text(g, r, tokenizer), r) for g, r in healthy])
        self._cut.update(reply.cut)
        return Annotation(
            id=self._annotation_id(job.task),
            round=self._round,
            kind=self._prompt.kind,
            clip_id=job.task.clip_id,
            generation_id=generation.id,
            source="model",
            text=reply.text,
            payload=reply.payload,
            mean_logprob=generation.mean_logprob,
            purpose=self._purpose,
        )

    # What it cost.

    def _costs(self) -> dict[str, Any]:
        cache, prices, counts = self._workspace.cache, self._writer.model.settings, self._counts
        while self._decoding:
            self._decode_s += self._decoding.popleft()
        while self._writer.executor.decoded:
            seconds, decodes, hits = self._writer.executor.decoded.popleft()
            self._decode_s += seconds
            self._elsewhere.update(decodes=decodes, cache_hits=hits)
        wall_s = time.perf_counter() - self._began if self._began is not None else 0.0
        waited_s = self._starved_s + self._store_s
        return {
            "tokens_in": counts["tokens_in"],
            "tokens_out": counts["tokens_out"],
            "engine_s": max(0.0, wall_s - waited_s),
            "decode_s": self._decode_s,
            "decodes": cache.decodes - self._cache_before[0] + self._elsewhere["decodes"],
            "cache_hits": cache.hits - self._cache_before[1] + self._elsewhere["cache_hits"],
            "busy_share": max(0.0, 1 - waited_s / wall_s) if wall_s else 1.0,
            "money": wall_s / 3600 * prices.price_per_hour
            + counts["tokens_in"] / 1e6 * prices.price_per_million_in
            + counts["tokens_out"] / 1e6 * prices.price_per_million_out,
        }

    def _record_costs(self) -> None:
        """Add what texts of this kind cost to what the round's other passes did: a killed one is not forgotten."""
        costs = {name: value for name, value in self._costs().items() if name != "busy_share"}
        costs |= {"written": self._counts["written"], "generated": self._counts["generated"]}
        costs |= {f"unhealthy/{name}": count for name, count in self._unhealthy.items()}
        costs |= {f"cut/{name}": count for name, count in self._cut.items()}
        # What came since the last time: others may add theirs in between.
        before, self._costs_on_record = self._costs_on_record, costs
        new = {name: value - before.get(name, 0) for name, value in costs.items()}
        self._workspace.ledger.add_cost(self._round, self._prompt.kind, self._purpose, new)


def costs_of(workspace: Workspace, round: int, kind: str, purpose: Purpose = LEARN) -> dict[str, float]:
    """Sums over all passes that wrote these texts; seconds, tokens and money also per text made and per text kept."""
    total = workspace.ledger.cost(round, kind, purpose)
    costs = dict(total)
    for name, count in (("per_row", total.get("generated", 0)), ("per_kept_row", total.get("written", 0))):
        costs |= {f"{what}_{name}": total[what] / count for what in ("engine_s", "tokens_out", "money") if count}
    return costs
