"""Long texts as streams: their encoding told before they are read, in memory that does not grow with them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

from flywheel.core.encodings._guess import guessed_encoding
from flywheel.core.encodings._marks import SAMPLE_BYTES, marked_encoding, name_of, utf_encoding, without_bad

_MOST_LINE = 1 << 24


def open_text(stream: IO[bytes], *, newline: str | None = None) -> tuple[io.TextIOWrapper, str]:
    """(text of a stream that can be sought in, what was guessed to read it or an empty text).

    ``newline`` as for :func:`open`. Bad bytes become lone surrogates, so that they cost their line and not the text.
    """
    stream.seek(0)
    head = stream.read(SAMPLE_BYTES)
    encoding, length = marked_encoding(head)
    note = ""
    if not encoding and (encoding := utf_encoding(head)) == "utf-8":
        stream.seek(0)
        if guessed := _guessed(iter(lambda: stream.readline(_MOST_LINE), b"")):
            encoding, note = guessed, f"read as {name_of(guessed)}, as it is no UTF-8"
    stream.seek(length)
    # Half of UTF-16's characters are lone surrogates themselves.
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline=newline), note


def is_whole(line: str) -> bool:
    """Whether a line holds no byte that could not be read."""
    return line.isascii() or not any("\udc80" <= c <= "\udcff" for c in line)


def _guessed(lines: Iterator[bytes]) -> str:
    """The encoding of a text by its first lines that are no UTF-8.

    Empty where all of it is UTF-8, where most that is beyond ASCII is, and where it can't be told.
    """
    found: list[bytes] = []
    num_bytes = num_good = num_bad = 0
    for line in lines:
        if line.isascii():
            continue
        nearly, bad = without_bad(line)
        num_good, num_bad = num_good + sum(1 for c in nearly if c > "\x7f"), num_bad + bad
        if bad:
            found.append(line[:SAMPLE_BYTES])
            num_bytes += len(line)
            if num_bytes > SAMPLE_BYTES:
                break
    return "" if num_good >= 4 * num_bad else guessed_encoding(b"\n".join(found))
