"""Prompts: what is put beside the frames, the same for annotation, training and serving.

A prompt is a YAML file with a name, a kind, an instruction and a line for each hint that may accompany the frames. Its
hash is part of every generation's key, so a changed prompt never passes for the old one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import jsonschema
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flywheel import kinds
from flywheel.core.config.written import as_written
from flywheel.core.errors import UserError
from flywheel.core.wording import wrong
from flywheel.core.yaml_text import decoded, parsed_with_places, place_of

Hint = Literal[
    "transcript", "sounds", "previous", "timed_transcript", "seen", "heard", "earlier", "text", "facts", "shots"
]
HINTS: Final[tuple[Hint, ...]] = (
    "transcript",
    "sounds",
    "previous",
    "timed_transcript",
    "seen",
    "heard",
    "earlier",
    "text",
    "facts",
    "shots",
)
Medium = Literal["frames", "sound"]
#: Where a hint's text stands in its line.
_PLACE: Final = re.compile(r"\{(?:text|quoted)\}")


class Evidence(BaseModel):
    """What is known of a clip beside its frames; None where there is nothing or it is held back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    transcript: str | None = None
    sounds: str | None = None
    previous: str | None = None
    #: The transcript with times in front of each cue, in seconds from the clip's start.
    timed_transcript: str | None = None
    #: What a model said of the frames alone, and of the sound alone.
    seen: str | None = None
    heard: str | None = None
    #: A text that is asked about, and a JSON list of another's facts.
    text: str | None = None
    facts: str | None = None
    #: JSON lists: the texts of the shots before a shot, and those of a video's shots.
    earlier: str | None = None
    shots: str | None = None

    def without(self, *hints: Hint) -> Evidence:
        return self.model_copy(update=dict.fromkeys(hints))


class Prompt(BaseModel):
    """A prompt file.

    ``hints`` maps a hint to its line, in which ``{text}`` stands for the hint's text, and ``{quoted}`` for it as a JSON
    string: whatever it says, its end is plain. ``json_schema`` is the form of the reply, which engines that can are
    held to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = Field(ge=1)
    kind: str
    instruction: str = Field(min_length=1)
    hints: dict[Hint, str]
    max_hint_chars: int = Field(default=2000, gt=0)
    json_schema: dict[str, Any] | None = None
    #: The parts of a reply come in the order of json_schema (a reason before its score), not in that of their names.
    in_order: bool | None = None
    #: Most tokens of a reply, where it needs others than annotate.max_new_tokens.
    max_new_tokens: int | None = Field(default=None, ge=1)
    #: What of the clip goes along: ``frames``, ``sound``, both, or an empty list for a question about text alone. Left
    #: out, it is the frames, with the sound where the configuration says so.
    inputs: tuple[Medium, ...] | None = None
    #: Role of the model that is asked (a name below ``models:``); left out, the one that rounds improve.
    model: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _as_people_write_it(cls, value: Any, field: Any) -> Any:
        return as_written(value, cls.model_fields[str(field.field_name)])

    @field_validator("kind")
    @classmethod
    def _kind_exists(cls, kind: str) -> str:
        try:
            kinds.get(kind)
        except UserError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return kind

    @model_validator(mode="after")
    def _schema_fits_kind(self) -> Prompt:
        if self.json_schema is None:
            return self
        key = kinds.get(self.kind).schema_key
        if not key:
            raise ValueError(f"json_schema: a {self.kind} is plain text; leave it out, or choose another kind")
        try:
            jsonschema.Draft202012Validator.check_schema(self.json_schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"json_schema: not a JSON schema ({error.message})") from error
        if key not in self.json_schema.get("required", ()):
            raise ValueError(f"json_schema: a {self.kind} must require '{key}'")
        return self

    @model_validator(mode="after")
    def _shows_what_its_kind_is_made_from(self) -> Prompt:
        kind = kinds.get(self.kind)
        if kind.inputs is not None and set(self.inputs if self.inputs is not None else ("",)) != set(kind.inputs):
            wanted = f"[{', '.join(kind.inputs)}]"
            raise ValueError(f"inputs: a {self.kind} is made from {wanted} and nothing else; write `inputs: {wanted}`")
        if kind.hints is not None and set(self.hints) != set(kind.hints):
            wanted = ", ".join(kind.hints) or "no hints"
            raise ValueError(f"hints: a {self.kind} is made from {wanted}, and from nothing else")
        return self

    @model_validator(mode="after")
    def _can_be_filled(self) -> Prompt:
        for hint, line in self.hints.items():
            if not _PLACE.search(line):
                raise ValueError(f"hints.{hint}: has no place for its text; write {{text}} where it is to stand")
        for name in ("quoted", *HINTS):
            if f"{{{name}}}" in self.instruction:
                line = "in a hint's line" if name in ("text", "quoted") else f"a line '{name}: \"… {{text}}\"'"
                raise ValueError(f"instruction: nothing fills {{{name}}} here; write {line} below hints")
        return self

    @property
    def role(self) -> str:
        """The role of the model that is asked."""
        return self.model or "main"

    @property
    def digest(self) -> str:
        """A hash of all that the file says; part of every generation's key."""
        # What is left out is not hashed: a new field changes no old prompt.
        return hashlib.sha256(self.model_dump_json(exclude_none=True).encode()).hexdigest()[:16]

    @property
    def schema_text(self) -> str:
        """The schema as JSON text, empty where there is none."""
        return "" if self.json_schema is None else json.dumps(self.json_schema, sort_keys=not self.in_order)

    def render(self, evidence: Evidence, order: Sequence[Hint] = HINTS) -> str:
        """The user's text after the video: a line per hint that is there, in this order, then the instruction."""
        lines = []
        for hint in order:
            text = getattr(evidence, hint)
            if text and hint in self.hints:
                lines.append(_with_text(self.hints[hint], " ".join(text.split())[: self.max_hint_chars]))
        return "\n".join([*lines, self.instruction])


def _with_text(line: str, text: str) -> str:
    """A hint's line with its text in it, looked for once: what stands in the text is no place for another."""
    forms = {"{text}": text, "{quoted}": json.dumps(text, ensure_ascii=False)}
    return _PLACE.sub(lambda place: forms[place[0]], line)


def load_prompt(path: Path) -> Prompt:
    """Read a prompt file. Raises UserError with the file's name where it is missing, no YAML, or has unknown fields."""
    tree = None
    try:
        raw, tree = parsed_with_places(decoded(path.read_bytes()))
        return Prompt.model_validate(raw)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}). Name an existing prompt file.") from error
    except ValidationError as error:
        keys, problem = wrong(error, lambda keys: place_of(tree, keys)[1])
        where, (line, _, depth) = ".".join(map(str, keys)) or "the file", place_of(tree, keys)
        raise UserError(f"{path}: {where}: {problem}{f' (line {line})' if depth else ''}.") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error
