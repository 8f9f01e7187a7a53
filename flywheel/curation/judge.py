"""A text model judges how well what is seen and what is heard go together; what it can't score stays unscored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from annotators.asking import Asking, AskResult, Task, ask
from annotators.health import script_of
from annotators.writer import Writer
from flywheel import kinds
from flywheel.core.types import CRITERIA, LEARN, MEASURE, Clip, Purpose, content_id, form_of
from flywheel.kinds.judgement import SOURCES
from flywheel.metrics.ranks import jaccard, spearman
from flywheel.models.prompt import HINTS, Evidence, Hint, Prompt
from flywheel.store import Workspace

#: Clips whose texts are looked up together.
_TOGETHER = 2048
_SWAPPED: tuple[Hint, ...] = ("heard", "seen")
_MISSING = {"seen": "there is no text of what is seen", "heard": "there is no text of what is heard"}


@dataclass(frozen=True, kw_only=True)
class OrderAgreement:
    """How much a judge's scores hang on which text is shown first, over ``n`` clips that were judged both ways.

    ``spearman`` by criterion and of the mean (``mean``), nan where all scores are one; ``jaccard`` of the clips that
    the mean would keep, of those that either would.
    """

    n: int
    spearman: dict[str, float]
    jaccard: float


def judge(
    workspace: Workspace,
    clips: Iterable[Clip],
    prompt: Prompt,
    writer: Writer,
    *,
    round: int,
    asking: Asking,
    swapped: bool = False,
    retry: bool = False,
) -> AskResult:
    """Judge the clips by their texts ``seen`` and ``heard`` of the round; each once, and again with ``swapped``.

    A reply that is no judgement (prose, a score that is none, another language) is tried again as ``asking`` says; then
    the clip is on record as unscored, and with ``retry`` is asked about once more, by other sampling. The caller holds
    the lock. Clips are gone through twice, so they are no iterator that ends.
    """
    purpose = MEASURE if swapped else LEARN
    # Reasons in another script than the question's are of a judge that went astray.
    asking = replace(asking, keep_unhealthy=False, script=asking.script or script_of(prompt.instruction))
    tasks = _tasks(workspace, clips, prompt, round, _SWAPPED if swapped else HINTS)
    result = ask(workspace, tasks, writer, prompt, round=round, purpose=purpose, asking=asking, retry=retry)
    _record(workspace, clips, prompt, round, purpose)
    return result


def _tasks(
    workspace: Workspace, clips: Iterable[Clip], prompt: Prompt, round: int, order: Sequence[Hint]
) -> Iterator[Task]:
    for some in _lots(clips):
        seen, heard = (_texts(workspace, some, round, kind) for kind in ("seen", "heard"))
        for clip in some:
            if clip.id in seen and clip.id in heard:
                evidence = Evidence(seen=_shown("seen", seen[clip.id]), heard=_shown("heard", heard[clip.id]))
                yield Task(clip_id=clip.id, uri=clip.uri, prompt=prompt.render(evidence, order))


def _record(workspace: Workspace, clips: Iterable[Clip], prompt: Prompt, round: int, purpose: Purpose) -> None:
    """Note the judgements that are not on record yet: whenever the pass was killed, the next one goes on."""
    of_this = (pl.col("stage") == "annotate") & (pl.col("kind") == prompt.kind) & (pl.col("purpose") == purpose)
    failed = workspace.rejected(round=round).filter(of_this).unique("clip_id", keep="last").select("clip_id", "reason")
    for some in _lots(clips):
        ids = [clip.id for clip in some]
        reasons = dict(failed.filter(pl.col("clip_id").is_in(ids)).iter_rows())
        texts = {kind: _texts(workspace, some, round, kind) for kind in ("seen", "heard")}
        judged = _texts(workspace, some, round, form_of(prompt.kind, purpose))
        rows = []
        for clip_id in ids:
            row = {
                "clip_id": clip_id,
                "seen_id": texts["seen"].get(clip_id, {}).get("id", ""),
                "heard_id": texts["heard"].get(clip_id, {}).get("id", ""),
                "swapped": purpose == MEASURE,
            }
            missing = next((words for kind, words in _MISSING.items() if clip_id not in texts[kind]), "")
            if clip_id in judged:
                rows.append({**row, **_scored(judged[clip_id])})
            elif why := reasons.get(clip_id) or missing:
                rows.append({**row, **_unscored(why)})
        workspace.add_judgements(rows, round)


def _scored(annotation: dict[str, Any]) -> dict[str, Any]:
    payload = json.loads(annotation["payload"])
    return {
        "generation_id": annotation["generation_id"],
        "scores": [payload[name]["score"] for name in CRITERIA],
        "reasons": [payload[name]["reason"] for name in CRITERIA],
        "sources": json.dumps({name: payload[name] for name in SOURCES}, ensure_ascii=False),
        "unscored": "",
    }


def _unscored(why: str) -> dict[str, Any]:
    return {"generation_id": "", "scores": [], "reasons": [], "sources": "", "unscored": why}


def _texts(workspace: Workspace, clips: Sequence[Clip], round: int, form: str) -> dict[str, dict[str, Any]]:
    """Annotations of this form (kind and purpose) by clip."""
    ids = {content_id(round, form, clip.id): clip.id for clip in clips}
    columns = ["id", "clip_id", "generation_id", "text", "payload"]
    frame = workspace.records.rows("annotations", ids, columns)
    return {row["clip_id"]: row for row in frame.iter_rows(named=True)}


def _shown(kind: str, annotation: dict[str, Any]) -> str:
    """A text as the judge sees it: with its times, where its kind has them."""
    hint = kinds.get(kind).hint
    return hint(json.loads(annotation["payload"])) if hint is not None and annotation["payload"] else annotation["text"]


def _lots(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    stream = iter(clips)
    while some := list(islice(stream, _TOGETHER)):
        yield some


def order_agreement(workspace: Workspace, round: int, *, keep: float = 0.7) -> OrderAgreement:
    """Compare judgements with those of the same clips in which the texts were swapped.

    ``keep`` is the share of clips that a quantile of the mean score would keep.
    """
    scores = ["clip_id", *CRITERIA]
    first, second = (workspace.judgements(round, swapped=swapped).select(scores) for swapped in (False, True))
    both = first.join(second, on="clip_id", suffix="_swapped").drop_nulls()
    columns = {name: (both[name].to_numpy(), both[f"{name}_swapped"].to_numpy()) for name in CRITERIA}
    means = [np.mean([pair[n] for pair in columns.values()], axis=0) for n in (0, 1)]
    ranks = {name: spearman(*pair) for name, pair in columns.items()} | {"mean": spearman(means[0], means[1])}
    count = math.ceil(keep * both.height)
    # Of equal means the same clips are kept, whichever came first.
    order = [np.lexsort((np.arange(both.height), -mean))[:count] for mean in means]
    kept = [set(both["clip_id"].gather(rows).to_list()) for rows in order]
    return OrderAgreement(n=both.height, spearman=ranks, jaccard=jaccard(*kept))
