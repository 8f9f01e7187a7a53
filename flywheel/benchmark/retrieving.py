"""How well an encoder finds what a benchmark's texts describe, and the texts of what is seen or heard."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.benchmark.described import Descriptions
from flywheel.benchmark.retrieval import Described
from flywheel.benchmark.videos import ENDINGS
from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.progress import progress
from flywheel.core.types import Estimate
from flywheel.media.audio import read_audio
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from flywheel.metrics.retrieval import retrieval_estimates
from flywheel.models.encoder_spans import READ_SIDE, sound_span, times_of
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Embedder, Modality

#: How names of sounds end, in small letters.
SOUND_ENDINGS = frozenset((".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"))
#: Texts that are encoded at a time.
_TOGETHER = 256
_KS = (1, 5, 10, 50)


@dataclass(frozen=True, kw_only=True)
class Direction:
    """What was asked by and among what: figures of ``queries`` queries among ``items`` items."""

    queries: int
    items: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """What came of a benchmark: ``text → video`` and the like -> figures, raw, with nothing ranked again.

    ``clips`` could be read, of ``described`` ones; ``reasons`` counts why others could not, texts among them.
    """

    title: str
    encoder: str
    described: int
    clips: int
    texts: int
    reasons: Mapping[str, int]
    directions: Mapping[str, Direction]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.title} by encoder '{self.encoder}': {self.clips} of {self.described} clips"]
        for name, found in self.directions.items():
            parts = [
                f"R@{k} {100 * found.figures[f'recall@{k}'].value:.1f} "
                f"[{100 * found.figures[f'recall@{k}'].low:.1f}, {100 * found.figures[f'recall@{k}'].high:.1f}]"
                for k in _KS
            ]
            median, ndcg = found.figures["median_rank"].value, found.figures["ndcg@10"].value
            n = f"{found.queries} queries among {found.items}"
            lines.append(f"{name}: {', '.join(parts)}, median rank {median:g}, nDCG@10 {ndcg:.3f} ({n}, raw)")
        lines += [f"left out: {count} × {reason}" for reason, count in self.reasons.items()]
        return "\n".join(lines)


class MediaFiles:
    """Videos and sounds in a folder, found by name."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where there is no such folder."""
        if not folder.is_dir():
            raise UserError(f"--videos {folder}: there is no such folder.")
        self._by_stem = defaultdict[str, list[Path]](list)
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in ENDINGS | SOUND_ENDINGS and path.is_file():
                self._by_stem[path.stem].append(path)

    def file(self, names: Sequence[str]) -> Path:
        """The file that has the first of these names that any has; of one video and sounds the video.

        Raises MediaError for none, and for several.
        """
        for name in names:
            if found := self._by_stem.get(name):
                # A video's sound may lie beside it, which is the same as the one in it.
                videos = [path for path in found if path.suffix.lower() in ENDINGS]
                if len(found) > 1 and len(videos) != 1:
                    raise MediaError("several files have its name")
                return (videos or found)[0]
        raise MediaError("its file is not there")


def retrieve(
    descriptions: Descriptions, files: MediaFiles, encoder: Embedder, *, limit: int | None = None
) -> Retrieved:
    """Ask for all clips by all texts and the other way; at most ``limit`` clips. What can't be read is left out.

    Raises UserError for an encoder that knows no texts, for a limit below two, and where fewer clips can be read.
    """
    if limit is not None and limit < 2:
        raise UserError(f"--limit {limit}: a clip is found among others. Take 2 or more.")
    if TEXT not in encoder.modalities:
        raise UserError(f"encoder '{encoder.built_from[0]}' knows no texts: nothing can be asked. Name another one.")
    by_key: dict[str, list[Described]] = {}
    for one in descriptions.described:
        by_key.setdefault(one.key, []).append(one)
    keys = list(by_key)[:limit]
    reasons = Counter(rejected.reason for rejected in descriptions.rejected)
    vectors, told = dict[str, dict[Modality, NDArray[np.float32]]](), Counter[str]()
    with progress("retrieval", len(keys)) as bar:
        for key in keys:
            try:
                with one_item():
                    vectors[key] = _vectors(encoder, files.file(by_key[key][0].names), by_key[key][0].span_s)
            except MediaError as error:
                told[str(error)] += 1
            bar.advance(1)
    texts = [one for key in vectors for one in by_key[key]]
    if len(vectors) < 2:
        why = f" ({told.most_common(1)[0][0]})" if told else ""
        raise UserError(f"--videos: {len(vectors)} of {len(keys)} clips could be read{why}. Name their folder.")
    words = {name: _text_vectors(encoder, [one.text for one in texts], name) for name in (VIDEO, SOUND)}
    return Retrieved(
        title=descriptions.title,
        encoder=encoder.built_from[0],
        described=len(keys),
        clips=len(vectors),
        texts=len(texts),
        reasons=dict((reasons + told).most_common()),
        directions=_directions(vectors, [one.key for one in texts], words),
    )


def _vectors(encoder: Embedder, file: Path, span_s: tuple[float, float] | None) -> dict[Modality, NDArray[np.float32]]:
    """The vectors of what a file has. Raises MediaError where it can't be read."""
    info = probe(file)
    start_s, end_s = span_s or (0.0, info.duration_s)
    end_s = min(end_s, info.duration_s)
    if start_s >= end_s:
        raise MediaError("ends before what is described")
    found: dict[Modality, NDArray[np.float32]] = {}
    if VIDEO in encoder.modalities and file.suffix.lower() in ENDINGS:
        times_s = times_of(encoder, start_s, end_s)
        frames = read_frames(file, times_s, max_side=READ_SIDE * encoder.frame_size)
        found[VIDEO] = encoder.embed_video(frames[None]).numpy()[0]
    if SOUND in encoder.modalities and info.has_audio:
        samples = read_audio(file, *sound_span(start_s, end_s), rate_hz=encoder.rate_hz)
        found[SOUND] = encoder.embed_audio(samples[None]).numpy()[0]
    if not found:
        raise MediaError("has nothing that the encoder knows")
    return found


def _text_vectors(encoder: Embedder, texts: Sequence[str], against: Modality) -> NDArray[np.float32]:
    parts = [
        encoder.embed_text(texts[start : start + _TOGETHER], against).numpy()
        for start in range(0, len(texts), _TOGETHER)
    ]
    vectors: NDArray[np.float32] = np.concatenate(parts)
    return vectors


def _directions(
    vectors: Mapping[str, Mapping[Modality, NDArray[np.float32]]],
    of: Sequence[str],
    words: Mapping[Modality, NDArray[np.float32]],
) -> dict[str, Direction]:
    """Figures both ways of each modality that two clips or more have."""
    directions: dict[str, Direction] = {}
    for modality in (VIDEO, SOUND):
        keys = [key for key, found in vectors.items() if modality in found]
        if len(keys) < 2:
            continue
        column = {key: place for place, key in enumerate(keys)}
        rows = [row for row, key in enumerate(of) if key in column]
        target = np.array([column[of[row]] for row in rows])
        similarity = words[modality][rows] @ np.stack([vectors[key][modality] for key in keys]).T
        directions[f"text → {modality}"] = _direction(similarity, target)
        directions[f"{modality} → text"] = _direction(*best_of_several(similarity.T, target))
    return directions


def _direction(similarity: NDArray[np.float32], target: NDArray[np.int64]) -> Direction:
    figures = retrieval_estimates(similarity, target, ks=_KS)
    return Direction(queries=similarity.shape[0], items=similarity.shape[1], figures=figures)


def best_of_several(
    similarity_QN: NDArray[np.float32], query_of_N: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Similarities and targets where several items are right of a query: the most similar of them counts.

    ``query_of_N`` says of which query an item is right; each has one. The others that are right are out of the way.
    """
    similarity, queries = similarity_QN.copy(), np.arange(len(similarity_QN))
    is_right = query_of_N[None] == queries[:, None]
    target = np.where(is_right, similarity, -np.inf).argmax(1)
    is_right[queries, target] = False
    similarity[is_right] = -np.inf
    return similarity, target
