"""A champion's data, to be taken away: which text each clip has, as it was when the champion came to the gate."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.core.errors import BorderError, MediaError, UserError
from flywheel.core.progress import say
from flywheel.core.types import LEARN, MEASURE, Clip, Correction, Cue, standing
from flywheel.formats.export import WRITERS, Card, ExportRow, describe
from flywheel.media.encode import write_clip
from flywheel.rounds.champion import unit
from flywheel.rounds.context import RoundContext
from flywheel.rounds.texts import Texts
from flywheel.store import Workspace


def export(
    context: RoundContext, out: Path, form: str, *, round: int | None = None, splits: tuple[str, ...] = ("train",)
) -> dict[str, Any]:
    """Write a round's dataset (the champion's if left out) into a new folder; returns counts.

    The folder appears whole or not at all. Raises UserError for an unknown format or a folder that holds something.
    """
    if form not in WRITERS:
        raise UserError(f"export: format '{form}' is unknown. There are {', '.join(WRITERS)}.")
    if unknown := set(splits) - {"train", "test", "anchor"}:
        raise UserError(f"export: split '{sorted(unknown)[0]}' is unknown. There are train, test and anchor.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: holds something already. Name a new folder with --out.")
    workspace = context.workspace
    chosen = workspace.champion() if round is None else round
    view = workspace.as_of(chosen) if chosen and workspace.frozen(chosen) is not None else workspace
    if round and view is workspace:
        raise UserError(f"export: round {round} never came to its gate, so there is no data of it as it was.")
    frozen = RoundContext(view, context.tracker)
    sources, left_out, hours = Counter[str](), Counter[str](), [0.0]
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        went: list[str] = []
        WRITERS[form](_noting(_rows(frozen, chosen, splits, sources, left_out, hours), went), temporary)
        count = sum(sources.values())
        describe(_card(frozen, chosen, form, count, sources, left_out, hours[0]), temporary)
        if out.exists():
            out.rmdir()
        # Before it appears: a dataset that nobody knows of could not be found when a clip must go.
        workspace.add_export(out.resolve(), chosen, went)
        temporary.replace(out)
    except OSError as error:
        raise BorderError(f"{out}: can't be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {
        "round": chosen,
        "format": form,
        "clips": count,
        "sources": dict(sources),
        "left_out": dict(left_out),
        "out": str(out),
    }


def _noting(rows: Iterator[ExportRow], went: list[str]) -> Iterator[ExportRow]:
    for row in rows:
        went.append(row.id)
        yield row


def _rows(
    context: RoundContext,
    round: int,
    splits: tuple[str, ...],
    sources: Counter[str],
    left_out: Counter[str],
    hours: list[float],
) -> Iterator[ExportRow]:
    workspace, texts = context.workspace, Texts(context.workspace)
    newest = max([r for r in workspace.rounds() if texts.captions(r)], default=0)
    best = texts.choose(newest, context.config.gate.min_anchors, context.config.pretrain.texts).round
    order = dict.fromkeys([best, *range(newest, -1, -1)])
    cues = _cues(workspace)
    evaluated = dict(workspace.annotations(round=round, purpose=MEASURE).select("clip_id", "text").iter_rows())
    for clip in sorted(context.split(*splits), key=lambda c: c.id):
        human = texts.human.get(clip.id)
        found = next((a for r in order if (a := texts.captions(r).get(clip.id)) is not None), None)
        if clip.id in texts.gold:
            left_out["gold, which checks refiners"] += 1
            continue
        if human is not None and human.text is not None:
            text, source, of, annotation = human.text, "human", round, human.annotation_id
        elif human is not None and (found is None or human.annotation_id == found.id):
            left_out["whose text people rejected"] += 1
            continue
        elif clip.split == "test" and clip.id in evaluated:
            text, source, of, annotation = evaluated[clip.id], "model", round, ""
        elif found is not None:
            text, source, of, annotation = found.text, found.source, found.round, found.id
        else:
            left_out["without a text"] += 1
            continue
        if not Path(clip.uri).is_file():
            left_out["whose file is gone"] += 1
            say(f"export: {clip.uri} is gone; its clip is left out")
            continue
        sources[source] += 1
        hours[0] += clip.duration_s / 3600
        yield ExportRow(
            id=clip.id, uri=clip.uri, start_s=clip.start_s, end_s=clip.end_s, fps=clip.fps, split=clip.split, text=text, source=source, round=of,
            annotation_id=annotation, cues=cues.get(clip.id, ()), video=partial(_video, clip, source, sources, left_out, hours),
        )  # fmt: skip


def _video(
    clip: Clip, source: str, sources: Counter[str], left_out: Counter[str], hours: list[float], out: Path
) -> str:
    try:
        return write_clip(Path(clip.uri), clip.start_s, clip.end_s, out)
    except MediaError as error:
        # One broken file costs one clip, not the night.
        say(f"export: {clip.uri}: {error}; its clip is left out")
        sources[source] -= 1
        hours[0] -= clip.duration_s / 3600
        left_out["whose video can't be read"] += 1
        return ""


def _cues(workspace: Workspace) -> dict[str, tuple[Cue, ...]]:
    """Clip id -> the cues of its newest dense caption, as people left them."""
    dense = workspace.annotations(kind="dense_caption", purpose=LEARN).sort("round")
    said: dict[str, list[Correction]] = {}
    if not dense.is_empty():
        for correction in workspace.correction_records():
            said.setdefault(correction.annotation_id, []).append(correction)
    found = {}
    for row in dense.iter_rows(named=True):
        words = list(standing(said.get(row["id"], [])).values())
        payload = next((c.payload for c in reversed(words) if c.payload), row["payload"])
        found[row["clip_id"]] = tuple(Cue(**cue) for cue in json.loads(payload)["cues"]) if payload else ()
    return found


def _card(
    context: RoundContext,
    round: int,
    form: str,
    count: int,
    sources: Counter[str],
    left_out: Counter[str],
    hours: float,
) -> Card:
    workspace = context.workspace
    since = next((row["at"] for row in workspace.champions() if row["round"] == round), "")
    rounds = []
    for r in [r for r in workspace.rounds() if r <= round]:
        measured, gate = workspace.stage(r, "evaluate")[1], workspace.stage(r, "gate")[1]
        quality = {
            k: f"{v['value']:.3f}"
            for k, v in measured.get("quality", {}).items()
            if isinstance(v, dict) and v["value"] == v["value"]
        }
        diversity = measured.get("diversity", {}).get("distinct_3", {}).get("value")
        rounds.append(
            {
                "round": "base" if r == 0 else r, "verdict": gate.get("verdict", ""), "anchor token F1": quality.get("anchor_token_f1", ""),
                "agreement": quality.get("agreement", ""), "distinct-3": f"{diversity:.3f}" if diversity is not None else "",
            }
        )  # fmt: skip
    hashes = unit(context, round)
    # As the rounds had them, not as they are today.
    asked = [workspace.stage(r, "annotate")[1].get("prompts", {}) for r in workspace.rounds() if r <= round]
    prompts = {
        name: ", ".join(sorted({said[name] for said in asked if name in said})) for said in asked for name in said
    }
    said = workspace.corrections()
    return Card(
        name=workspace.root.name, form=form, round=round, champion_since=since, num_clips=count, hours=hours, counts=dict(sources), left_out=dict(left_out),
        model={
            "base": context.config.corpus.model, "weights": hashes["model"], "adapter": hashes["adapter"] or "none",
            **{f"prompt {name}": versions for name, versions in sorted(prompts.items())},
        },
        rounds=tuple(rounds), licence=context.config.corpus.licence, num_refiners=said["refiner"].n_unique() if said.height else 0,
    )  # fmt: skip
