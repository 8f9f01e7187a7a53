"""What a kind of text is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.core.types import Cue

#: The structure of a text: what is kept as JSON in an annotation's ``payload``. Empty for plain text.
Payload = Mapping[str, Any]
#: Cleans one text that a person typed. Raises ValueError for one that can't be kept.
Clean = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A form that texts have.

    ``schema_key``  The property that a prompt's JSON schema must require; empty where replies are plain text.
    ``read``        ``(value, duration_s) -> (payload, words)``: reads a reply. ``value`` is the reply's text where
                    ``schema_key`` is empty, else its parsed JSON. ``duration_s`` is the clip's length in seconds.
                    Raises BrokenReply for a value of another form, Unusable for one without words.
    ``words``       ``payload -> text``: all words of a payload; what measures of texts work on.
    ``check``       ``(payload, duration_s, clean) -> payload``: a person's edit as it is kept, each text cleaned.
                    Raises ValueError for one that does not fit. None where an edit is a text.
    ``editable``    The review page can edit it.
    ``cues``        ``payload -> cues``, seconds from the clip's start. None where texts have no times.
    ``turns``       ``payload -> turns``: questions with their answers, in order, as a model can learn to answer them.
                    None where a text answers no question of its own.
    ``hint``        ``payload -> text``: as another prompt shows it, with its times. None where it is the words.
    ``inputs``      The media (``frames``, ``sound``) that texts of this kind are made from, and nothing else; empty
                    where they are made from texts. None where the prompt says.
    ``hints``       The hints that a prompt of this kind shows, all of them. None where the prompt says.
    """

    name: str
    read: Callable[[Any, float], tuple[Payload, str]]
    schema_key: str = ""
    words: Callable[[Payload], str] = lambda _: ""
    check: Callable[[Any, float, Clean], Payload] | None = None
    editable: bool = False
    cues: Callable[[Payload], tuple[Cue, ...]] | None = None
    turns: Callable[[Payload], tuple[tuple[str, str], ...]] | None = None
    hint: Callable[[Payload], str] | None = None
    inputs: tuple[str, ...] | None = None
    hints: tuple[str, ...] | None = None
