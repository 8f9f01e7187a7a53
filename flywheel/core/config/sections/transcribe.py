"""How speech becomes words with times."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from flywheel.core.config.sections._section import Section


class Transcribe(Section):
    model: str = Field(
        "", description="folder of a Whisper model for CTranslate2, for `flywheel transcribe`; empty is none"
    )
    language: str = Field("", description="what is spoken, as Whisper names it: en, de, zh; empty is found out by file")
    track: str = Field(
        "",
        description=(
            "which sound of a file with several: a language as the file writes it (eng), or a stream's number; "
            "empty, and where the file has no such sound, is the one that players choose"
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: a GPU where there is one")
    precision: Literal["auto", "float32", "float16", "bfloat16", "int8", "int8_float16", "int8_float32"] = Field(
        "auto", description="`auto`: the fastest that the device has"
    )
    beam_size: int = Field(5, ge=1, le=32, description="hypotheses that are followed; 1 is faster and less exact")
    threads: int = Field(0, ge=0, le=256, description="threads on the CPU; 0 is as many as the library takes")
    commit_files: int = Field(16, ge=1, description="finished files per commit; they wait 20 s at most")

    @field_validator("track", mode="before")
    @classmethod
    def _number_of_a_stream(cls, track: Any) -> Any:
        return str(track) if isinstance(track, int) and not isinstance(track, bool) else track
