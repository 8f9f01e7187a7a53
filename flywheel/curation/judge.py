"""A text model judges how well what is seen and what is heard go together; what it can't score stays unscored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import polars as pl

from annotators.asking import ask
from annotators.health import script_of
from annotators.tasks import Asking, AskResult, Task
from annotators.writer import Writer
from flywheel import kinds
from flywheel.core.types import (
    CRITERIA,
    LEARN,
    REPEATED,
    SHUFFLED,
    SWAPPED,
    Clip,
    Purpose,
    content_id,
    form_of,
)
from flywheel.kinds.judgement import SOURCES
from flywheel.models.prompt import HINTS, Evidence, Hint, Prompt
from flywheel.store import Workspace

#: Clips whose texts are looked up together.
_TOGETHER = 2048
_SWAPPED: tuple[Hint, ...] = ("heard", "seen")
#: Temperature of a judgement that is repeated.
_OTHER_TEMPERATURE = 0.7
#: Annotations, as rows, by clip.
_Texts = dict[str, dict[str, Any]]
_MISSING = {"seen": "there is no text of what is seen", "heard": "there is no text of what is heard"}


def judge(
    workspace: Workspace,
    clips: Iterable[Clip],
    prompt: Prompt,
    writer: Writer,
    *,
    round: int,
    asking: Asking,
    purpose: Purpose = LEARN,
    others: Mapping[str, str] | None = None,
    retry: bool = False,
) -> AskResult:
    """Judge the clips by their texts ``seen`` and ``heard`` of the round; each once for each purpose.

    ``learn`` is a clip's own judgement. For controls, the texts stand in the other order (``swapped``), the sampling is
    another (``repeated``), or what is heard is that of the clip which ``others`` name (``shuffled``).

    A reply that is no judgement (prose, a score that is none, another language) is tried again as ``asking`` says; then
    the clip is on record as unscored, and with ``retry`` is asked about once more, by other sampling. The caller holds
    the lock. Clips are gone through twice, so they are no iterator that ends.
    """
    # Reasons in another script than the question's are of a judge that went astray.
    asking = replace(asking, keep_unhealthy=False, script=asking.script or script_of(prompt.instruction))
    others = dict(others or {}) if purpose == SHUFFLED else None
    tasks = _tasks(workspace, clips, prompt, round, _SWAPPED if purpose == SWAPPED else HINTS, others)
    if purpose == REPEATED:
        warm = max(_OTHER_TEMPERATURE, asking.sampling.temperature)
        asking = replace(asking, sampling=replace(asking.sampling, temperature=warm, seed=asking.sampling.seed + 1))
    result = ask(workspace, tasks, writer, prompt, round=round, purpose=purpose, asking=asking, retry=retry)
    _record(workspace, clips, prompt, round, purpose, others)
    return result


def _tasks(
    workspace: Workspace,
    clips: Iterable[Clip],
    prompt: Prompt,
    round: int,
    order: Sequence[Hint],
    others: Mapping[str, str] | None,
) -> Iterator[Task]:
    for some in _lots(clips):
        seen, heard = _both_texts(workspace, [clip.id for clip in some], round, others)
        for clip in some:
            if clip.id in seen and clip.id in heard:
                evidence = Evidence(seen=shown("seen", seen[clip.id]), heard=shown("heard", heard[clip.id]))
                yield Task(clip_id=clip.id, uri=clip.uri, prompt=prompt.render(evidence, order))


def _record(
    workspace: Workspace,
    clips: Iterable[Clip],
    prompt: Prompt,
    round: int,
    purpose: Purpose,
    others: Mapping[str, str] | None,
) -> None:
    """Note the judgements that are not on record yet: whenever the pass was killed, the next one goes on."""
    of_this = (pl.col("stage") == "annotate") & (pl.col("kind") == prompt.kind) & (pl.col("purpose") == purpose)
    failed = workspace.rejected(round=round).filter(of_this).unique("clip_id", keep="last").select("clip_id", "reason")
    for some in _lots(clips):
        ids = [clip.id for clip in some]
        reasons = dict(failed.filter(pl.col("clip_id").is_in(ids)).iter_rows())
        texts = dict(zip(_MISSING, _both_texts(workspace, ids, round, others), strict=True))
        judged = _texts(workspace, ids, round, form_of(prompt.kind, purpose))
        rows = []
        for clip_id in ids:
            row: dict[str, Any] = {"clip_id": clip_id}
            if purpose in (LEARN, SWAPPED):
                row |= {f"{kind}_id": texts[kind].get(clip_id, {}).get("id", "") for kind in _MISSING}
                row["swapped"] = purpose == SWAPPED
            else:
                row |= {"purpose": purpose, "other_id": others.get(clip_id, "") if others is not None else ""}
            missing = next((words for kind, words in _MISSING.items() if clip_id not in texts[kind]), "")
            if clip_id in judged:
                rows.append({**row, **_scored(judged[clip_id])})
            elif why := reasons.get(clip_id) or missing:
                rows.append({**row, **_unscored(why)})
        if purpose in (LEARN, SWAPPED):
            workspace.add_judgements(rows, round)
        else:
            short = ("reasons", "sources")
            workspace.add_control_judgements(
                [{name: value for name, value in row.items() if name not in short} for row in rows], round
            )


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


def _both_texts(
    workspace: Workspace, clip_ids: Sequence[str], round: int, others: Mapping[str, str] | None
) -> tuple[_Texts, _Texts]:
    """What is seen in these clips, and what is heard in them, or with ``others`` in the clips that they name."""
    seen = _texts(workspace, clip_ids, round, "seen")
    if others is None:
        return seen, _texts(workspace, clip_ids, round, "heard")
    heard = _texts(workspace, [others[i] for i in clip_ids if i in others], round, "heard")
    return seen, {i: heard[others[i]] for i in clip_ids if others.get(i) in heard}


def _texts(workspace: Workspace, clip_ids: Sequence[str], round: int, form: str) -> _Texts:
    """Annotations of this form (kind and purpose) by clip."""
    ids = {content_id(round, form, clip_id): clip_id for clip_id in clip_ids}
    columns = ["id", "clip_id", "generation_id", "text", "payload"]
    frame = workspace.records.rows("annotations", ids, columns)
    return {row["clip_id"]: row for row in frame.iter_rows(named=True)}


def shown_texts(
    workspace: Workspace, clip_ids: Sequence[str], round: int, kind: str, purpose: Purpose = LEARN
) -> dict[str, str]:
    """Texts of this kind and purpose in a round as other prompts show them, by clip."""
    texts = _texts(workspace, clip_ids, round, form_of(kind, purpose))
    return {clip_id: shown(kind, text) for clip_id, text in texts.items()}


def shown(kind: str, annotation: Mapping[str, Any]) -> str:
    """A text as another prompt shows it: with its times, where its kind has them."""
    hint = kinds.get(kind).hint
    return hint(json.loads(annotation["payload"])) if hint is not None and annotation["payload"] else annotation["text"]


def _lots(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    stream = iter(clips)
    while some := list(islice(stream, _TOGETHER)):
        yield some
