"""Writing texts for clips with one model: every key once, what fails on record, resumable at any moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

import polars as pl

from annotators import Engine, Request, Result, Sampling, Unusable, build, parse_caption
from flywheel.core.errors import MediaError
from flywheel.core.progress import progress
from flywheel.core.types import Annotation, Clip, Generation, content_id
from flywheel.models.inputs import Picture
from flywheel.models.load import folder_digest
from flywheel.rounds.context import RoundContext
from flywheel.rounds.texts import Texts

_DECODERS = 2
_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class AnnotateResult:
    """Counts of one pass: annotations written now, generations made now and found from before, clips rejected."""

    written: int
    generated: int
    reused: int
    rejected: int
    tokens_out: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    clip: Clip
    prompt: str
    keys: tuple[str, ...]


def write_texts(
    context: RoundContext, clips: Sequence[Clip], *, by: int, round: int, kind: str, limit: int | None = None
) -> AnnotateResult:
    """M_``by`` writes a ``kind`` text for each clip that has none in ``round``; the caller holds the lock.

    A generation whose key exists (same clip, frames, prompt with its hints, model, adapter, sampling) is used, never made
    again. Rows are committed batch by batch.
    """
    workspace, settings = context.workspace, context.config.annotate
    have = set(workspace.annotations(round=round, kind=kind)["clip_id"])
    failed = set(workspace.rejected().filter((pl.col("round") == round) & (pl.col("stage") == "annotate"))["clip_id"])
    todo = [c for c in clips if c.id not in have and c.id not in failed][:limit]
    if not todo:
        return AnnotateResult(written=0, generated=0, reused=0, rejected=0, tokens_out=0)
    model, adapter = context.checkpoint(by)
    fake = settings.engine == "fake"
    model_digest = "fake" if fake else folder_digest(model)
    adapter_digest = folder_digest(adapter) if adapter is not None and not fake else ""
    sampling = Sampling(
        max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed
    )
    texts = Texts(workspace)
    prompt_name = f"{context.prompt.name}@{context.prompt.version}:{context.prompt.digest}"

    def job(clip: Clip) -> _Job:
        prompt = context.prompt.render(context.evidence(clip, texts, round))
        keys = tuple(
            content_id(clip.id, context.picture_spec(), prompt_name, prompt, model_digest, adapter_digest, sampling.canonical(), i)
            for i in range(settings.num_candidates)
        )
        return _Job(clip=clip, prompt=prompt, keys=keys)

    jobs = [job(clip) for clip in todo]
    known = workspace.records.known("generations", [key for j in jobs for key in j.keys])
    stored = _stored(context, known)
    counts = dict.fromkeys(("written", "generated", "reused", "rejected", "tokens_out"), 0)
    engine: Engine | None = None
    label = f"round {round} {kind}"
    with progress(label, len(jobs)) as bar, ThreadPoolExecutor(_DECODERS) as pool:
        for batch, pictures in _decoded(context, jobs, settings.batch_size, pool, stored):
            requests, waiting = [], dict[str, _Job]()
            for j, picture in zip(batch, pictures, strict=True):
                if isinstance(picture, MediaError):
                    _reject(context, j.clip, round, str(picture))
                    counts["rejected"] += 1
                elif picture is not None:
                    missing = [key for key in j.keys if key not in stored]
                    requests += [Request(key=key, picture=picture, prompt=j.prompt) for key in missing]
                    waiting.update(dict.fromkeys(missing, j))
            made: list[Generation] = []
            if requests:
                if engine is None:
                    engine = _engine(context, by)
                results = _generate(engine, requests, sampling, settings.max_tries)
                made = [_generation(waiting[r.key], r, prompt_name, model_digest, adapter_digest, s) for r, s in results]
            workspace.add_generations(made)
            stored.update({g.id: g for g in made})
            annotations, bad = _annotations(batch, stored, round, kind)
            written = workspace.add_annotations(annotations, round)
            for clip, reason in bad:
                _reject(context, clip, round, reason)
            counts["rejected"] += len(bad)
            counts["written"] += written
            counts["generated"] += len(made)
            counts["reused"] += sum(all(key in known for key in j.keys) for j in batch)
            counts["tokens_out"] += sum(g.tokens_out for g in made)
            bar.advance(len(batch))
    return AnnotateResult(**counts)


def _stored(context: RoundContext, keys: set[str]) -> dict[str, Generation]:
    if not keys:
        return {}
    frame = context.workspace.generations().filter(pl.col("id").is_in(list(keys)))
    return {
        row["id"]: Generation(**{**row, "token_ids": tuple(row["token_ids"]), "logprobs": tuple(row["logprobs"])})
        for row in frame.iter_rows(named=True)
    }


def _decoded(
    context: RoundContext, jobs: Sequence[_Job], size: int, pool: ThreadPoolExecutor, stored: dict[str, Generation]
) -> Iterator[tuple[list[_Job], list[Picture | MediaError | None]]]:
    """Batches with their pictures, the next ones decoded while the engine works; None where nothing is to be generated."""

    def load(job: _Job) -> Picture | MediaError | None:
        if all(key in stored for key in job.keys):
            return None
        try:
            return context.picture(job.clip.id)
        except MediaError as error:
            return error

    batches = iter([list(jobs[i : i + size]) for i in range(0, len(jobs), size)])
    ahead: list[tuple[list[_Job], list[Future[Picture | MediaError | None]]]] = []

    def push(count: int) -> None:
        for batch in islice(batches, count):
            ahead.append((batch, [pool.submit(load, job) for job in batch]))

    push(_AHEAD)
    while ahead:
        batch, futures = ahead.pop(0)
        pictures = [future.result() for future in futures]
        push(1)
        yield batch, pictures


def _engine(context: RoundContext, by: int) -> Engine:
    if context.config.annotate.engine == "fake":
        return build("fake")
    vlm = context.load(*context.checkpoint(by))
    return build(context.config.annotate.engine, vlm=vlm, builder=context.builder(vlm))


def _generate(engine: Engine, requests: Sequence[Request], sampling: Sampling, tries: int) -> list[tuple[Result, Sampling]]:
    """Results in order; unusable ones are tried again, sampled. The last try stands, whatever it is."""
    done: dict[str, tuple[Result, Sampling]] = {}
    left = list(requests)
    for number in range(tries):
        if not left:
            break
        how = (
            sampling if number == 0 else replace(sampling, temperature=max(0.7, sampling.temperature), seed=sampling.seed + number)
        )
        results = engine.generate(left, how)
        done.update({r.key: (r, how) for r in results})
        left = [request for request in left if not _usable(done[request.key][0].text)]
    return [done[request.key] for request in requests]


def _usable(text: str) -> bool:
    try:
        parse_caption(text)
    except Unusable:
        return False
    return True


def _generation(job: _Job, result: Result, prompt: str, model: str, adapter: str, sampling: Sampling) -> Generation:
    return Generation(
        id=result.key,
        clip_id=job.clip.id,
        prompt=prompt,
        model=model,
        adapter=adapter,
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


def _annotations(
    batch: Sequence[_Job], stored: dict[str, Generation], round: int, kind: str
) -> tuple[list[Annotation], list[tuple[Clip, str]]]:
    good: list[Annotation] = []
    bad: list[tuple[Clip, str]] = []
    for job in batch:
        candidates = sorted((stored[k] for k in job.keys if k in stored), key=lambda g: -g.mean_logprob)
        reason = ""
        for generation in candidates:
            try:
                text = parse_caption(generation.text)
            except Unusable as error:
                reason = str(error)
                continue
            good.append(
                Annotation(
                    id=content_id(round, kind, job.clip.id), round=round, kind=kind, clip_id=job.clip.id,
                    generation_id=generation.id, source="model", text=text, mean_logprob=generation.mean_logprob,
                )
            )  # fmt: skip
            break
        else:
            if candidates:
                bad.append((job.clip, reason))
    return good, bad


def _reject(context: RoundContext, clip: Clip, round: int, reason: str) -> None:
    context.workspace.add_rejected(round=round, stage="annotate", uri=clip.uri, clip_id=clip.id, reason=reason)
