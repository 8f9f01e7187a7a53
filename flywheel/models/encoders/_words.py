"""Texts as numbers of words, without a vocabulary to fit: a word's number is its hash."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

#: Numbers that are no word: nothing, a hidden word, the text's beginning.
PAD, HIDDEN, BEGIN = 0, 1, 2
FIRST_WORD = 3
_WORD = re.compile(r"\w+")


def hashed_words(texts: Sequence[str], length: int, vocabulary: int) -> Tensor:
    """Ids ``(B, length)`` int64: BEGIN, then a number below ``vocabulary`` for each word, then PAD.

    Case, accents' form and punctuation don't count. Words beyond the length are left out.
    """
    ids = torch.full((len(texts), length), PAD, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        row[0] = BEGIN
        for place, word in enumerate(words_of(text, length - 1), start=1):
            row[place] = FIRST_WORD + zlib.crc32(word.encode()) % (vocabulary - FIRST_WORD)
    return ids


def words_of(text: str, most: int) -> list[str]:
    """The first words of a text, in small letters."""
    found: list[str] = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).lower()):
        if len(found) == most:
            break
        found.append(match.group())
    return found
