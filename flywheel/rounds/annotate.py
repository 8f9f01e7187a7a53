"""Writing texts for clips with one model: every key once, what fails on record, resumable at any moment."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import polars as pl

from annotators import Engine, Request, Result, Sampling
from annotators.health import Unhealthy, check
from flywheel.core.errors import FlywheelError, MediaError
from flywheel.core.progress import progress
from flywheel.core.types import LEARN, MEASURE, Annotation, Clip, Generation, Purpose, content_id, form_of
from flywheel.kinds import Reply, parse_caption
from flywheel.metrics import token_f1
from flywheel.models.inputs import Picture
from flywheel.models.load import folder_digest
from flywheel.models.prompt import Prompt
from flywheel.rounds.context import RoundContext
from flywheel.rounds.texts import Texts
from flywheel.rounds.writer import Writer

#: Pictures that lie ready, in batches.
_AHEAD = 2
#: Clips that one decoder takes at a time: handing over each picture by itself takes longer than reading it from the cache.
_TOGETHER = 8
#: The longest that a finished text waits for its commit.
_COMMIT_EVERY_S = 20.0
#: Temperature of what is tried again.
_WARM = 0.7


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """What one pass did. Counts: annotations written now, generations made now and found from before, clips rejected, texts found
    unhealthy by kind of fault (each try counts). Tokens and seconds are of the engine; ``busy_share`` is the share of the pass in
    which the engine waited neither for pictures nor for the store; ``money`` is by the price table of the configuration."""

    written: int = 0
    generated: int = 0
    reused: int = 0
    rejected: int = 0
    unhealthy: dict[str, int] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    engine_s: float = 0.0
    decode_s: float = 0.0
    decodes: int = 0
    cache_hits: int = 0
    busy_share: float = 1.0
    money: float = 0.0
    proof: dict[str, float] | None = None


def cost_key(round: int, kind: str, purpose: str = LEARN) -> str:
    return f"cost:{round}:{form_of(kind, purpose)}"


def costs(context: RoundContext, round: int, kind: str, purpose: str = LEARN) -> dict[str, float]:
    """Sums over all passes that wrote these texts, and engine seconds, tokens and money per text made and per text kept."""
    total: dict[str, float] = json.loads(context.workspace.meta(cost_key(round, kind, purpose)) or "{}")
    out = dict(total)
    for name, count in (("per_row", total.get("generated", 0)), ("per_kept_row", total.get("written", 0))):
        out |= {f"{what}_{name}": total[what] / count for what in ("engine_s", "tokens_out", "money") if count}
    return out


@dataclass(frozen=True, kw_only=True)
class _Job:
    clip: Clip
    prompt: str
    keys: tuple[str, ...]
    #: What became of each key: the text and what it says, or why there is none.
    outcome: dict[str, tuple[Generation, Reply] | str] = field(default_factory=dict)

    def done(self) -> bool:
        return len(self.outcome) == len(self.keys)


@dataclass(frozen=True, kw_only=True)
class _Names:
    """What of a generation is the same for a whole pass."""

    prompt: str
    model: str
    adapter: str


def write_texts(
    context: RoundContext, clips: Sequence[Clip], *, by: int, round: int, purpose: Purpose = LEARN, prompt: Prompt | None = None,
    writer: Writer | None = None, limit: int | None = None, retry: int = 0,
) -> AnnotateResult:  # fmt: skip
    """M_``by`` writes a text of the prompt's kind for each clip that has none in ``round`` for this purpose; the caller holds the lock.

    ``prompt`` is the configured caption's where it is left out, ``writer`` M_``by``'s engine where passes share one.

    A generation whose key exists (same clip, frames, prompt with its hints, model, adapter, sampling) is used, never made
    again. Clips that were rejected are left out, unless ``retry`` is above 0: then only they are tried, with the sampling of that
    retry. Raises ProofFailed, before a text is kept, where the adapter can't be proven to write.
    """
    workspace, settings = context.workspace, context.config.annotate
    prompt = prompt or context.prompt
    have = set(workspace.annotations(round=round, kind=prompt.kind, purpose=purpose)["clip_id"])
    at_fault = (pl.col("stage") == "annotate") & (pl.col("kind") == prompt.kind) & (pl.col("purpose") == purpose)
    failed = set(workspace.rejected(round=round).filter(at_fault)["clip_id"])
    todo = [c for c in clips if c.id not in have and (c.id in failed) == bool(retry)][:limit]
    if not todo:
        return AnnotateResult()
    model, adapter = context.checkpoint(by)
    fake = settings.engine == "fake"
    names = _Names(
        prompt=f"{prompt.name}@{prompt.version}:{prompt.digest}",
        model="fake" if fake else folder_digest(model),
        adapter=folder_digest(adapter) if adapter is not None and not fake else "",
    )
    sampling = Sampling(
        max_new_tokens=prompt.max_new_tokens or settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed,
        schema=prompt.schema_text,
    )  # fmt: skip
    if retry:
        sampling = replace(sampling, temperature=max(_WARM, sampling.temperature), seed=sampling.seed + 1000 * retry)
    texts, spec = Texts(workspace), context.picture_spec()

    def job(clip: Clip) -> _Job:
        asked = prompt.render(context.evidence(clip, texts, round))
        keys = tuple(
            content_id(clip.id, spec, names.prompt, asked, names.model, names.adapter, sampling.canonical(), i)
            for i in range(settings.num_candidates)
        )
        return _Job(clip=clip, prompt=asked, keys=keys)

    with Writer(context, by) if writer is None else nullcontext(writer) as own:
        return _Pass(
            context, [job(clip) for clip in todo], own, round=round, purpose=purpose, prompt=prompt, names=names
        ).run(sampling)


class _Pass:
    """One pass over clips: decode ahead, generate, judge, try again, commit."""

    def __init__(
        self,
        context: RoundContext,
        jobs: list[_Job],
        writer: Writer,
        *,
        round: int,
        purpose: Purpose,
        prompt: Prompt,
        names: _Names,
    ) -> None:
        self._context, self._jobs, self._names, self._writer = context, jobs, names, writer
        self._round, self._purpose, self._prompt = round, purpose, prompt
        self._made: list[Generation] = []
        self._finished: list[_Job] = []
        self._counts, self._unhealthy = Counter[str](), Counter[str]()
        self._seconds = dict.fromkeys(("starved", "store"), 0.0)
        self._decoding, self._decode_s = deque[float](), 0.0
        self._committed_at = time.monotonic()
        self._committing = False
        self._began: float | None = None
        self._before = (context.workspace.cache.decodes, context.workspace.cache.hits)
        self._earlier: dict[str, float] = json.loads(
            context.workspace.meta(cost_key(round, prompt.kind, purpose)) or "{}"
        )

    def run(self, sampling: Sampling) -> AnnotateResult:
        settings = self._context.config.annotate
        known = self._context.workspace.records.known("generations", [key for j in self._jobs for key in j.keys])
        stored = _stored(self._context, known)
        for job in self._jobs:
            for key in job.keys:
                if key in stored:
                    said = self._judge(job, _result_of(stored[key]))
                    job.outcome[key] = str(said) if isinstance(said, Unhealthy) else (stored[key], said)
        self._counts["reused"] = sum(job.done() for job in self._jobs)
        left = [(job, key) for job in self._jobs for key in job.keys if key not in stored]
        with (
            progress(f"round {self._round} {form_of(self._prompt.kind, self._purpose)}", len(self._jobs)) as bar,
            ThreadPoolExecutor(settings.decoders) as pool,
        ):
            self._bar = bar
            for job in self._jobs:
                if job.done():
                    self._finish(job)
            try:
                if left:
                    engine = self._writer.engine(self._canary_requests)
                    self._began = time.perf_counter()
                for number in range(settings.max_tries):
                    if not left:
                        break
                    warm = replace(sampling, temperature=max(_WARM, sampling.temperature), seed=sampling.seed + number)
                    left = self._try(
                        engine, left, warm if number else sampling, pool, last=number + 1 == settings.max_tries
                    )
                self._commit()
            except (FlywheelError, KeyboardInterrupt):
                # The engine died, or was asked to stop: what is finished is kept.
                if not self._committing:
                    self._commit()
                raise
        return AnnotateResult(
            written=self._counts["written"], generated=self._counts["generated"], reused=self._counts["reused"],
            rejected=self._counts["rejected"], unhealthy=dict(self._unhealthy),
            proof=asdict(self._writer.proof) if self._writer.proof is not None else None, **self._costs(),
        )  # fmt: skip

    def _canary_requests(self) -> list[Request]:
        from annotators.proof import NUM_CANARIES

        out: list[Request] = []
        for job in self._jobs:
            if job.done():
                continue
            try:
                out.append(
                    Request(key=f"canary-{job.clip.id}", picture=self._context.picture(job.clip.id), prompt=job.prompt)
                )
            except MediaError:
                continue  # Its row will say so.
            if len(out) == NUM_CANARIES:
                break
        return out

    def _costs(self) -> dict[str, Any]:
        cache, prices, counts = self._context.workspace.cache, self._context.config.annotate, self._counts
        while self._decoding:
            self._decode_s += self._decoding.popleft()
        wall = time.perf_counter() - self._began if self._began is not None else 0.0
        waited = self._seconds["starved"] + self._seconds["store"]
        return {
            "tokens_in": counts["tokens_in"], "tokens_out": counts["tokens_out"], "engine_s": max(0.0, wall - waited),
            "decode_s": self._decode_s, "decodes": cache.decodes - self._before[0], "cache_hits": cache.hits - self._before[1],
            "busy_share": max(0.0, 1 - waited / wall) if wall else 1.0,
            "money": wall / 3600 * prices.price_per_hour + counts["tokens_in"] / 1e6 * prices.price_per_million_in
            + counts["tokens_out"] / 1e6 * prices.price_per_million_out,
        }  # fmt: skip

    def _note(self) -> None:
        """What this round's texts of this kind cost so far, over all passes: a killed one is not forgotten."""
        now: dict[str, float] = {
            **self._costs(),
            "written": self._counts["written"],
            "generated": self._counts["generated"],
        }
        del now["busy_share"]
        now |= {f"unhealthy/{name}": count for name, count in self._unhealthy.items()}
        total = {name: self._earlier.get(name, 0) + now.get(name, 0) for name in {**self._earlier, **now}}
        self._context.workspace.set_meta(cost_key(self._round, self._prompt.kind, self._purpose), json.dumps(total))

    def _try(
        self, engine: Engine, left: list[tuple[_Job, str]], sampling: Sampling, pool: ThreadPoolExecutor, *, last: bool
    ) -> list[tuple[_Job, str]]:
        """Generate once for each; returns those whose text is to be tried again."""
        by_key, again = {key: job for job, key in left}, []
        for result in engine.generate(self._requests(left, pool), sampling):
            job = by_key[result.key]
            self._counts["tokens_in"] += result.tokens_in
            self._counts["tokens_out"] += len(result.token_ids)
            said = self._judge(job, result)
            if isinstance(said, Unhealthy):
                self._unhealthy[said.name] += 1
                if said.name != "error" and not last:
                    again.append((job, result.key))
                    continue
            if result.finish != "error":
                generation = self._generation(job, result, sampling)
                self._made.append(generation)
                job.outcome[result.key] = str(said) if isinstance(said, Unhealthy) else (generation, said)
            else:
                job.outcome[result.key] = result.text
            if job.done():
                self._finish(job)
        return again

    def _requests(self, left: Sequence[tuple[_Job, str]], pool: ThreadPoolExecutor) -> Iterator[Request]:
        """Requests with their pictures, decoded ahead of the engine by a bounded number."""
        settings = self._context.config.annotate
        # Each decoder has work, however small the batches are, also while the engine takes what lies ready.
        room = max(settings.decoders, _AHEAD * settings.batch_size // _TOGETHER)
        ahead: deque[tuple[list[tuple[_Job, str]], Future[dict[str, Picture | MediaError]]]] = deque()
        waiting = iter(left)

        def fill() -> None:
            while len(ahead) < room and (some := list(islice(waiting, _TOGETHER))):
                ahead.append((some, pool.submit(self._load, [job.clip for job, _ in some])))

        fill()
        while ahead:
            some, future = ahead.popleft()
            fill()
            began = time.perf_counter()
            pictures = future.result()
            self._seconds["starved"] += time.perf_counter() - began
            for job, key in some:
                picture = pictures[job.clip.id]
                if isinstance(picture, MediaError):
                    job.outcome[key] = str(picture)
                    if job.done():
                        self._finish(job)
                    continue
                yield Request(key=key, picture=picture, prompt=job.prompt)

    def _load(self, clips: Iterable[Clip]) -> dict[str, Picture | MediaError]:
        """Pictures by clip id; candidates of a clip stand together and share one."""
        out: dict[str, Picture | MediaError] = {}
        for clip in clips:
            if clip.id in out:
                continue
            began = time.perf_counter()
            try:
                out[clip.id] = self._context.picture(clip.id)
            except MediaError as error:
                out[clip.id] = error
            # One append is whole in any thread; adding to a sum is not.
            self._decoding.append(time.perf_counter() - began)
        return out

    def _judge(self, job: _Job, result: Result) -> Reply | Unhealthy:
        # What is only measured is kept as it is, however bad: leaving it out would flatter the model.
        if self._purpose == MEASURE and result.finish != "error" and _has_words(result.text):
            return Reply(text=parse_caption(result.text))
        try:
            return check(
                result, kind=self._prompt.kind, instruction=self._prompt.instruction, script=self._context.config.annotate.script,
                schema=self._prompt.schema_text, duration_s=job.clip.duration_s,
            )  # fmt: skip
        except Unhealthy as problem:
            return problem

    def _finish(self, job: _Job) -> None:
        self._finished.append(job)
        if (
            len(self._finished) >= self._context.config.annotate.commit_rows
            or time.monotonic() - self._committed_at > _COMMIT_EVERY_S
        ):
            self._commit()

    def _commit(self) -> None:
        began, self._committing = time.perf_counter(), True
        workspace = self._context.workspace
        workspace.add_generations(self._made)
        annotations = []
        for job in self._finished:
            annotation = self._annotation(job)
            if isinstance(annotation, str):
                _reject(self._context, job.clip, self._round, self._prompt.kind, self._purpose, annotation)
                self._counts["rejected"] += 1
            else:
                annotations.append(annotation)
        self._counts["written"] += workspace.add_annotations(annotations, self._round)
        self._counts["generated"] += len(self._made)
        self._bar.advance(len(self._finished))
        self._made, self._finished, self._committed_at, self._committing = [], [], time.monotonic(), False
        self._note()
        self._seconds["store"] += time.perf_counter() - began

    def _generation(self, job: _Job, result: Result, sampling: Sampling) -> Generation:
        return Generation(
            id=result.key, clip_id=job.clip.id, prompt=self._names.prompt, model=self._names.model, adapter=self._names.adapter,
            sampling=sampling.canonical(), candidate=job.keys.index(result.key), text=result.text, token_ids=result.token_ids,
            logprobs=result.logprobs, tokens_in=result.tokens_in, tokens_out=len(result.token_ids), seconds=result.seconds,
            finish=result.finish,
        )  # fmt: skip

    def _annotation(self, job: _Job) -> Annotation | str:
        """The best of a job's healthy candidates, or why there is none."""
        healthy = [outcome for outcome in job.outcome.values() if not isinstance(outcome, str)]
        if not healthy:
            return next((outcome for outcome in reversed(job.outcome.values()) if isinstance(outcome, str)), "")
        generation, reply = _best(healthy, self._context.config.annotate.select)
        return Annotation(
            id=content_id(self._round, form_of(self._prompt.kind, self._purpose), job.clip.id), round=self._round, kind=self._prompt.kind, clip_id=job.clip.id,
            generation_id=generation.id, source="model", text=reply.text,
            payload=reply.payload, mean_logprob=generation.mean_logprob, purpose=self._purpose,
        )  # fmt: skip


def _best(healthy: list[tuple[Generation, Reply]], how: str) -> tuple[Generation, Reply]:
    """By mean log-prob, or by minimum Bayes risk: the text that is nearest to the others (word F1, mean; ties by log-prob)."""

    def value(index: int) -> tuple[float, float]:
        generation, reply = healthy[index]
        others = (
            [token_f1(reply.text, other.text) for i, (_, other) in enumerate(healthy) if i != index]
            if how == "mbr"
            else []
        )
        return (sum(others) / len(others) if others else 0.0, generation.mean_logprob)

    return healthy[max(range(len(healthy)), key=value)]


def _has_words(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _result_of(generation: Generation) -> Result:
    return Result(
        key=generation.id, text=generation.text, token_ids=generation.token_ids, logprobs=generation.logprobs,
        tokens_in=generation.tokens_in, finish=generation.finish, seconds=generation.seconds,
    )  # fmt: skip


def _stored(context: RoundContext, keys: Iterable[str]) -> dict[str, Generation]:
    if not keys:
        return {}
    frame = context.workspace.records.rows("generations", keys)
    return {
        row["id"]: Generation(**{**row, "token_ids": tuple(row["token_ids"]), "logprobs": tuple(row["logprobs"])})
        for row in frame.iter_rows(named=True)
    }


def _reject(context: RoundContext, clip: Clip, round: int, kind: str, purpose: Purpose, reason: str) -> None:
    context.workspace.add_rejected(
        round=round, stage="annotate", uri=clip.uri, clip_id=clip.id, reason=reason, kind=kind, purpose=purpose
    )
