"""Secrets cut from what is said: passwords and keys in URLs, headers, and values that were read as keys."""

from __future__ import annotations

import re
import threading

_HIDDEN = "***"
_NAMES = (
    r"(?:api[-_]?key|key|access[-_]?token|auth[-_]?token|token|secret|client[-_]?secret|password|passwd|pwd|sig|signature"
    r"|x-amz-(?:signature|security-token|credential)|subscription-key|code)"
)
_PATTERNS = (
    # scheme://user:password@host, and https://token@host
    (re.compile(r"(://[^\s/?#@:'\"]*):[^\s/?#'\"]+(?=@)"), rf"\1:{_HIDDEN}"),
    (re.compile(r"(?i)(\bhttps?://)[^\s/?#:'\"]+(?=@)"), rf"\1{_HIDDEN}"),
    # ?key=value
    (re.compile(rf"(?i)([?&;]{_NAMES}=)[^\s&;#'\"<>)]+"), rf"\1{_HIDDEN}"),
    # Authorization: Bearer value
    (
        re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token)\s+)?)[^\s'\",}]+"),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{6,}"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?i)\b(x-api-key['\"]?\s*[:=]\s*['\"]?)[^\s'\",}]+"), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}"), _HIDDEN),
)
#: What may hold one: most texts do not, and are looked at once.
_SIGN = re.compile(r"(?i)://|[?&;]\w+=|authori|bearer|api-key|sk-|pk-|rk-|hf_|gh[pousr]_")
_known: set[str] = set()
_lock = threading.Lock()
#: Shorter ones stand in ordinary words too.
_LEAST = 4


def hide(secret: str) -> None:
    """Cut this value from all that is said from now on."""
    if len(secret) >= _LEAST:
        with _lock:
            _known.add(secret)


def without_secrets(text: str) -> str:
    """The text with ``***`` in place of each secret."""
    if _SIGN.search(text):
        for pattern, shown in _PATTERNS:
            text = pattern.sub(shown, text)
    for secret in tuple(_known):
        text = text.replace(secret, _HIDDEN)
    return text
