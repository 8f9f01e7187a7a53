"""Corrections of a text by what is seen and heard: ``{"edits": [{"quote", "instead", "reason"}]}``.

``quote`` is copied from the text, ``instead`` stands in its place and is empty where the words go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flywheel.kinds._kind import Clean, Payload
from flywheel.kinds._lists import list_kind

#: The words of a check that changes nothing.
_NOTHING = "No edits."


def _edits(value: Mapping[str, Any], clean: Clean) -> Payload:
    return {
        "edits": [
            {
                "quote": clean(edit["quote"]),
                "instead": clean(edit["instead"]) if edit["instead"].strip() else "",
                "reason": clean(edit["reason"]),
            }
            for edit in value["edits"]
        ]
    }


def _words(payload: Payload) -> str:
    return "; ".join(f"{e['quote']} -> {e['instead'] or 'nothing'}" for e in payload["edits"]) or _NOTHING


KIND = list_kind("consistency", of="edits", cleaned=_edits, words=_words, hints=("seen", "heard", "text"))
