"""Texts of files as people have them: UTF-8 and UTF-16 with and without marks, and what editors wrote before.

UTF is told by its bytes. Anything else is a guess, which is made where only one reading gives words of a language in
its letters (:mod:`flywheel.core.encodings._guess`), and is said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flywheel.core.encodings._guess import guessed_encoding
from flywheel.core.encodings._marks import SAMPLE_BYTES, marked_encoding, name_of, utf_encoding, without_bad
from flywheel.core.encodings._streams import is_whole, open_text

__all__ = ["Decoded", "decoded", "is_whole", "open_text"]

#: Bad bytes are left out of a text where there are no more than one in so many.
_FEW = 500


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A text without its mark; ``note`` says what was guessed or left out to read it; else it is empty."""

    text: str
    note: str = ""


def decoded(content: bytes) -> Decoded:
    """The text of a file's bytes. Raises ValueError with what to do where its encoding can't be told."""
    encoding, length = marked_encoding(content)
    if (not encoding and (encoding := utf_encoding(content[:SAMPLE_BYTES])) == "utf-8") or encoding == "utf-8":
        return _of_bytes(content[length:])
    width = 4 if encoding.startswith("utf-32") else 2
    # Half a character at the end is a copy that broke off.
    body = content[length : length + (len(content) - length) // width * width]
    try:
        return Decoded(text=body.decode(encoding))
    except UnicodeDecodeError as error:
        raise ValueError(f"is {encoding.upper()}, and broken at byte {length + error.start}") from None


def _of_bytes(content: bytes) -> Decoded:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(content)
    if "\x1b$" in text and (japanese := _strictly(content, "iso2022_jp")) is not None:
        return Decoded(text=japanese, note="read as ISO-2022-JP")
    return Decoded(text=text)


def _guessed(content: bytes) -> Decoded:
    """The text of bytes that are no UTF-8."""
    nearly, num_bad = without_bad(content)
    num_good = sum(1 for c in nearly if c > "\x7f")
    if num_good < 4 * num_bad:
        encoding = guessed_encoding(_sample(content))
        text = _strictly(content, encoding) if encoding else None
        if text is not None:
            return Decoded(text=text, note=f"read as {name_of(encoding)}, as it is no UTF-8")
    if num_bad * _FEW <= len(content) or num_good >= 4 * num_bad:
        return Decoded(text=nearly, note="is UTF-8 with bad bytes, which were left out")
    raise ValueError("is no UTF-8, and its encoding can't be told; save it as UTF-8")


def _sample(content: bytes) -> bytes:
    """Lines with bytes that are no ASCII, as many as tell an encoding."""
    found: list[bytes] = []
    num_bytes = 0
    for line in re.split(rb"[\r\n]+", content):
        if not line.isascii():
            found.append(line[:SAMPLE_BYTES])
            num_bytes += len(line)
            if num_bytes > SAMPLE_BYTES:
                break
    return b"\n".join(found)


def _strictly(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None
