"""Answers on record: one line each in a file that is only added to, so that nothing is asked twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from flywheel.core.foreign import parsed_json
from flywheel.store.locking import hold_folder

_FILE = "answers.jsonl"
#: What lies in memory longer may be lost with the power, not with the process.
_SYNC_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to an item: its ``text``, or the log-probs (nats) of its options as replies.

    ``key`` hashes all that decided it: video, question, options, what was shown, model, sampling.
    """

    key: str
    item: str
    text: str = ""
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    logprobs: tuple[float, ...] = ()


class Record:
    """The answers in a folder."""

    def __init__(self, folder: Path, stream: IO[bytes]) -> None:
        self._stream = stream
        self._synced_at = time.monotonic()
        self.known = {answer.key: answer for answer in _read(folder / _FILE)}

    def add(self, answer: Answer) -> None:
        """Put an answer on record; a process that is killed after this has it."""
        line = json.dumps(asdict(answer), ensure_ascii=False).encode("utf-8", "replace")
        self._stream.write(line + b"\n")
        self._stream.flush()
        self.known[answer.key] = answer
        if time.monotonic() - self._synced_at > _SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """Have all that is written lie on the disk."""
        os.fsync(self._stream.fileno())
        self._synced_at = time.monotonic()


@contextmanager
def open_record(folder: Path) -> Iterator[Record]:
    """The record of a folder, held for one process. Raises UserError while another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with hold_folder(folder), open(folder / _FILE, "ab+") as stream:
        if stream.tell() and not _ends_whole(stream):
            # The last line broke off; what follows begins its own.
            stream.write(b"\n")
            stream.flush()
        record = Record(folder, stream)
        yield record
        record.sync()


def _ends_whole(stream: IO[bytes]) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _read(file: Path) -> Iterator[Answer]:
    with open(file, "rb") as lines:
        for line in lines:
            try:
                value = parsed_json(line)
                yield Answer(**{**value, "logprobs": tuple(value.get("logprobs", ()))})
            except (ValueError, TypeError, AttributeError):
                # A line that broke off was no answer yet: it is asked again.
                continue
