"""Quantity, diversity and quality of millions of annotations: one pass over Parquet, eight bytes of memory for each.

The figures are those of :mod:`flywheel.metrics.trinity`, with two differences that make one pass enough. Segments
follow the order of the annotations' ids within each chunk of rows (ids are hashes, so that is a random order).
Intervals are the normal's (there are thousands of segments).

Which rows make a chunk depends on the files:
:func:`in_order_of_ids` writes files whose chunks depend on the rows alone.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, UInt
from numpy.typing import NDArray

from flywheel.core.types import Estimate

CHUNK = 1 << 17
_WORD = r"[^\W_]+"


@dataclass
class _Mean:
    """Mean and variance as values come (Welford 1962, in batches as Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Float[np.ndarray, " N"]) -> None:
        if not len(values):
            return
        n, mean = len(values), float(values.mean())
        total, delta = self.count + n, mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.count = total

    def estimate(self) -> Estimate:
        if not self.count:
            return Estimate(value=math.nan, low=math.nan, high=math.nan, n=0)
        error = 1.96 * math.sqrt(self.squares / (self.count - 1) / self.count) if self.count > 1 else 0.0
        return Estimate(value=self.mean, low=self.mean - error, high=self.mean + error, n=self.count)


@dataclass(frozen=True, kw_only=True)
class CorpusFigures:
    """The figures of a corpus.

    ``quantity`` holds annotations, hours and tokens. ``diversity`` holds distinct-1, distinct-3, vocabulary per
    segment, and the share of different texts. ``quality`` holds the mean of the score column, where one was named.
    """

    quantity: dict[str, float]
    diversity: dict[str, Estimate]
    quality: dict[str, Estimate]


def corpus_figures(
    files: Sequence[Path],
    *,
    segment_tokens: int = 2000,
    seconds: str | None = None,
    score: str | None = None,
    chunk: int = CHUNK,
    where: Mapping[str, str] | None = None,
) -> CorpusFigures:
    """Figures of all rows of these Parquet files.

    The files have columns ``id`` (a hash) and ``text``; ``seconds`` and ``score`` name further ones. ``where``
    (column -> value) leaves out the other rows; a file without such a column has the value everywhere.

    Raises ValueError for a segment of fewer than three tokens.
    """
    if segment_tokens < 3:
        raise ValueError(f"corpus_figures: a segment needs at least 3 tokens, got {segment_tokens}")
    distinct_1, distinct_3, vocabulary, quality = _Mean(), _Mean(), _Mean(), _Mean()
    texts: list[NDArray[np.uint64]] = []
    rest = np.zeros(0, dtype=np.uint64)
    count, tokens, hours = 0, 0, 0.0
    wanted = dict(where or {})
    for frame in _chunks(files, [c for c in ("id", "text", seconds, score, *wanted) if c], chunk):
        for name in wanted.keys() & set(frame.columns):
            frame = frame.filter(pl.col(name) == wanted[name])
        frame = frame.sort("id")
        count += frame.height
        texts.append(frame["text"].hash(0).to_numpy())
        if seconds:
            hours += float(frame[seconds].sum()) / 3600
        if score:
            quality.add(frame[score].drop_nulls().to_numpy().astype(np.float64))
        words = frame.select(
            pl.col("text").str.to_lowercase().str.extract_all(_WORD).explode(empty_as_null=False)
        ).to_series()
        codes = words.hash(1).to_numpy()
        tokens += len(codes)
        stream = np.concatenate([rest, codes])
        whole = len(stream) // segment_tokens
        segments = stream[: whole * segment_tokens].reshape(whole, segment_tokens)
        rest = stream[whole * segment_tokens :]
        ones = _different(segments)
        distinct_1.add(ones / segment_tokens)
        vocabulary.add(ones)
        distinct_3.add(_different(_triples(segments)) / (segment_tokens - 2))
    if not distinct_1.count and len(rest):
        ones = _different(rest[None])
        distinct_1.add(ones / len(rest))
        vocabulary.add(ones)
        if len(rest) > 2:
            distinct_3.add(_different(_triples(rest[None])) / (len(rest) - 2))
    different = len(np.unique(np.concatenate(texts))) / count if count else math.nan
    # The share's own error: of a text drawn at random, whether it is new.
    error = 1.96 * math.sqrt(different * (1 - different) / count) if count else math.nan
    return CorpusFigures(
        quantity={"annotations": float(count), "hours": hours, "tokens": float(tokens)},
        diversity={
            "distinct_1": distinct_1.estimate(),
            "distinct_3": distinct_3.estimate(),
            "vocabulary": vocabulary.estimate(),
            "unique": Estimate(value=different, low=different - error, high=different + error, n=count),
        },
        quality={score: quality.estimate()} if score else {},
    )


def in_order_of_ids(frames: Iterable[pl.DataFrame], count: int, folder: Path, *, rows: int = CHUNK) -> list[Path]:
    """Write frames with an ``id`` as files that are the same for the same rows, however these were spread before.

    ``count`` is the number of rows in all; each file holds about ``rows`` of them, in the order of their ids.
    """
    num_parts = max(1, math.ceil(count / rows))
    parts = [folder / f"part-{number:05d}" for number in range(num_parts)]
    for place, frame in enumerate(frames):
        part_of = frame.with_columns(part=pl.col("id").hash(11) % num_parts)
        for (number,), some in part_of.partition_by("part", as_dict=True, include_key=False).items():
            parts[int(number)].mkdir(parents=True, exist_ok=True)
            some.write_parquet(parts[int(number)] / f"{place:06d}.parquet")
    files = []
    for part in parts:
        if part.exists():
            pl.read_parquet(sorted(part.iterdir()), glob=False).sort("id").write_parquet(part.with_suffix(".parquet"))
            files.append(part.with_suffix(".parquet"))
            shutil.rmtree(part)
    return files


def _chunks(files: Sequence[Path], columns: list[str], size: int) -> Iterator[pl.DataFrame]:
    import pyarrow.parquet as pq

    for file in files:
        with pq.ParquetFile(file) as parquet:
            present = [column for column in columns if column in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(batch_size=size, columns=present):
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)
                yield frame


def _triples(segments: UInt[np.ndarray, "S T"]) -> UInt[np.ndarray, "S T-2"]:
    """A number for each three words in a row; equal ones for equal words, different ones but for a chance of 2^-64."""
    with np.errstate(over="ignore"):
        a, b, c = segments[:, :-2], segments[:, 1:-1], segments[:, 2:]
        mixed: NDArray[np.uint64] = (a * np.uint64(0x9E3779B97F4A7C15) ^ b) * np.uint64(0xBF58476D1CE4E5B9) ^ c
        return mixed * np.uint64(0x94D049BB133111EB)


def _different(rows: UInt[np.ndarray, "S T"]) -> Float[np.ndarray, " S"]:
    """How many different values each row has."""
    if not rows.size:
        return np.zeros(len(rows))
    ordered = np.sort(rows, axis=1)
    counts: NDArray[np.float64] = 1.0 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
    return counts
