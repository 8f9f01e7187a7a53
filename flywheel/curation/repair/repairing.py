"""A run of repair over a workspace's clips: each is looked at once, killed and run again nothing is lost or doubled."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress, say
from flywheel.core.reading import Reading
from flywheel.core.types import REPAIR, Clip, SoundVersion, content_id
from flywheel.curation.repair.asking import PlanModel, Unanswered
from flywheel.curation.repair.described import Texts, described
from flywheel.curation.repair.looks import Looks
from flywheel.curation.repair.loop import Repaired, refusal, repair, vetoed
from flywheel.curation.repair.plan import Plan
from flywheel.curation.repair.planners import Case, planner, role_of
from flywheel.curation.repair.recogniser import recogniser_of
from flywheel.curation.repair.rendering import render
from flywheel.curation.repair.standards import RATE_HZ, Perceived, Standards, perceived
from flywheel.curation.repair.standing import StandingSounds
from flywheel.curation.repair.way import CODE, Way, way_of
from flywheel.media.audio import read_audio
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.writing import reject

#: Clips that are looked at together, and committed; and those whose keys are looked up at once.
_TOGETHER, _LOOKUP = 32, 4096


@dataclass(frozen=True, kw_only=True)
class RepairRun:
    """How many clips were looked at now, how many could not be read, and the seconds of it.

    Of a planner that asks a model: ``no_plans`` of its replies were no plans, ``costs`` are calls, tokens and the
    engine's seconds.
    """

    looked_at: int = 0
    rejected: int = 0
    seconds: float = 0.0
    no_plans: int = 0
    costs: Mapping[str, float] = field(default_factory=dict)


def repair_clips(
    workspace: Workspace,
    index: ClipIndex,
    *,
    round: int,
    limit: int | None = None,
    only: Collection[str] | None = None,
) -> RepairRun:
    """Look at the clips with sound that were not looked at in this way last; the caller holds the lock.

    ``only`` are ids of clips, which are looked at in any case, also where a person undid a repair. What can't be read
    is a rejected row of the round, and left for the next. Raises UserError for settings that can't be, Unreadable where
    most clips can't be read.
    """
    began, settings = time.monotonic(), workspace.config.repair
    way = way_of(workspace, index, settings)
    if way is None:
        say("repair: too few clips with sound, or they fit no better than other videos' sounds: all are left alone.")
        return RepairRun()
    try:
        counts = _looked_at_all(workspace, index, way, round=round, limit=limit, only=only)
    finally:
        if way.model is not None:
            way.model.close()
    tidy(workspace)
    costs = way.model.costs() if way.model is not None else {}
    return replace(counts, seconds=time.monotonic() - began, costs=costs)


def _looked_at_all(
    workspace: Workspace, index: ClipIndex, way: Way, *, round: int, limit: int | None, only: Collection[str] | None
) -> RepairRun:
    """Look at the clips that wait, and put on record what came of each."""
    settings = way.settings
    clips = index.of(*settings.splits) if only is None else index.of("train", "test", "anchor").with_ids(only)
    waiting, counts = islice(_waiting(workspace, clips.by_id(), way, round, only), limit), RepairRun()
    reading, held = Reading(REPAIR, workspace.config.corpus.most_unreadable), list[dict[str, Any]]()
    with progress("repair", limit) as bar, ThreadPoolExecutor(settings.decoders) as pool:
        while group := list(islice(waiting, _TOGETHER)):
            texts = described(workspace, [clip.id for clip, *_ in group], round) if way.model is not None else {}
            results = list(pool.map(partial(_one, workspace, way, texts), group))
            for (clip, _, _), result in zip(group, results, strict=True):
                if isinstance(result, str):
                    held.append(reject(round, REPAIR, clip.uri, clip.id, result))
                if isinstance(result, str) and not isinstance(result, _Unplanned):
                    reading.bad(clip.uri, result)
                else:
                    reading.good()
            # Before the rejects: a disk that is away is no clip's fault.
            reading.check()
            made = [result for result in results if not isinstance(result, str)]
            workspace.add_sound_versions(made)
            # While the model answers nothing it may be its engine's fault.
            if way.model is None or not way.model.unanswered:
                workspace.add_rejects(held, round)
                held = []
            counts = replace(
                counts,
                looked_at=counts.looked_at + len(made),
                rejected=counts.rejected + len(results) - len(made),
                no_plans=counts.no_plans + sum(map(_no_plans, made)),
            )
            bar.advance(len(group))
    reading.check(ended=True)
    workspace.add_rejects(held, round)
    return counts


def check(workspace: Workspace) -> None:
    """Raise UserError where the configuration names a planner, its model or a recogniser that there is not."""
    settings = workspace.config.repair
    if role := role_of(planner(settings.planner)):
        PlanModel(workspace, role).check()
    recogniser_of(settings.recogniser, workspace.root, workspace.config.transcribe)


def tidy(workspace: Workspace) -> None:
    """Remove files that no record names, and those used longest ago where there are too many."""
    hashes = workspace.records.read("sound_versions", columns=["content_hash"], where=pl.col("content_hash") != "")
    workspace.sound_files.sweep(hashes["content_hash"])
    workspace.sound_files.trim(int(workspace.config.repair.cache_gib * 2**30))


def undo(workspace: Workspace, clip_id: str, reason: str = "") -> SoundVersion:
    """Let a clip's original stand again; the caller holds the lock. Raises UserError where it does already."""
    rows = workspace.sound_versions(clip_id)
    standing = rows.filter(pl.col("standing"))
    if standing.is_empty():
        raise UserError(f"clip {clip_id}: its sound is the original already. Nothing was changed.")
    before = standing.row(0, named=True)
    version = SoundVersion(
        id=content_id("sound version", clip_id, "undone", rows.height),
        clip_id=clip_id,
        version="",
        outcome="undone",
        reason=reason or "a person undid it",
        parent=before["version"],
        original=before["original"],
        at=_now(),
        **_NOTHING,
    )
    workspace.add_sound_versions([version])
    return version


_NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("plan", "before", "after"), "{}"),
    "trace": "[]",
    "content_hash": "",
    "num_bytes": 0,
    **dict.fromkeys(("code", "planner", "speech"), ""),
    "seconds": 0.0,
}


def _waiting(
    workspace: Workspace, clips: Iterable[Clip], way: Way, round: int, only: Collection[str] | None
) -> Iterator[tuple[Clip, str, str]]:
    """The clips to be looked at, each with the key of its record and the version that stands.

    A clip is done where its last record was made in this way: what another way said since stands no longer.
    """
    rejected = workspace.rejected(round)
    broken = set(rejected.filter(rejected["stage"] == REPAIR)["clip_id"]) if only is None else set[str]()
    looks, standing = Looks(workspace), StandingSounds(workspace)
    stream = (clip for clip in clips if clip.has_audio and clip.id not in broken)
    while some := list(islice(stream, _LOOKUP)):
        ids = [clip.id for clip in some]
        numbers = looks.numbers(ids)
        done = looks.last_is(ids, [way.record_id(*last) for last in zip(ids, (n - 1 for n in numbers), strict=True)])
        new = [
            (clip, way.record_id(clip.id, number), standing.on_record(clip.id))
            for clip, number, is_done, undone in zip(some, numbers, done, looks.undone(ids), strict=True)
            # What a person undid stays so, until a person asks for that clip again. Who names clips wants a look.
            if only is not None or not (is_done or undone)
        ]
        workspace.originals.expect(clip.content_hash for clip, _, _ in new)
        yield from new


def _no_plans(made: SoundVersion) -> int:
    """How many of the planner's replies about a clip were no plans."""
    return sum(not cycle["is_plan"] for cycle in json.loads(made.trace))


class _Unplanned(str):
    """Why the planner's model could not answer about a clip: its file can be read."""

    __slots__ = ()


def _one(workspace: Workspace, way: Way, texts: Texts, waiting: tuple[Clip, str, str]) -> SoundVersion | str:
    """What becomes of a clip's sound, or why it can't be read."""
    clip, key, parent = waiting
    began = time.monotonic()
    try:
        with one_item():
            found, kept, speech = _looked_at(workspace, way, texts, clip, perceived(workspace, clip))
    except Unanswered as error:
        return _Unplanned(error)
    except MediaError as error:
        return str(error)
    original = content_id(clip.content_hash, round(clip.start_s, 6), round(clip.end_s, 6))
    return SoundVersion(
        id=key,
        clip_id=clip.id,
        version=version_id(original, found, kept[0]) if kept is not None else "",
        outcome=found.outcome,
        reason=found.reason,
        plan=json.dumps(found.plan.to_json()),
        before=json.dumps(dict(found.before)),
        after=json.dumps(dict(found.after)),
        trace=json.dumps([cycle.to_json() for cycle in found.trace]),
        content_hash=kept[0] if kept is not None else "",
        num_bytes=kept[1] if kept is not None else 0,
        parent=parent,
        original=original,
        code=CODE,
        planner=way.settings.planner,
        speech=speech,
        seconds=time.monotonic() - began,
        at=_now(),
    )


def version_id(original: str, found: Repaired, content_hash: str) -> str:
    """The id of an edited sound: of its original, its plan, the code that edits, and what came out.

    Another release of a library can edit otherwise: what models said of that sound is not said of this one.
    """
    return content_id("edited sound", original, found.plan.key(), CODE, content_hash)


def _looked_at(
    workspace: Workspace, way: Way, texts: Texts, clip: Clip, here: Perceived
) -> tuple[Repaired, tuple[str, int] | None, str]:
    """What the loop makes of a clip, the file of what it took, and how that is understood.

    The file is looked at once more, as it will be read.
    """
    rewards = partial(_rewards, way.standards, here)
    case = Case(
        key=clip.id,
        measures=here.measures(),
        norms=way.standards.norms,
        ask=way.model.asked_about(clip.id) if way.model is not None else None,
        **{kind: of.get(clip.id, "") for kind, of in texts.items()},
    )
    edited, found = repair(here.samples, RATE_HZ, case, way.planner, rewards, vetoes=way.vetoes, limits=way.limits)
    if edited is None:
        return found, None, ""
    check = partial(workspace.originals.check, clip.uri, clip.content_hash)
    kept = render(clip, found.plan, workspace.sound_files, check)
    read_s = len(here.samples) / RATE_HZ
    written = read_audio(workspace.sound_files.place(kept[0]), 0.0, read_s, rate_hz=RATE_HZ)
    after = rewards(written)
    why = refusal(found.plan, found.before, after, way.limits)
    why = why or vetoed(here.samples, written, RATE_HZ, way.vetoes)
    if why:
        return replace(found, outcome="refused", plan=Plan(), reason=f"as written: {why}", after=found.before), None, ""
    speech = way.recogniser.verdict(here.samples, written, RATE_HZ) if way.recogniser is not None else ""
    return replace(found, after=after), kept, speech


def _rewards(standards: Standards, here: Perceived, samples: np.ndarray) -> Mapping[str, float]:
    return standards.rewards.of(samples, RATE_HZ, here.picture)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
