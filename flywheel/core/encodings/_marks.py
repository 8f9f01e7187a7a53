"""What a text's bytes say of its encoding without a guess, and encodings' names."""

from __future__ import annotations

import codecs
import re

#: So much of a text tells its encoding.
SAMPLE_BYTES = 1 << 16
#: Marks at the beginning of a text; UTF-32's begins as UTF-16's does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: Names as people know them.
_NAMES = {
    "mac_roman": "Mac Roman",
    "cp932": "Shift-JIS",
    "cp949": "EUC-KR",
    "koi8_r": "KOI8-R",
    "euc_jp": "EUC-JP",
    "iso8859_2": "ISO 8859-2",
    "big5": "Big5",
    "gb18030": "GB18030",
}


def marked_encoding(content: bytes) -> tuple[str, int]:
    """(encoding, bytes of the mark) of a text that begins with one; ("", 0) of one that does not."""
    return next(((name, len(mark)) for mark, name in _MARKS if content.startswith(mark)), ("", 0))


def utf_encoding(sample: bytes) -> str:
    """UTF-16 without a mark by the zeros in every other byte; else "utf-8", which still has to be seen."""
    pairs = len(sample) // 2
    # Digits, blanks and line ends of any file of texts have a zero in them; nothing else has.
    first, second = sample[: pairs * 2 : 2].count(0), sample[1 : pairs * 2 : 2].count(0)
    if second > pairs * 0.2 and first * 20 < second:
        return "utf-16-le"
    return "utf-16-be" if first > pairs * 0.2 and second * 20 < first else "utf-8"


def name_of(encoding: str) -> str:
    """An encoding's name as people know it."""
    return _NAMES.get(encoding, encoding.replace("cp12", "Windows-12"))


def without_bad(content: bytes) -> tuple[str, int]:
    """The text as UTF-8 without the bytes that are none, and how many those are."""
    parts = re.split("[\udc80-\udcff]", content.decode("utf-8", errors="surrogateescape"))
    return "".join(parts), len(parts) - 1
