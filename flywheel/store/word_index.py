"""Which shards can hold words: each shard's words with the rows that hold them, in small files of the cache.

A search reads only shards that have a row with all of its words, so a word that stands nowhere costs no reading at all.
Words are found within words, as a look through the texts finds them; what this says "no" to, holds nothing. The files
are made when shards are written or first searched, and lie in ``cache/words``, safe to delete at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import struct
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.core.errors import BorderError
from flywheel.store.reading import RecordReader
from flywheel.store.shards import SHARD_ROWS, Shard, groups, sync_folder

#: Kind -> what is searched of its rows.
SEARCHED: dict[str, pl.Expr] = {
    "annotations": pl.col("text"),
    "clips": pl.concat_str("uri", pl.lit(" "), "transcript", pl.lit(" "), "sounds", ignore_nulls=True),
}
#: Columns of :data:`SEARCHED`.
_COLUMNS = {"annotations": ["text"], "clips": ["uri", "transcript", "sounds"]}
#: Fewer rows are looked through as fast as an index is opened.
_FEW = 4096
#: A piece that stands within more words than this tells too little to be looked up.
_MANY = 256
#: No UTF-8 has this byte: it ends each word in a file.
_END = b"\xff"
#: Changes with what a file holds: those of other versions are made anew.
_HEAD = struct.Struct("<8s3Q")
_MAGIC = b"words 1\n"
#: What parts words, in texts and in what is searched for: no piece of a search has any of it.
_APART = re.compile(r"[\s/]+")
#: Signs of scripts that are written without blanks: each is a word of its own, or a caption would be one.
_ALONE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


class WordIndex:
    """The words of a workspace's clips and texts, a file for some thousand rows each."""

    def __init__(self, records: RecordReader) -> None:
        self._records = records
        self._folder = records.root / "cache" / "words"

    def can_hold(self, kind: str, group: Sequence[Shard], words: Iterable[str]) -> bool:
        """Whether a row of these shards, one of :func:`word_groups`, may hold all words (in small letters).

        True where it can't be told: of few rows, or where no file can be written.
        """
        pieces = {piece for word in words for piece in pieces_of(word)}
        if not pieces or sum(shard.num_rows for shard in group) < _FEW:
            return True
        file = self._file(kind, group)
        if not file.exists() and not self._made(kind, group, file):
            return True
        try:
            with file.open("rb") as opened:
                # Not closed here: arrays point into it.
                content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            return _can_hold(content, pieces)
        except (OSError, ValueError, struct.error):
            # Damaged: it is made anew by the next who asks.
            with contextlib.suppress(OSError):
                file.unlink()
            return True

    def complete(self) -> int:
        """Make the files that are missing, and remove those of shards that are gone; returns how many were made."""
        made, wanted = 0, set[str]()
        for kind in SEARCHED:
            for group in word_groups(self._records.shards(kind)):
                if sum(shard.num_rows for shard in group) >= _FEW:
                    file = self._file(kind, group)
                    wanted.add(file.name)
                    # Who reads a damaged shard is told so.
                    with contextlib.suppress(BorderError):
                        made += not file.exists() and self._made(kind, group, file)
        self._keep(wanted)
        return made

    def forget_gone(self) -> None:
        """Remove the files of shards that are gone: words of what was taken down may stand in them."""
        self._keep({self._file(k, group).name for k in SEARCHED for group in word_groups(self._records.shards(k))})

    def _keep(self, names: set[str]) -> None:
        with contextlib.suppress(OSError), os.scandir(self._folder) as files:
            for file in files:
                if file.name not in names:
                    with contextlib.suppress(OSError):
                        os.unlink(file.path)

    def _file(self, kind: str, group: Sequence[Shard]) -> Path:
        digest = hashlib.sha256("\n".join(shard.name for shard in group).encode()).hexdigest()[:32]
        return self._folder / f"{kind}-{digest}.words"

    def _made(self, kind: str, group: Sequence[Shard], file: Path) -> bool:
        """Write the file of a group; False where that can't be, which costs speed and nothing else."""
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            # Opened first: where nothing can be written, nothing is read for it.
            with open(temporary, "wb") as out:
                rows = self._records.of_shards(kind, group, _COLUMNS[kind])
                out.write(_content(rows.select(text=SEARCHED[kind])["text"]))
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, file)
            sync_folder(file.parent)
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True


def word_groups(shards: Sequence[Shard]) -> Iterable[list[Shard]]:
    """The shards in their order, as their words are kept: large ones alone, so that a new one changes no other's."""
    small: list[Shard] = []
    for shard in shards:
        if shard.num_rows <= SHARD_ROWS // 2:
            small.append(shard)
            continue
        yield from groups(small, SHARD_ROWS)
        small = []
        yield [shard]
    yield from groups(small, SHARD_ROWS)


def pieces_of(word: str) -> list[str]:
    """What must stand within words of a text that holds ``word``, which is in small letters."""
    return _APART.sub(" ", _ALONE.sub(r" \g<0> ", word)).split()


def _content(texts: pl.Series) -> bytes:
    """A file's content: the words, where each ends, and of each the rows that hold it."""
    small = texts.fill_null("").str.to_lowercase().str.replace_all("/", " ", literal=True)
    if small.str.contains(_ALONE.pattern).any():
        small = small.str.replace_all(_ALONE.pattern, " ${0} ")
    # Other blanks than this one stay within words, and no piece has any. Sorting the words would take longer than all.
    every = pl.DataFrame({"word": small.str.split(" ")}).with_row_index("row").explode("word")
    words = every.filter(pl.col("word") != "").group_by("word").agg(pl.col("row"))
    blob = b"".join(word.encode() + _END for word in words["word"])
    ends = np.cumsum(words["word"].str.len_bytes().to_numpy().astype(np.uint32) + 1, dtype=np.uint32)
    of_word = np.repeat(np.arange(words.height), words["row"].list.len().to_numpy())
    rows = words["row"].explode().to_numpy()
    # A word that stands twice in a text counts once.
    is_new = np.diff(rows, prepend=-1).astype(bool) | np.diff(of_word, prepend=-1).astype(bool)
    stops = np.cumsum(np.bincount(of_word[is_new], minlength=words.height), dtype=np.uint32)
    rows = rows[is_new].astype(_row_type(len(texts)))
    head = _HEAD.pack(_MAGIC, len(texts), len(words), len(blob))
    return b"".join([head, ends.tobytes(), stops.tobytes(), rows.tobytes(), blob])


def _can_hold(content: mmap.mmap, pieces: set[str]) -> bool:
    """Whether one row holds all pieces. Raises ValueError for a file that is none."""
    file = _Opened(content)
    together: NDArray[np.bool_] | None = None
    # The longest is the rarest as a rule, and one that stands nowhere ends it.
    for piece in sorted(pieces, key=len, reverse=True):
        words = file.words_with(piece.encode())
        if not words:
            return False
        if len(words) > _MANY:
            continue
        found = file.rows_of(words)
        together = found if together is None else together & found
        if not together.any():
            return False
    return True


class _Opened:
    """A file of words that is mapped: where each ends, where its rows end, the rows, the words."""

    def __init__(self, content: mmap.mmap) -> None:
        magic, self._num_rows, num_words, num_bytes = _HEAD.unpack_from(content)
        rows_at = _HEAD.size + 8 * num_words
        self._ends = np.frombuffer(content, np.uint32, num_words, _HEAD.size)
        self._stops = np.frombuffer(content, np.uint32, num_words, _HEAD.size + 4 * num_words)
        kind = np.dtype(_row_type(self._num_rows))
        num_entries = int(self._stops[-1]) if num_words else 0
        self._words_at = rows_at + kind.itemsize * num_entries
        if magic != _MAGIC or len(content) != self._words_at + num_bytes:
            raise ValueError("no file of words, or not all of it")
        self._rows = np.frombuffer(content, kind, num_entries, rows_at)
        self._content = content

    def words_with(self, piece: bytes) -> list[int]:
        """Numbers of the words that hold a piece; one more than :data:`_MANY` at most."""
        found: list[int] = []
        at = self._content.find(piece, self._words_at)
        while at >= 0 and len(found) <= _MANY:
            found.append(int(np.searchsorted(self._ends, at - self._words_at, side="right")))
            at = self._content.find(piece, self._words_at + int(self._ends[found[-1]]))
        return found

    def rows_of(self, words: Sequence[int]) -> NDArray[np.bool_]:
        """Which rows hold one of these words, (rows,)."""
        held = np.zeros(self._num_rows, dtype=np.bool_)
        for word in words:
            held[self._rows[self._stops[word - 1] if word else 0 : self._stops[word]]] = True
        return held


def _row_type(num_rows: int) -> type[np.uint16] | type[np.uint32]:
    """The type of a row's number."""
    return np.uint16 if num_rows <= 1 << 16 else np.uint32
