"""What all sections of the configuration share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from flywheel.core.config.written import as_written

#: The role of the model that rounds improve.
MAIN = "main"
#: The linear layers of a language model, by the names that transformers' families use.
LANGUAGE_LAYERS = r".*(language_model|text_model).*\.(q|k|v|o|gate|up|down)_proj"


class Section(BaseModel):
    """A section, checked as people write it: an empty one is as if it were left out, one text is a list of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_people_write_it(cls, value: Any, field: Any) -> Any:
        return as_written(value, cls.model_fields[str(field.field_name)])
