"""The streaming figures against plain Python, whatever the chunks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flywheel.metrics.scale import corpus_figures
from flywheel.metrics.text import distinct, words


def rows(count: int) -> pl.DataFrame:
    rng = np.random.default_rng(count)
    parts = ["Größe", "naïve", "don't", "two_words", "a-b", "42", "日本語", "Straße", "x", "Y"]
    texts = [" ".join(parts[i] for i in rng.integers(0, len(parts), rng.integers(0, 9))) for _ in range(count)]
    ids = [f"{a:016x}" for a in rng.integers(0, 1 << 62, count)]
    return pl.DataFrame({"id": ids, "text": texts, "s": rng.uniform(1, 9, count), "q": rng.random(count)})


@pytest.mark.parametrize(("count", "chunk"), [(500, 64), (500, 1000), (3, 64)])
def test_equal_to_plain_python(tmp_path: Path, count: int, chunk: int) -> None:
    frame = rows(count)
    frame[: count // 2].write_parquet(tmp_path / "a.parquet")
    frame[count // 2 :].write_parquet(tmp_path / "b.parquet")
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    found = corpus_figures(files, segment_tokens=50, seconds="s", score="q", chunk=chunk)
    stream: list[str] = []
    for file in files:
        part = pl.read_parquet(file)
        for start in range(0, part.height, chunk):
            for text in part[start : start + chunk].sort("id")["text"]:
                stream.extend(words(text))
    segments = [stream[i : i + 50] for i in range(0, len(stream) - 49, 50)] or [stream]
    assert found.quantity == {
        "annotations": count,
        "hours": pytest.approx(float(frame["s"].sum()) / 3600),
        "tokens": len(stream),
    }
    for name, n in (("distinct_1", 1), ("distinct_3", 3)):
        values = [distinct(s, n) for s in segments]
        assert found.diversity[name].value == pytest.approx(np.mean(values))
        if len(values) > 1:
            error = 1.96 * np.std(values, ddof=1) / math.sqrt(len(values))
            assert found.diversity[name].high - found.diversity[name].value == pytest.approx(error)
    assert found.diversity["vocabulary"].value == pytest.approx(np.mean([len(set(s)) for s in segments]))
    assert found.diversity["unique"].value == frame["text"].n_unique() / count
    assert found.quality["q"].value == pytest.approx(float(frame["q"].to_numpy().mean()))


def test_nothing_and_nonsense(tmp_path: Path) -> None:
    rows(4)[:0].write_parquet(tmp_path / "none.parquet")
    found = corpus_figures([tmp_path / "none.parquet"])
    assert found.quantity["annotations"] == 0
    assert math.isnan(found.diversity["distinct_1"].value)
    with pytest.raises(ValueError, match="at least 3 tokens"):
        corpus_figures([], segment_tokens=2)
