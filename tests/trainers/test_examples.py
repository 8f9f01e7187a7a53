"""Examples in a file: the same rows, groups and batches as a list gives, in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_bed import data, fresh

from flywheel.core.types import Example
from trainers import ExampleTable
from trainers.data import BucketSampler, Clock, Collator
from trainers.examples import columns_of, text_lengths


def rows(count: int) -> list[Example]:
    """Clips with one to three texts, hints in another order or absent, words of many lengths and scripts."""
    rng, out = np.random.default_rng(0), []
    for index in range(count):
        hints = (
            {"transcript": f"words {index} über", "previous": None} if index % 3 else {"previous": "", "sounds": "a"}
        )
        text = " ".join(["wörter"] * int(rng.integers(1, 40))) if index % 7 else ""
        example = Example(
            clip_id=f"clip-{index // 2 if index % 5 else index:05d}",
            text=text,
            prompt_texts=hints,
            weight=float(rng.random()),
            share=float(rng.random()) + 0.01,
            group=f"model:{index % 4}:caption" if index % 9 else "human",
            annotation_id=f"a{index}",
            question="Who?" if index % 4 == 0 else "",
            earlier=(("Why?", "wörter"), ("Why?", "")) if index % 8 == 0 else (),
        )
        out.append(example)
    return out


@pytest.mark.slow
def test_every_row_comes_back_as_it_was(tmp_path: Path) -> None:
    wanted = rows(9_000)
    table = ExampleTable.write(tmp_path / "examples.arrow", iter(wanted))
    assert len(table) == 9_000
    order = np.random.default_rng(1).permutation(9_000).tolist()
    assert [table[row] for row in order] == [wanted[row] for row in order]
    assert [list(table[row].prompt_texts) for row in (0, 1)] == [list(wanted[row].prompt_texts) for row in (0, 1)]
    assert table[-1] == wanted[-1]
    assert table[4094:4099] == wanted[4094:4099]
    assert list(table) == wanted
    for row in (9_000, -9_001):
        with pytest.raises(IndexError, match="has 9000 rows"):
            table[row]
    assert ExampleTable(table.file)[17] == wanted[17]
    assert not (tmp_path / "examples.arrow.tmp").exists()
    assert len(ExampleTable.write(tmp_path / "none.arrow", [])) == 0


def test_an_interrupted_write_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    wanted = rows(10)
    table = ExampleTable.write(tmp_path / "examples.arrow", wanted)

    def broken() -> object:
        yield from rows(5_000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ExampleTable.write(table.file, broken())  # type: ignore[arg-type]
    assert list(ExampleTable(table.file)) == wanted


def test_columns_and_batches_are_those_of_the_list(tmp_path: Path) -> None:
    wanted = rows(5_000)
    table = ExampleTable.write(tmp_path / "examples.arrow", wanted)
    ours, theirs = columns_of(table), columns_of(wanted)
    assert ours.groups == theirs.groups == tuple(sorted({e.group for e in wanted}))
    assert ours.num_clips == theirs.num_clips == len({e.clip_id for e in wanted})
    np.testing.assert_array_equal(ours.share_N, theirs.share_N)
    pairs = set(zip(ours.clip_N.tolist(), theirs.clip_N.tolist(), strict=True))
    assert len(pairs) == ours.num_clips, "numbers stand for the same clips"
    lengths = np.random.default_rng(2).integers(3, 50, 5_000)
    orders = []
    for examples in (wanted, table):
        clock = Clock()
        sampler = BucketSampler(examples, lengths, 16, seed=3, clock=clock)
        orders.append([])
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders[-1].append(list(sampler))
        assert all(type(row) is int for row in orders[-1][0])
    assert orders[0] == orders[1]


def test_batches_of_tensors_and_lengths_are_those_of_the_list(tmp_path: Path) -> None:
    training_set = data(7)
    table = ExampleTable.write(tmp_path / "examples.arrow", training_set.examples)
    _, builder = fresh()
    encode = builder.tokenizer.encode
    wanted = [len(encode(e.text, add_special_tokens=False)) for e in training_set.examples]
    assert text_lengths(table, builder.tokenizer).tolist() == wanted
    assert text_lengths(training_set.examples, builder.tokenizer).tolist() == wanted
    batches = [Collator(d, builder, {"g": 0}, Clock(epoch=2))([5, 0, 3]) for d in (training_set, data(rows=table))]
    assert batches[0].keys() == batches[1].keys()
    for name, tensor in batches[0].items():
        assert (tensor == batches[1][name]).all(), name


EPOCH = """
import resource, sys
import numpy as np
from pathlib import Path
from flywheel.core.types import Example
from trainers import ExampleTable
from trainers.data import BucketSampler, Clock

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) << 10

count = int(sys.argv[2])
hints = {"transcript": "somebody says a whole sentence or two about what is to be seen " * 3, "previous": None}
rows = (
    Example(clip_id=f"{i // 2:020x}", text=f"a red cube moves to the left of the ball, {i}", prompt_texts=hints,
            share=0.5, group=f"model:{i % 3}:caption", annotation_id=f"{i:020x}")
    for i in range(count)
)
ExampleTable.write(Path(sys.argv[1]), iter([Example(clip_id="a", text="b")]))
before = resident()
table = ExampleTable.write(Path(sys.argv[1]), rows)
sampler = BucketSampler(table, np.arange(count) % 50, 16, seed=0, clock=Clock())
most, letters = 0, 0
for number, row in enumerate(sampler):
    letters += len(table[row].text)
    if number % 10_000 == 0:
        most = max(most, resident())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
print(most - before, peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures of a process")
def test_an_epoch_over_many_rows_takes_few_bytes_of_each(tmp_path: Path) -> None:
    """Written, sampled and read in a random order: what 200,000 rows more take, while it runs and at the peak."""
    bytes_of = []
    for count in (50_000, 250_000):
        done = subprocess.run(
            [sys.executable, "-c", EPOCH, str(tmp_path / "examples.arrow"), str(count)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        bytes_of.append([int(number) for number in done.stdout.split()])
    during, peak = ((more - few) / 200_000 for few, more in zip(*bytes_of, strict=True))
    assert during <= 100, bytes_of
    assert peak <= 150, bytes_of
