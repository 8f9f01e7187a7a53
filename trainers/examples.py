"""Training examples in a file: rows of text are read when they are asked for, a few bytes of each stay in memory.

A list of a million examples takes a gigabyte; :class:`ExampleTable` takes their numbers alone.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Int, UInt

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError
from flywheel.core.types import Example

#: Rows of a record batch, and of what is tokenized together.
_BATCH_ROWS = 4096
#: Rows that are read before the pages they came from are given back. Each reads some fourteen places of the file, and
#: each place maps 64 KiB around it.
_READS_PER_RELEASE = 32


@dataclass(frozen=True, kw_only=True)
class ExampleColumns:
    """What a sampler needs of N examples.

    ``clip_N`` numbers clips from 0: equal numbers, same clip. ``share_N`` is how often an epoch shows the row, beside
    the clip's others. ``groups`` are the names of groups that occur, sorted.
    """

    clip_N: Int[np.ndarray, " N"]
    share_N: Float[np.ndarray, " N"]
    groups: tuple[str, ...]

    @property
    def num_clips(self) -> int:
        """The number of different clips."""
        return int(self.clip_N.max()) + 1 if len(self.clip_N) else 0


class ExampleTable(Sequence[Example]):
    """Examples in an Arrow file, mapped into memory; 12 bytes of each row are held.

    Any row can be read at any time: ``table[row]`` is equal to the example that was written.
    """

    def __init__(self, file: Path) -> None:
        """Open what :meth:`write` wrote. Raises OSError where the file can't be read."""
        import pyarrow as pa

        with file.open("rb") as opened:
            self._mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(self._mapped))
        self._batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        self._count: int = sum(batch.num_rows for batch in self._batches)
        self._reads = 0
        self.file = file
        self.columns = self._scanned()

    @classmethod
    def write(cls, file: Path, examples: Iterable[Example]) -> ExampleTable:
        """Write examples, as they come, to ``file`` (whole or not at all), and open it.

        Raises OSError where the disk is full.
        """
        import pyarrow as pa

        schema = pa.schema(
            {
                "clip_id": pa.string(),
                "text": pa.string(),
                # Pairs in their order, a hint that is None among them: the order decides which of them is held back.
                "prompt_texts": pa.map_(pa.string(), pa.string()),
                "weight": pa.float64(),
                "share": pa.float64(),
                "group": pa.string(),
                "annotation_id": pa.string(),
                "question": pa.string(),
                "earlier": pa.map_(pa.string(), pa.string()),
            }
        )
        temporary = file.with_name(file.name + ".tmp")
        rows = iter(examples)
        with pa.OSFile(str(temporary), "wb") as out, pa.ipc.new_file(out, schema) as writer:
            while chunk := list(islice(rows, _BATCH_ROWS)):
                columns = {name: [getattr(example, name) for example in chunk] for name in schema.names}
                columns["prompt_texts"] = [list(texts.items()) for texts in columns["prompt_texts"]]
                columns["earlier"] = [list(turns) for turns in columns["earlier"]]
                writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=schema))
        os.replace(temporary, file)
        pa.default_memory_pool().release_unused()
        return cls(file)

    def __len__(self) -> int:
        return int(self._count)

    @overload
    def __getitem__(self, row: int) -> Example: ...
    @overload
    def __getitem__(self, row: slice) -> list[Example]: ...
    def __getitem__(self, row: int | slice) -> Example | list[Example]:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(self._count))]
        if not -self._count <= row < self._count:
            raise IndexError(f"{self.file}: has {self._count} rows, not a row {row}")
        # All batches but the last have as many rows.
        batch, place = divmod(row % self._count, _BATCH_ROWS)
        values = {name: column[place].as_py() for name, column in self._named(batch)}
        self._reads += 1
        if self._reads % _READS_PER_RELEASE == 0:
            self._release()
        return _example(values)

    def __iter__(self) -> Iterator[Example]:
        # A batch at a time: each row by itself takes ten times as long.
        for batch in self._batches:
            for values in batch.to_pylist():
                yield _example(values)
            self._release()

    def text_batches(self) -> Iterator[list[str]]:
        """All texts in the order of the rows, some thousand at a time."""
        for batch in self._batches:
            yield batch.column("text").to_pylist()
            self._release()

    def clips_and_groups(self) -> Iterator[tuple[str, str]]:
        """The clip and the group of each row, in their order."""
        for batch in self._batches:
            yield from zip(batch.column("clip_id").to_pylist(), batch.column("group").to_pylist(), strict=True)
            self._release()

    def _named(self, batch: int) -> Iterable[tuple[str, Any]]:
        table = self._batches[batch]
        return zip(table.schema.names, table.columns, strict=True)

    def _scanned(self) -> ExampleColumns:
        """The columns that are held, read batch by batch."""
        hashes, shares, groups = array("Q"), [np.zeros(0)], set[str]()
        for batch in self._batches:
            hashes.extend(map(_hash, batch.column("clip_id").to_pylist()))
            shares.append(batch.column("share").to_numpy(zero_copy_only=False).copy())
            groups.update(batch.column("group").unique().to_pylist())
            self._release()
        # Of ten million clips two share a hash of 64 bits with a chance of 3 in a million; an epoch would show one of
        # them.
        return ExampleColumns(
            clip_N=_numbered(np.frombuffer(hashes, dtype=np.uint64)),
            share_N=np.concatenate(shares),
            groups=tuple(sorted(groups)),
        )

    def _release(self) -> None:
        """Give the file's pages back: read again they come from the system's cache."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)


def _example(values: dict[str, Any]) -> Example:
    turns = tuple((question, answer) for question, answer in values["earlier"])
    return Example(**{**values, "prompt_texts": dict(values["prompt_texts"]), "earlier": turns})


def _numbered(hash_N: UInt[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The place of each hash among the different ones, (N,), as ``np.unique`` gives it in twice the memory."""
    order = np.argsort(hash_N).astype(np.int32)
    is_new = np.ones(len(order), dtype=np.bool_)
    np.not_equal(hash_N[order][1:], hash_N[order][:-1], out=is_new[1:])
    numbers = np.empty(len(order), dtype=np.int32)
    numbers[order] = np.cumsum(is_new, dtype=np.int32) - 1
    return numbers


def columns_of(examples: Sequence[Example]) -> ExampleColumns:
    """The columns of any examples: a table has them, of others they are gathered."""
    if isinstance(examples, ExampleTable):
        return examples.columns
    codes: dict[str, int] = {}
    clips = [codes.setdefault(example.clip_id, len(codes)) for example in examples]
    return ExampleColumns(
        clip_N=np.array(clips, dtype=np.int32),
        share_N=np.array([example.share for example in examples], dtype=np.float64),
        groups=tuple(sorted({example.group for example in examples})),
    )


def clips_and_groups(examples: Sequence[Example]) -> Iterator[tuple[str, str]]:
    """The clip and the group of each example, in their order; of a table nothing else is read."""
    if isinstance(examples, ExampleTable):
        yield from examples.clips_and_groups()
        return
    yield from ((example.clip_id, example.group) for example in examples)


def digest_of(examples: Iterable[Example]) -> str:
    """A hash of examples in their order, of all that is in them."""
    whole = hashlib.blake2b(digest_size=16)
    for example in examples:
        whole.update(json.dumps(asdict(example)).encode() + b"\n")
    return whole.hexdigest()


def text_lengths(examples: Sequence[Example], tokenizer: Any) -> Int[np.ndarray, " N"]:
    """The number of tokens of each example's text, (N,), without special tokens; tokenized in batches."""
    lengths = array("i")
    for texts in _text_batches(examples):
        lengths.extend(_lengths(texts, tokenizer))
    return np.array(lengths, dtype=np.int32)


def _lengths(texts: list[str], tokenizer: Any) -> list[int]:
    """The numbers of tokens; 0 of a text that can't be read, which its batch leaves out."""
    try:
        with one_item():
            ids = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            return list(map(len, ids))
    except MediaError:
        return [0] if len(texts) == 1 else [length for text in texts for length in _lengths([text], tokenizer)]


def _text_batches(examples: Sequence[Example]) -> Iterator[list[str]]:
    if isinstance(examples, ExampleTable):
        yield from examples.text_batches()
        return
    for start in range(0, len(examples), _BATCH_ROWS):
        yield [example.text for example in examples[start : start + _BATCH_ROWS]]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
