"""Which encoding a text has that is no UTF-8: told by its language's letters and words, or not at all.

Statistics of bytes need pages. Subtitles and tables have lines, and a wrong guess is a corpus of wrong letters. So a
reading counts where its words are written as words are (no capital inside), in the letters of a language whose
commonest words are there; two readings that differ and count alike are none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from flywheel.core.encodings import _languages as languages
from flywheel.core.encodings._languages import Language

_WORD = re.compile(r"[^\W\d_]{1,60}")
_PUNCTUATION = frozenset("\u00a0«»„“”‘’‚‹›–—…¿¡°£€§ªº·©®™•½¼¾²³´¨×÷±¢¥†′″¶№~^`¸\u00ad")
#: Signs that are letters in another encoding, as they then stand in words. Catalan has a dot between two l.
_WITHIN_WORD = re.compile(
    r"[^\W\d_][¿¡³²¹¼¾º°£¥§¸–—“”„•…†®©™¶±÷×´¨¢ª]+[^\W\d_]|[^\W\d_][„‚¿¡]|(?<![lL])·[^\W\d_]|[^\W\d_]·(?![lL])"
)
#: By encoding the languages that were written in it.
_BY_LANGUAGE: tuple[tuple[str, Mapping[str, Language]], ...] = (
    ("cp1252", languages.WESTERN),
    ("mac_roman", languages.WESTERN),
    ("cp1250", languages.CENTRAL),
    ("iso8859_2", languages.CENTRAL),
    ("cp1254", languages.TURKISH),
    ("cp1253", languages.GREEK),
    ("cp1257", languages.BALTIC),
)
_BETWEEN_LETTERS = re.compile(r"[a-z][^\x00-\x7f]{1,2}[a-z]")
_CYRILLIC = ("cp1251", "koi8_r")


def guessed_encoding(sample: bytes) -> str:
    """The encoding of a text that is no UTF-8, in Python's name; empty where it can't be told."""
    for tell in (_east_asian, _cyrillic, _alphabetic):
        if encoding := tell(sample):
            return encoding
    return ""


def _read(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _alphabetic(sample: bytes) -> str:
    """Of languages with letters and capitals, whose words are between ASCII ones."""
    scores: list[tuple[int, str, str]] = []
    for encoding, spoken in _BY_LANGUAGE:
        text = _read(sample, encoding)
        if text is None or not _is_well_written(text):
            continue
        counts = Counter(word.lower() for word in _WORD.findall(text))
        foreign = {c for word in counts for c in word if c > "\x7f"}
        for language in spoken.values():
            if foreign <= language.letters:
                hits = _hits(counts, language)
                # Beyond ASCII there are quotation marks and dashes alone.
                hits += not foreign
                scores.append((hits, encoding, text))
    return _best(scores)


def _hits(counts: Mapping[str, int], language: Language) -> int:
    """How often a language's commonest words are there, twice for those beyond ASCII.

    Words of one letter count beside others alone: alone they are whatever a byte stands for.
    """
    found = [word for word in language.words if word in counts]
    if not any(len(word) > 1 for word in found):
        return 0
    return sum(counts[word] * (1 if word.isascii() else 2) for word in found)


def _best(scores: Iterable[tuple[int, str, str]]) -> str:
    """The encoding with most hits; none where another text has as many, but for the Mac's of long ago."""
    ranked = sorted((score for score in scores if score[0]), key=lambda score: -score[0])
    best = [score for score in ranked if score[0] == ranked[0][0]]
    if len({text for _, _, text in best}) > 1:
        best = [score for score in best if score[1] != "mac_roman"]
    return best[0][1] if len({text for _, _, text in best}) == 1 else ""


def _is_well_written(text: str) -> bool:
    """Whether there are words in it, without capitals inside, and beside them signs that stand in texts."""
    return not _has_odd_signs(text) and all(_is_well_cased(word) for word in _WORD.findall(text) if not word.isascii())


def _has_odd_signs(text: str) -> bool:
    """Whether there are signs beyond ASCII that stand in no text, or where letters stand."""
    signs = {c for c in set(text) if c > "\x7f" and not c.isalpha()}
    return bool(signs - _PUNCTUATION) or _WITHIN_WORD.search(text) is not None


def _is_well_cased(word: str) -> bool:
    return word.islower() or word.isupper() or word[1:].islower()


def _cyrillic(sample: bytes) -> str:
    shares: dict[str, float] = {}
    for encoding in _CYRILLIC:
        text = _read(sample, encoding)
        words = [word for word in _WORD.findall(text or "") if not word.isascii()]
        letters = "".join(words)
        if len(letters) < max(4, 2 * len(words)) or not all(_is_well_cased(word) for word in words):
            continue
        # Capitals of one encoding are small letters of the other.
        if _has_odd_signs(text or "") or sum(map(str.islower, letters)) < 0.5 * len(letters):
            continue
        if sum("\u0400" <= c <= "\u045f" for c in letters) < 0.95 * len(letters):
            continue
        if sum(c in languages.CYRILLIC_VOWELS for c in letters.lower()) < 0.3 * len(letters):
            continue
        shares[encoding] = sum(c in languages.CYRILLIC_COMMON for c in letters.lower()) / len(letters)
    ranked = sorted(shares, key=lambda encoding: -shares[encoding])
    if not ranked or shares[ranked[0]] < 0.5 or (len(ranked) > 1 and shares[ranked[1]] > shares[ranked[0]] - 0.1):
        return ""
    return ranked[0]


def _east_asian(sample: bytes) -> str:
    """Of Japanese by its syllables, of Korean and Chinese by their commonest signs."""
    tests: tuple[tuple[str, Callable[[str], float]], ...] = (
        ("cp932", _kana),
        ("euc_jp", _kana),
        ("cp949", _korean),
        ("gb18030", lambda signs: _share(signs, languages.SIMPLIFIED)),
        ("big5", lambda signs: _share(signs, languages.TRADITIONAL)),
    )
    shares: dict[str, float] = {}
    for encoding, share in tests:
        text = _read(sample, encoding) or ""
        signs = "".join(c for c in text if c > "\x7f")
        # Between ASCII letters they are letters themselves.
        if len(signs) >= 3 and all(_is_east_asian(c) for c in signs) and not _BETWEEN_LETTERS.search(text):
            shares[encoding] = share(signs)
    ranked = sorted(shares, key=lambda encoding: -shares[encoding])
    if not ranked or shares[ranked[0]] < 0.15 or (len(ranked) > 1 and shares[ranked[1]] * 2 > shares[ranked[0]]):
        return ""
    return ranked[0]


def _is_east_asian(sign: str) -> bool:
    return (
        "\u2010" <= sign <= "\u203b"
        or "\u3000" <= sign <= "\u30ff"
        or "\u4e00" <= sign <= "\u9fff"
        or "\uac00" <= sign <= "\ud7a3"
        or "\uff01" <= sign <= "\uff5e"
        or sign in "\u00b7\u2266\u2267\u2500\u2501\u266a\u25a0\u25cb\u00d7\u2015\u2225\u22ef\u2500"
    )


def _kana(signs: str) -> float:
    return sum("\u3041" <= c <= "\u30ff" for c in signs) / len(signs)


def _korean(signs: str) -> float:
    syllables = [c for c in signs if "\uac00" <= c <= "\ud7a3"]
    # Chinese, read as Korean, is half syllables and half signs.
    return _share(signs, languages.KOREAN) if len(syllables) >= 0.75 * len(signs) else 0.0


def _share(signs: str, common: frozenset[str]) -> float:
    return sum(c in common for c in signs) / len(signs)
