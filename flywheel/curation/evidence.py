"""What each clip's sound and picture tell, measured once and kept: killed and run again, nothing is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.progress import progress
from flywheel.core.reading import Reading
from flywheel.core.types import CURATE, Clip, content_id
from flywheel.curation.repair.standing import SoundSource, StandingSounds
from flywheel.media.audio import read_audio
from flywheel.media.grey import read_grey
from flywheel.sound.motion import visual_events
from flywheel.sound.onsets import TRACK_HZ, onset_envelope
from flywheel.sound.quality import sound_quality
from flywheel.sound.repetition import sound_print
from flywheel.sound.synchrony import Synchrony, synchrony
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.writing import reject

#: Changes with what the measures give: clips are measured anew then.
VERSION = 1
#: The rate that sound is read at.
_RATE_HZ = 16_000
#: Of longer clips so many seconds are measured, from their middle.
_MOST_S = 60.0
#: Clips that are measured together, and committed: each one's picture is also compared with another's sound.
_TOGETHER = 64
#: Clips whose ids are looked up at once.
_LOOKUP = 4096
#: By how much a clip's own sound is moved to make it a wrong one, seconds.
_LEAST_SHIFT_S, _MOST_SHIFT_S = 0.5, 1.0
_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How many clips were measured and rejected now, and the seconds that it took."""

    measured: int = 0
    rejected: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Tracks:
    """A clip's row, with what of its sound and picture is compared with others'; empty where there is no sound."""

    clip: Clip
    row: dict[str, Any]
    onsets: NDArray[np.float32]
    events: NDArray[np.float32]
    times_s: NDArray[np.float64]


def measure(
    workspace: Workspace, clips: Iterable[Clip], *, round: int, decoders: int = 2, limit: int | None = None
) -> Measured:
    """Measure the clips that have no record; what can't be read is a rejected row of the round, and left for the next.

    Clips should come in an order in which neighbours are of different videos, such as that of their ids. The caller
    holds the lock. Raises Unreadable where most can't be read.
    """
    began, counts = time.monotonic(), Measured()
    reading = Reading("curate", workspace.config.corpus.most_unreadable)
    sounds = StandingSounds(workspace)
    waiting = islice(_unmeasured(workspace, clips, round, sounds), limit)
    with progress("curate: sounds", limit) as bar, ThreadPoolExecutor(decoders) as pool:
        # In groups of videos that differ, so that each picture meets a sound that is not its own.
        while group := list(islice(waiting, _TOGETHER)):
            results = list(pool.map(partial(_one, workspace, sounds), group))
            tracks, rejects = [], []
            for clip, result in zip(group, results, strict=True):
                if isinstance(result, str):
                    reading.bad(clip.uri, result)
                    rejects.append(reject(round, CURATE, clip.uri, clip.id, result))
                else:
                    reading.good()
                    tracks.append(result)
            # Before the rejects: a disk that is away is no clip's fault.
            reading.check()
            workspace.add_sounds([_with_controls(track, tracks) for track in tracks])
            workspace.add_rejects(rejects, round)
            counts = replace(counts, measured=counts.measured + len(tracks), rejected=counts.rejected + len(rejects))
            bar.advance(len(group))
    reading.check(ended=True)
    return replace(counts, seconds=time.monotonic() - began)


def measure_all(workspace: Workspace, index: ClipIndex, round: int, limit: int | None = None) -> Measured:
    """Measure the clips of all splits that have no record, at most ``limit``; the caller holds the lock."""
    # By id: neighbours are of different videos then, and a few of them as good as a random choice.
    clips = index.of("train", "test", "anchor").by_id()
    return measure(workspace, clips, round=round, decoders=workspace.config.curate.decoders, limit=limit)


def num_unmeasured(workspace: Workspace, index: ClipIndex) -> int:
    """How many of these clips have no record of the sound that stands; its file is not looked at."""
    sounds, count = StandingSounds(workspace), 0
    for some in index.facts("id").iter_slices(_LOOKUP):
        ids = [record_id(clip_id, sounds.on_record(clip_id)) for clip_id in some["id"]]
        count += len(ids) - len(workspace.records.known("sounds", ids))
    return count


def record_id(clip_id: str, version: str = "") -> str:
    """The id of a clip's record, of its original sound or of an edited one."""
    return content_id("sounds", VERSION, clip_id, *([version] if version else []))


def _unmeasured(workspace: Workspace, clips: Iterable[Clip], round: int, sounds: StandingSounds) -> Iterator[Clip]:
    """The clips that have no record of the sound that stands and were not rejected in this round."""
    rejected = workspace.rejected(round)
    broken = set(rejected.filter(rejected["stage"] == CURATE)["clip_id"])
    stream = iter(clips)
    while some := list(islice(stream, _LOOKUP)):
        ids = {clip.id: record_id(clip.id, sounds.version(clip)) for clip in some}
        known = workspace.records.known("sounds", ids.values())
        new = [clip for clip in some if ids[clip.id] not in known and clip.id not in broken]
        workspace.originals.expect(clip.content_hash for clip in new)
        yield from new


def _one(workspace: Workspace, sounds: StandingSounds, clip: Clip) -> _Tracks | str:
    """What a clip's sound and picture tell, or why they can't be read."""
    try:
        with one_item():
            return _measured(clip, partial(workspace.originals.check, clip.uri, clip.content_hash), sounds.of(clip))
    except MediaError as error:
        return str(error)


def _measured(clip: Clip, check: Callable[[], None], source: SoundSource | None = None) -> _Tracks:
    """What a clip tells; ``source`` is where its sound is read, by default in its own file."""
    began, version = time.monotonic(), source.version if source is not None else ""
    row: dict[str, Any] = {"id": record_id(clip.id, version), "clip_id": clip.id, "version": version}
    nothing = np.zeros(0, np.float32)
    if not clip.has_audio:
        row |= _synchrony_columns(None, "no sound") | _no_quality()
        return _Tracks(clip=clip, row={**row, "seconds": 0.0}, onsets=nothing, events=nothing, times_s=np.zeros(0))
    start_s, end_s = span(clip)
    check()
    place, before_s = (source.path, clip.start_s - source.start_s) if source is not None else (Path(clip.uri), 0.0)
    samples = read_audio(place, start_s - before_s, end_s - before_s, rate_hz=_RATE_HZ)
    drawn_s, grey = read_grey(Path(clip.uri), start_s, end_s)
    check()
    onsets = onset_envelope(samples, _RATE_HZ)
    times_s, events = visual_events(grey, drawn_s)
    row |= _synchrony_columns(synchrony(onsets, events, times_s))
    row |= vars(sound_quality(samples, _RATE_HZ)) | _print_columns(sound_print(samples, _RATE_HZ))
    row["seconds"] = time.monotonic() - began
    return _Tracks(clip=clip, row=row, onsets=onsets, events=events, times_s=times_s)


def span(clip: Clip) -> tuple[float, float]:
    """Where of a clip is measured, seconds in its file: all of it, of a long one the middle."""
    beyond = max(0.0, clip.duration_s - _MOST_S) / 2
    return clip.start_s + beyond, clip.end_s - beyond


def _with_controls(track: _Tracks, group: list[_Tracks]) -> dict[str, Any]:
    """A clip's row, with how its picture fits another video's sound, and its own at a wrong time."""
    shuffled = shifted = None
    if len(track.onsets):
        other = _other(track, group)
        if other is not None:
            shuffled = _fit(other.onsets, track)
        shifted = _fit(np.roll(track.onsets, _shift(track.clip.id)), track)
    return {
        **track.row,
        "shuffled_together": shuffled.together if shuffled else _NAN,
        "shuffled_contrast": shuffled.contrast if shuffled else _NAN,
        "shifted_together": shifted.together if shifted else _NAN,
        "shifted_contrast": shifted.contrast if shifted else _NAN,
    }


def _fit(onsets: NDArray[np.float32], track: _Tracks) -> Synchrony:
    """How a sound fits a clip's picture, as far as both go."""
    length_s = len(onsets) / TRACK_HZ
    there = track.times_s < length_s
    length = min(len(onsets), len(track.onsets))
    return synchrony(onsets[:length], track.events[there], track.times_s[there])


def _other(track: _Tracks, group: list[_Tracks]) -> _Tracks | None:
    """The next clip of the group that is of another video and has a sound; None where there is none."""
    place = next(i for i, other in enumerate(group) if other is track)
    behind = [*group[place + 1 :], *group[:place]]
    return next((o for o in behind if o.clip.content_hash != track.clip.content_hash and len(o.onsets)), None)


def _shift(clip_id: str) -> int:
    """Values of the track by which a clip's sound is moved, either way; the same each time."""
    number = int(content_id("shift", clip_id)[:8], 16) / 0xFFFFFFFF
    seconds = _LEAST_SHIFT_S + (number * 2 % 1) * (_MOST_SHIFT_S - _LEAST_SHIFT_S)
    return round(seconds * TRACK_HZ) * (1 if number < 0.5 else -1)


def _synchrony_columns(found: Synchrony | None, doubt: str = "") -> dict[str, Any]:
    if found is None:
        return {"doubt": doubt, "offset_s": _NAN, "together": _NAN, "contrast": _NAN}
    return {
        "doubt": found.doubt,
        "offset_s": found.offset_s,
        "together": found.together,
        "contrast": found.contrast,
    }


def _no_quality() -> dict[str, Any]:
    names = ("level_db", "clipped", "silent", "band_hz", "floor_db", "damaged")
    return dict.fromkeys(names, _NAN) | _print_columns(None)


def _print_columns(words: NDArray[np.uint32] | None) -> dict[str, Any]:
    if words is None:
        return {"print_a": None, "print_b": None}
    a, b = words.astype(np.uint64).reshape(2, 2) @ np.array([1 << 32, 1], dtype=np.uint64)
    return {"print_a": int(a), "print_b": int(b)}
