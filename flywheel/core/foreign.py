"""What holds for text that comes from outside: which characters nobody can see, and JSON that is read within bounds.

One rule for all places: people's words with such characters are refused, a transcript's and a model's are left out, and
where text reaches a terminal they are written as escapes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

#: Joiners and marks of scripts that need them: Persian and Indic words, emoji, Hebrew and Arabic beside digits.
_NEEDED = frozenset("\u200c\u200d\u200e\u200f\u061c")
#: Letters and marks without a form, and the block of tags, of which only a part is assigned.
_FORMLESS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]")
#: Control, format, surrogate and private characters, and separators of lines and paragraphs.
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def is_hidden(character: str) -> bool:
    """Whether a character is one that nobody can see, or that turns what stands around it."""
    if character in _NEEDED:
        return False
    return unicodedata.category(character) in _HIDDEN or _FORMLESS.match(character) is not None


def one_line(text: str, most: int) -> str:
    """The text in one line, cut after so many characters."""
    words = " ".join(text.split())
    return words if len(words) <= most else f"{words[:most]}…"


def hidden_character(text: str) -> str:
    """The first hidden character of a text, white space apart; empty where there is none."""
    if _is_plain(text):
        return ""
    hidden = {c for c in set(text) if is_hidden(c) and not c.isspace()}
    return next((c for c in text if c in hidden), "")


def without_hidden(text: str) -> str:
    """The text without its hidden characters; white space stays."""
    if _is_plain(text):
        return text
    gone = {ord(c): None for c in set(text) if is_hidden(c) and not c.isspace()}
    return text.translate(gone)


def escaped(text: str, keep: str = "") -> str:
    """The text with hidden characters as escapes such as ``\\x1b``, for terminals; those in ``keep`` stay."""
    if _is_plain(text):
        return text
    escapes = {ord(c): _escape(c) for c in set(text) - set(keep) if is_hidden(c)}
    return text.translate(escapes)


def as_lines(lines: Iterable[str]) -> str:
    """The lines as one text for a terminal; what is hidden within one, a line break too, is escaped."""
    return "\n".join(escaped(line) for line in lines)


def _is_plain(text: str) -> bool:
    # Nearly all text is, and looking up each character's category is slow.
    return text.isprintable() and _FORMLESS.search(text) is None


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def parsed_json(text: str | bytes) -> Any:
    """The value of a JSON text, which is UTF-8 where it comes as bytes.

    Raises ValueError with the reason in a few words, also where it is nested too deeply or a number has too many
    digits.
    """
    try:
        # Bytes are UTF-8; json itself would guess at others.
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not valid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None
