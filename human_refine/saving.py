"""What a person sends to be kept, checked against the text it is about."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from flywheel.core.types import CAPTION, Clip, Cue, Verdict, content_id
from human_refine.cleaning import clean_payload, clean_text
from human_refine.items import Item


@dataclass(frozen=True, kw_only=True)
class SaveRequest:
    """What a person says of a text; an edit of a dense caption is its ``cues``.

    ``base`` is the correction that stood when the page was loaded. The page makes ``save_id`` anew for each text that
    it shows: the same words under it again are the same correction, others replace them (:class:`Tries`). With ``gold``
    (a lead's) the text checks refiners from now on.
    """

    annotation_id: str
    verdict: Verdict
    text: str = ""
    reason: str = ""
    seconds: float = 0.0
    base: str = ""
    save_id: str
    cues: Sequence[Cue] = ()
    gold: bool = False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A request as it can be kept: white space folded, an edit that changes nothing turned into an accept, an accept
    that brings another text into an edit."""

    verdict: Verdict
    text: str
    reason: str
    payload: str


class Tries:
    """Ids of what one person saved of one text under one ``save_id``, whose answers may have been lost.

    ``last_id`` is that of the last try on record, "" without any; ``next_id`` that of another.
    """

    def __init__(self, what: str, of: str, refiner: str, save_id: str, on_record: Sequence[str]) -> None:
        known, self.last_id = set(on_record), ""
        for number in range(len(known) + 1):
            self.next_id = content_id(what, of, refiner, save_id, *((number,) if number else ()))
            if self.next_id not in known:
                break
            self.last_id = self.next_id


def checked(request: SaveRequest, item: Item, clip: Clip | None, max_chars: int) -> Checked:
    """Checks a request against its text. Raises ValueError for what can't be a correction of it."""
    text, reason = clean_text(request.text, max_chars), clean_text(request.reason, max_chars)
    result = Checked(verdict=request.verdict, text=text, reason=reason, payload="")
    brings = bool(text) and text != " ".join(item.text.split())
    brings = brings or (bool(request.cues) and item.kind == "dense_caption")
    if request.verdict == "edit" or (request.verdict == "accept" and brings):
        result = _edit(request, item, clip, result, max_chars)
    if result.verdict == "reject" and not reason:
        raise ValueError("a reject needs its reason")
    if request.gold and (item.kind != CAPTION or result.verdict not in ("accept", "edit")):
        raise ValueError("gold is the right text of a caption: accept or edit it")
    return result


def _edit(request: SaveRequest, item: Item, clip: Clip | None, result: Checked, max_chars: int) -> Checked:
    text, payload = result.text, ""
    if item.kind == "dense_caption":
        if not request.cues:
            raise ValueError("an edit of timed cues needs cues; reject the text if nothing of it is right")
        raw = json.dumps({"cues": [asdict(cue) for cue in request.cues]})
        payload = clean_payload(raw, item.kind, clip.duration_s if clip is not None else math.inf, max_chars)
        text = " ".join(cue["text"] for cue in json.loads(payload)["cues"])
        changes = json.loads(payload) != json.loads(item.payload)
    elif not text:
        raise ValueError("an edit needs a text; this one is empty")
    else:
        changes = text != " ".join(item.text.split())
    if not changes:
        return Checked(verdict="accept", text="", reason=result.reason, payload="")
    return Checked(verdict="edit", text=text, reason=result.reason, payload=payload)
