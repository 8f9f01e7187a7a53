"""Writes the playground of the audio-visual world: videos with side-car transcripts, and apart from them the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import progress
from flywheel.media.encode import Quality, write_video
from flywheel.playground.av.damage import DAMAGES, Damage, damage
from flywheel.playground.av.drawing import frames
from flywheel.playground.av.facts import true_facts
from flywheel.playground.av.faults import plant
from flywheel.playground.av.grammar import caption, heard_text, seen_text
from flywheel.playground.av.sounds import SAMPLE_RATE, sound
from flywheel.playground.av.timeline import DURATION_S, FAULTS, Timeline
from flywheel.playground.av.transcripts import NOISE_KINDS, noisy_transcript
from flywheel.playground.av.worlds import CORPUS, sample
from flywheel.playground.corpus import SEED_STRIDE, check_arguments
from flywheel.playground.drawn import SIZES

#: Frames come often, so that they tell when something happened.
_RATES = (25, 30)
_QUALITY = Quality(crf=20, preset="ultrafast", threads=1)
_WORKERS = 2
_DAMAGE_COLUMNS = {"damage": pl.String, "action": pl.String, "parameter": pl.String, "value": pl.Float64}


@dataclass(frozen=True, kw_only=True)
class _Clip:
    path: Path
    seed: int
    other_seed: int
    fault: str
    noise: str
    damage: str

    def as_filmed(self) -> Timeline:
        return sample(self.seed, CORPUS)

    def timeline(self) -> Timeline:
        """What is seen and heard, the fault included."""
        whole = self.as_filmed()
        return plant(whole, self.fault, np.random.default_rng([self.seed, 32452843])) if self.fault else whole

    def heard(self) -> tuple[NDArray[np.float32], Damage | None]:
        """The clip's samples at ``SAMPLE_RATE``, and what was done to them."""
        timeline = self.timeline()
        if not self.damage:
            return sound(timeline), None
        rng = np.random.default_rng([self.seed, 67867967])
        return damage(sound(timeline), timeline, self.damage, rng, SAMPLE_RATE)


def write_av_playground(
    folder: Path,
    *,
    seed: int,
    num_clips: int,
    noise_rate: float,
    faults: Mapping[str, float],
    damage_rate: float = 0.0,
) -> None:
    """Writes ``folder/corpus/clip-00000.mp4`` with ``.txt`` beside it, and ``folder/oracle.parquet``.

    ``faults`` are shares of clips by fault; no clip has two, the rest has none. Transcripts describe the scene as it
    was filmed, before anything happened to it, and ``noise_rate`` of them are noisy. The oracle's texts and facts
    are of what the clip shows and plays. ``damage_rate`` is the share of clips, among those without a fault, whose
    sound is damaged, all kinds alike: the oracle then says of each which action mends it. The same arguments give the
    same corpus, and go on where they were stopped.
    Raises UserError for values out of range, and where the folder holds another corpus.
    """
    check_arguments(seed=seed, num_clips=num_clips, noise_rate=noise_rate)
    _check_shares(faults, damage_rate)
    corpus = folder / "corpus"
    clips = _clips(corpus, seed, num_clips, noise_rate, faults)
    if damage_rate:
        clips = _damaged(clips, seed, round(damage_rate * num_clips))
    _write_oracle(folder, clips)
    corpus.mkdir(parents=True, exist_ok=True)
    with progress("playground", num_clips) as bar, ProcessPoolExecutor(_WORKERS) as pool:
        for _ in pool.map(_write_clip, clips, chunksize=8):
            bar.advance()


def _check_shares(faults: Mapping[str, float], damage_rate: float) -> None:
    for fault, share in faults.items():
        if fault not in FAULTS:
            raise UserError(f"{fault}: no such fault. There are {', '.join(FAULTS)}.")
        if not 0 <= share <= 1:
            raise UserError(f"--{fault.replace('_', '-')} {share}: need a share between 0 and 1.")
    if not 0 <= damage_rate <= 1:
        raise UserError(f"--damage {damage_rate}: need a share between 0 and 1.")
    shares = {**faults, "damage": damage_rate}
    total = sum(shares.values())
    if total > 1 + 1e-9:
        named = ", ".join(f"--{name.replace('_', '-')} {share}" for name, share in shares.items() if share)
        raise UserError(f"{named}: need shares that add up to at most 1, got {total:.6g}.")


def _clips(corpus: Path, seed: int, num_clips: int, noise_rate: float, faults: Mapping[str, float]) -> list[_Clip]:
    rng = np.random.default_rng([seed, 86028121])
    num_noisy = round(noise_rate * num_clips)
    noise = [NOISE_KINDS[i % len(NOISE_KINDS)] for i in range(num_noisy)] + ["clean"] * (num_clips - num_noisy)
    planted = _planted(num_clips, faults)
    noise_places, fault_places = rng.permutation(num_clips), rng.permutation(num_clips)
    others = rng.integers(1, max(2, num_clips), size=num_clips)
    first = seed * SEED_STRIDE
    return [
        _Clip(
            path=corpus / f"clip-{index:05d}.mp4",
            seed=first + index,
            other_seed=first + (index + int(others[index])) % num_clips,
            fault=planted[fault_places[index]],
            noise=noise[noise_places[index]],
            damage="",
        )
        for index in range(num_clips)
    ]


def _damaged(clips: list[_Clip], seed: int, count: int) -> list[_Clip]:
    """The clips with ``count`` of those without a fault damaged; which ones, other random numbers decide."""
    rng = np.random.default_rng([seed, 15487469])
    whole = [index for index, clip in enumerate(clips) if not clip.fault]
    kinds = {
        whole[place]: DAMAGES[i % len(DAMAGES)] for i, place in enumerate(rng.permutation(len(whole))[:count].tolist())
    }
    return [replace(clip, damage=kinds.get(index, "")) for index, clip in enumerate(clips)]


def _planted(num_clips: int, faults: Mapping[str, float]) -> list[str]:
    """A fault for each clip, empty for none: whole numbers whose sums are rounded, so that all have room."""
    names, share, end = [""] * num_clips, 0.0, 0
    for fault in FAULTS:
        share += faults.get(fault, 0.0)
        start, end = end, min(num_clips, round(share * num_clips))
        names[start:end] = [fault] * (end - start)
    return names


def _write_oracle(folder: Path, clips: list[_Clip]) -> None:
    """Writes the oracle before the clips, so that a folder says what it holds also when writing was stopped."""
    oracle = pl.DataFrame([_row(clip, clip.timeline()) for clip in clips], schema_overrides={"offset_s": pl.Float64})
    if any(clip.damage for clip in clips):
        oracle = oracle.with_columns(pl.DataFrame([_damage_row(clip) for clip in clips], schema=_DAMAGE_COLUMNS))
    place = folder / "oracle.parquet"
    if place.exists():
        if not _is(place, oracle):
            raise UserError(f"{folder}: holds another corpus. Name an empty folder, or the arguments that made it.")
        return
    if any((folder / "corpus").glob("clip-*")):
        raise UserError(f"{folder}/corpus: holds clips without an oracle. Name an empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(place) as part:
        oracle.write_parquet(part)


def _is(place: Path, oracle: pl.DataFrame) -> bool:
    try:
        return pl.read_parquet(place).equals(oracle)
    except (pl.exceptions.PolarsError, OSError):
        return False


def _row(clip: _Clip, timeline: Timeline) -> dict[str, Any]:
    truth = true_facts(timeline)
    return {
        "file": clip.path.name,
        "text": caption(timeline),
        "slots": sorted(truth),
        "matched": timeline.matched,
        "offset_s": timeline.offset_s,
        "source": timeline.source,
        "fault": timeline.fault,
        "theme": timeline.theme,
        "seen_text": seen_text(timeline),
        "heard_text": heard_text(timeline),
        "seen_facts": sorted(fact.removeprefix("seen.") for fact in truth if fact.startswith("seen.")),
        "heard_facts": sorted(fact.removeprefix("heard.") for fact in truth if fact.startswith("heard.")),
        "things": [_described(thing, ("kind", "name", "size", "colour", "side")) for thing in timeline.things],
        "sounds": [_described(event, ("kind", "pitch")) for event in timeline.sounds],
        "transcript_noise": clip.noise,
    }


def _damage_row(clip: _Clip) -> dict[str, Any]:
    """What was done to a clip's sound, and what mends it: the action, its parameter if it has one, and the value."""
    _, done = clip.heard()
    if done is None:
        return {"damage": "", "action": "", "parameter": "", "value": None}
    name, value = next(iter(done.parameters.items()), ("", None))
    return {"damage": done.kind, "action": done.action, "parameter": name, "value": value}


def _described(item: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names} | {"times_s": list(item.times_s), "hold_s": item.hold_s}


def _write_clip(clip: _Clip) -> None:
    if clip.path.exists():
        return
    rng = np.random.default_rng([clip.seed, 49979687])
    text = noisy_transcript(clip.as_filmed(), sample(clip.other_seed, CORPUS), clip.noise, rng)
    clip.path.with_suffix(".txt").write_text(text + "\n" if text else "", encoding="utf-8")
    temporary = clip.path.with_suffix(".part")
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    fps = _RATES[int(rng.integers(len(_RATES)))]
    encode(clip.timeline(), temporary, width=width, height=height, fps=fps, heard=clip.heard()[0])
    temporary.replace(clip.path)


def encode(
    timeline: Timeline,
    path: Path,
    *,
    width: int,
    height: int,
    fps: int,
    heard: NDArray[np.float32] | None = None,
) -> None:
    """Writes a timeline as H.264 and AAC in MP4, ``DURATION_S`` long; sizes in pixels.

    ``heard`` are samples at ``SAMPLE_RATE`` that are played in place of the timeline's own.
    """
    times_s = [i / fps for i in range(round(DURATION_S * fps))]
    write_video(
        path,
        frames(timeline, times_s, width, height),
        size=(width, height),
        fps=fps,
        quality=_QUALITY,
        sound=(sound(timeline) if heard is None else heard, SAMPLE_RATE) if timeline.has_track else None,
    )
