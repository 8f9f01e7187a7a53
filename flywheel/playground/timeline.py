"""Long videos of the audio-visual world: shot after shot, of each of which it is known what is seen and what is heard.

No sound in such a video is that of a thing that is seen in it, so that neither tells of the other. Four things and
four sounds come in each block of four shots, in orders that are drawn apart: which sound goes with which thing can't
be known from one of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import progress
from flywheel.core.types import MAX_SEED
from flywheel.media.encode import Quality, write_video
from flywheel.playground.av import CORPUS, DURATION_S, SAMPLE_RATE, Timeline, frames, sound
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.av.timeline import Look
from flywheel.playground.av.worlds import draw

#: Shots of a block, and so the things and the sounds of a video.
PER_BLOCK = 4
#: Fewest and most blocks: a thing is seen again in the second; an hour has so many.
FEWEST_BLOCKS, MOST_BLOCKS = 2, 280
_FPS = 10
_SIZE = (128, 64)
_QUALITY = Quality(crf=20, preset="ultrafast", threads=1)
_WORKERS = 2
#: Factors of the backdrop's brightness.
_LIGHT = (0.55, 1.45)
_SALT, _STRIDE = 49_999, 20_000
#: The file beside the videos that says what is in them.
ORACLE = "timelines.parquet"


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A part of a video in which one thing acts (``seen``, a kind) and one sound comes (``heard``, a kind)."""

    start_s: float
    end_s: float
    seen: str
    heard: str


@dataclass(frozen=True, kw_only=True)
class LongVideo:
    """A video of blocks of four shots without gaps. ``twin`` names the video with the same picture and other sounds."""

    name: str
    seed: int
    shots: tuple[Shot, ...]
    twin: str = ""

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.shots[-1].end_s


def long_video(seed: int, index: int, num_blocks: int = FEWEST_BLOCKS) -> LongVideo:
    """The video of a seed and its number: four things and four sounds, in a new order in each block."""
    rng = np.random.default_rng([seed, index, _SALT])
    kinds = [str(kind) for kind in rng.permutation(list(KINDS))]
    things, sounds = kinds[:PER_BLOCK], kinds[PER_BLOCK : 2 * PER_BLOCK]
    seen = [str(kind) for _ in range(num_blocks) for kind in rng.permutation(things)]
    heard = [str(kind) for _ in range(num_blocks) for kind in rng.permutation(sounds)]
    shots = tuple(
        Shot(start_s=round(n * DURATION_S, 3), end_s=round((n + 1) * DURATION_S, 3), seen=one, heard=other)
        for n, (one, other) in enumerate(zip(seen, heard, strict=True))
    )
    name = f"timeline-{index:05d}"
    return LongVideo(name=name, seed=seed * _STRIDE + index, shots=shots, twin=f"{name}-twin")


def twin_of(video: LongVideo) -> LongVideo:
    """The same picture with each block's sounds moved on by one shot: every sound goes with another thing."""
    shots = []
    for start in range(0, len(video.shots), PER_BLOCK):
        block = video.shots[start : start + PER_BLOCK]
        shots += [replace(shot, heard=block[n - 1].heard) for n, shot in enumerate(block)]
    return replace(video, name=video.twin, twin=video.name, shots=tuple(shots))


def write_timelines(
    folder: Path, *, seed: int, num_videos: int, num_blocks: int | Sequence[int] = FEWEST_BLOCKS
) -> list[LongVideo]:
    """Writes ``folder/videos/timeline-00000.mp4`` with its twin, and ``folder/timelines.parquet``; returns the videos.

    Of several numbers of blocks videos have one after the other, so that there are as many of each length.
    The table's columns are ``name, twin, seed, shots``. The same arguments give the same videos; those that are there
    already are kept. Raises UserError for values out of range, and where the folder holds other videos.
    """
    if not 1 <= num_videos <= _STRIDE:
        raise UserError(f"--num-clips {num_videos}: need between 1 and {_STRIDE}.")
    blocks = (num_blocks,) if isinstance(num_blocks, int) else tuple(num_blocks)
    for count in blocks:
        if not FEWEST_BLOCKS <= count <= MOST_BLOCKS:
            raise UserError(f"--blocks {count}: need between {FEWEST_BLOCKS} and {MOST_BLOCKS}.")
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"--seed {seed}: need between 0 and {MAX_SEED}.")
    own = [long_video(seed, index, blocks[index % len(blocks)]) for index in range(num_videos)]
    videos = list(chain.from_iterable((video, twin_of(video)) for video in own))
    # The truth is written first: a folder says what it holds also where rendering was stopped.
    _write_truth(folder / ORACLE, videos)
    (folder / "videos").mkdir(exist_ok=True)
    places = [folder / "videos" / f"{video.name}.mp4" for video in videos]
    with progress("timelines", len(videos)) as bar, ProcessPoolExecutor(_WORKERS) as pool:
        for _ in pool.map(render, videos, places):
            bar.advance()
    return videos


def read_timelines(folder: Path) -> list[LongVideo]:
    """The videos of a folder as its table says. Raises UserError where there is none."""
    place = folder / ORACLE
    try:
        rows = pl.read_parquet(place).to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{place}: can't be read. Render the folder with 'flywheel playground --world timeline'."
        ) from error
    return [LongVideo(**{**row, "shots": tuple(Shot(**shot) for shot in row["shots"])}) for row in rows]


def render(video: LongVideo, place: Path) -> None:
    """Writes a video as H.264 and AAC in MP4, shot by shot; one that is there is kept."""
    if place.exists():
        return
    scenes = [_scene(video.seed, number, shot) for number, shot in enumerate(video.shots)]
    samples = np.concatenate([sound(scene) for scene in scenes])
    temporary = place.with_suffix(".part")
    write_video(temporary, _pictures(scenes), size=_SIZE, fps=_FPS, quality=_QUALITY, sound=(samples, SAMPLE_RATE))
    temporary.replace(place)


def _pictures(scenes: list[Timeline]) -> Iterator[NDArray[np.uint8]]:
    times_s = [n / _FPS for n in range(round(DURATION_S * _FPS))]
    for scene in scenes:
        yield from frames(scene, times_s, *_SIZE)


def _scene(seed: int, number: int, shot: Shot) -> Timeline:
    """A shot as a clip: one thing of a kind that acts, and another kind's sound."""
    pictures, sounds = (np.random.default_rng([seed, number, salt]) for salt in (1, 2))
    while True:
        seen = draw(pictures, CORPUS, seed)
        if [thing.kind for thing in seen.things] == [shot.seen]:
            break
    while True:
        heard = draw(sounds, CORPUS, seed)
        if [event.kind for event in heard.sounds] == [shot.heard]:
            return replace(seen, sounds=heard.sounds, fault="mismatch", look=_lit(seen.look, number))


def _lit(look: Look, number: int) -> Look:
    """The backdrop dim and bright by turns: a cut is one that is seen, also between two shots of one theme."""
    wall, floor = (np.clip(np.array(rgb) * _LIGHT[number % 2], 0, 255).astype(int) for rgb in (look.wall, look.floor))
    return replace(
        look, wall=(int(wall[0]), int(wall[1]), int(wall[2])), floor=(int(floor[0]), int(floor[1]), int(floor[2]))
    )


def _write_truth(place: Path, videos: list[LongVideo]) -> None:
    rows = [{"name": v.name, "twin": v.twin, "seed": v.seed, "shots": [vars(shot) for shot in v.shots]} for v in videos]
    truth = pl.DataFrame(rows)
    if place.exists():
        if read_timelines(place.parent) != videos:
            raise UserError(f"{place.parent}: holds other videos. Name an empty folder, or the arguments that made it.")
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(place) as part:
        truth.write_parquet(part)
