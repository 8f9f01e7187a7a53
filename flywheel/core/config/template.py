"""The commented file that a new workspace begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from flywheel.core.config.load import parse_config
from flywheel.core.config.presets import PRESETS, preset_file
from flywheel.core.config.sections import Config


def template(preset: str = "playground", changes: Mapping[str, Any] | None = None, notes: Sequence[str] = ()) -> str:
    """A commented ``flywheel.yaml``: every key with its value in the preset and what it means.

    ``changes`` are values by section and key that go before the preset's; ``notes`` stand above all as comments. Raises
    UserError for an unknown preset.
    """
    preset_file(preset)
    config = parse_config(merged(PRESETS[preset], changes or {}))
    lines = ["# A video-language data flywheel. Every key stands here with its value; delete what you do not change."]
    lines += [f"# {note}" for note in notes]
    for name, field in Config.model_fields.items():
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            lines += [f"\n{name}:", *_keys(section, "  ")]
        elif name == "models":
            lines.append(f"\n{name}:  # {field.description}")
            for role, model in config.models.items():
                lines += [f"  {role}:", *_keys(model, "    ")]
    return "\n".join(lines) + "\n"


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes in their place, key by key."""
    out = dict(values)
    for name, value in changes.items():
        there = out.get(name)
        out[name] = merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return out


def _keys(section: BaseModel, indent: str) -> list[str]:
    lines = []
    values = section.model_dump(mode="json")
    for key, field in type(section).model_fields.items():
        value = yaml.safe_dump(values[key], default_flow_style=True, width=1000)
        text = f"{indent}{key}: {value.strip().removesuffix('...').strip()}"
        lines.append(f"{text}  # {field.description}" if field.description else text)
    return lines
