"""Mutations of real inputs: the same seed and inputs give the same bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence

#: What ends, opens or means something to somebody who reads.
_TOKENS = (
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\r\n", b"\n\n", b"\t", b"\x1b[2J"),
    *(b"\xe2\x80\xa8", b"\xe2\x80\xae", b"<|im_end|>", b"<|video_pad|>", b"<image>", b"-->", b"00:00:01.000", b"NOTE"),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"'",
        b",",
        b";",
        b":",
        b"&#x110000;",
        b"\\ud83d",
        b"null",
        b"NaN",
        b"1e999",
        b"-1",
    ),
    *(b"9" * 400, b"[" * 2000, b"<" * 500, b"=cmd()", b"```json", b"<think>", b"../../../etc/passwd", b"%s%n{0}"),
)
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """The content with one to six changes; ``others`` are spliced in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        _CHANGES[rng.randrange(len(_CHANGES))](data, others, rng)
    return bytes(data)


def _at(data: bytearray, rng: random.Random) -> int:
    # Heads hold most of what is read: half of all changes are there.
    end = min(len(data), 512) if rng.random() < 0.5 else len(data)
    return rng.randrange(end + 1)


def _flip(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 32))):
        if data:
            data[min(_at(data, rng), len(data) - 1)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    size, at = rng.choice((1, 2, 4, 8)), _at(data, rng)
    value = rng.choice(_EXTREMES) & (256**size - 1)
    data[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))


def _cut(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    del data[_at(data, rng) :]


def _drop(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _at(data, rng)
    del data[at : at + rng.choice((1, 8, 200, 5000))]


def _repeat(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _at(data, rng)
    data[at:at] = data[at : at + rng.choice((1, 20, 400))] * rng.choice((1, 2, 50))


def _token(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    at = _at(data, rng)
    data[at:at] = rng.choice(_TOKENS)


def _splice(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others) if others else b""
    at, start = _at(data, rng), rng.randrange(len(other) + 1)
    data[at:at] = other[start : start + rng.choice((10, 300, 20_000))]


def _lines(data: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    data[:] = b"\n".join(lines)


_CHANGES = (_flip, _flip, _number, _cut, _drop, _repeat, _token, _token, _splice, _lines)
