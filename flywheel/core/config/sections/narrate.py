"""How long videos are told: shot by shot, and as a whole."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section


class Narrate(Section):
    prompts: tuple[str, str, str, str, str, str] = Field(
        ("seen", "heard", "fused", "consistency", "redundancy", "narrative"),
        description=(
            "names of bundled prompts or paths: what is seen, heard, both in one text, what is wrong in it, what it "
            "repeats of earlier shots, and the whole; roles eyes, ears and narrator below `models`"
        ),
    )
    neighbours: int = Field(3, ge=0, description="earlier shots whose texts a shot's text is not to repeat; 0 for none")
