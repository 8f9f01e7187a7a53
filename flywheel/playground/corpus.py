"""Writes the playground: MP4 files with side-car transcripts, and apart from them the oracle with the true texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.progress import progress
from flywheel.core.types import MAX_SEED
from flywheel.media.encode import Quality, write_video
from flywheel.playground import noise, scenes
from flywheel.playground.drawn import SIZES

_RATES = (10, 12, 15)
_QUALITY = Quality(crf=20, preset="ultrafast", threads=1)
_WORKERS = 2
#: Scenes of a corpus have seeds of their own range.
SEED_STRIDE = 20_000
#: The bundled model's training uses scenes from fifty million on, so corpora from this seed on lie far above them.
_FIRST_ABOVE, _ABOVE = 2000, 10**12

#: How a scene is put into words, by name.
GRAMMARS: Mapping[str, Callable[[scenes.Scene], str]] = {
    "corpus": scenes.Scene.caption,
    "paraphrase": scenes.Scene.paraphrase,
}


def _said(scene: scenes.Scene) -> str:
    """What a transcript says of a scene, in another wording than the oracle's."""
    return scene.paraphrase(1)


@dataclass(frozen=True, kw_only=True)
class _Task:
    path: Path
    scene_seed: int
    other_seed: int
    kind: str
    index: int
    grammar: str


def write_playground(folder: Path, *, seed: int, num_clips: int, noise_rate: float, grammar: str = "corpus") -> None:
    """Writes ``folder/corpus/clip-00000.mp4`` with ``.txt`` beside it, and ``folder/oracle.parquet``.

    The oracle's columns are ``file, text, slots``. The same arguments give the same corpus; clips that are there
    already are kept. With grammar ``paraphrase`` texts have many wordings for the same facts, the oracle's and the
    transcripts' drawn apart; videos are the same. Raises UserError for values out of range.
    """
    check_arguments(seed=seed, num_clips=num_clips, noise_rate=noise_rate)
    if grammar not in GRAMMARS:
        raise UserError(f"--grammar {grammar}: need {' or '.join(GRAMMARS)}.")
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 611953])
    # Exactly the asked share is noisy, the five kinds in turn, in an order drawn by the seed.
    num_noisy = round(noise_rate * num_clips)
    kinds = [noise.KINDS[i % len(noise.KINDS)] for i in range(num_noisy)] + ["clean"] * (num_clips - num_noisy)
    first = seed * SEED_STRIDE + (_ABOVE if seed >= _FIRST_ABOVE else 0)
    tasks = [
        _Task(
            path=corpus / f"clip-{index:05d}.mp4",
            scene_seed=first + index,
            other_seed=first + (index + int(rng.integers(1, max(2, num_clips)))) % num_clips,
            kind=str(kinds[place]),
            index=index,
            grammar=grammar,
        )
        for index, place in enumerate(rng.permutation(num_clips))
    ]
    with progress("playground", num_clips) as bar, ProcessPoolExecutor(_WORKERS) as pool:
        for _ in pool.map(_write_clip, tasks, chunksize=16):
            bar.advance()
    truth = [scenes.sample_scene(first + index) for index in range(num_clips)]
    oracle = pl.DataFrame(
        {
            "file": [task.path.name for task in tasks],
            "text": [GRAMMARS[grammar](scene) for scene in truth],
            "slots": [sorted(scene.slots()) for scene in truth],
        }
    )
    with written_whole(folder / "oracle.parquet") as place:
        oracle.write_parquet(place)


def check_arguments(*, seed: int, num_clips: int, noise_rate: float) -> None:
    """Raises UserError for values out of range."""
    if not 0 <= noise_rate <= 1:
        raise UserError(f"--noise {noise_rate}: need a share between 0 and 1.")
    if not 1 <= num_clips <= SEED_STRIDE:
        raise UserError(f"--num-clips {num_clips}: need between 1 and {SEED_STRIDE}.")
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"--seed {seed}: need between 0 and {MAX_SEED}.")


def _write_clip(task: _Task) -> None:
    if task.path.exists():
        return
    scene = scenes.sample_scene(task.scene_seed)
    other = scenes.sample_scene(task.other_seed)
    rng = np.random.default_rng([task.scene_seed, 32452843])
    text_of = _said if task.grammar == "paraphrase" else GRAMMARS[task.grammar]
    transcript = noise.noisy_transcript(scene, other, task.kind, rng, text_of=text_of)
    task.path.with_suffix(".txt").write_text(transcript + "\n" if transcript else "", encoding="utf-8")
    temporary = task.path.with_suffix(".part")
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    encode(scene, temporary, width=width, height=height, fps=_RATES[int(rng.integers(len(_RATES)))])
    temporary.replace(task.path)


def encode(scene: scenes.Scene, path: Path, *, width: int, height: int, fps: int) -> None:
    """Writes a scene as H.264 and AAC in MP4, ``scenes.DURATION_S`` long; sizes in pixels."""
    count = round(scenes.DURATION_S * fps)
    write_video(
        path,
        scenes.draw(scene, [i / fps for i in range(count)], width=width, height=height),
        size=(width, height),
        fps=fps,
        quality=_QUALITY,
        sound=(scenes.sound(scene), scenes.SAMPLE_RATE),
    )
