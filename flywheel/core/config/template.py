"""The commented file that a new workspace begins with, and the one in which every key stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from flywheel.core.config.load import parse_config
from flywheel.core.config.presets import PRESETS, preset_file
from flywheel.core.config.sections import MAIN, Config
from flywheel.core.config.written import choices_of

#: What people change: these keys stand in a new file, beside those in which a preset differs from the defaults.
_CHANGED: Mapping[str, tuple[str, ...]] = {
    "corpus": (
        "licence",
        "frames",
        "split_by",
        "clip_len_s",
        "split_key",
        "test_share",
        "anchor_share",
        "min_anchor_videos",
    ),
    "models": ("folder", "engine"),
    "transcribe": ("model",),
    "annotate": ("prompt", "also", "hints", "max_new_tokens"),
    "pretrain": ("num_steps", "batch_size", "learning_rate", "method"),
    "finetune": ("num_steps", "min_corrections"),
    "review": ("wait_for",),
    "gate": ("effect", "min_anchors", "untested"),
    "tracking": ("uri",),
    "schedule": ("cron",),
}
_SHORT = (
    "# A video-language data flywheel. Here stands what people change most; every other key has its default.",
    "# All keys with their values: flywheel config show. What one means: flywheel config explain gate.alpha",
)
_WHOLE = ("# A video-language data flywheel. Every key stands here with its value; delete what you do not change.",)

#: In C where PyYAML was built with it: a hundred values are written one by one.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def template(preset: str = "playground", changes: Mapping[str, Any] | None = None, notes: Sequence[str] = ()) -> str:
    """A commented ``flywheel.yaml``: every key with its value in the preset and what it means.

    ``changes`` are values by section and key that go before the preset's; ``notes`` stand above all as comments. Raises
    UserError for an unknown preset.
    """
    return _text(_configured(preset, changes), [*_WHOLE, *(f"# {note}" for note in notes)], lambda *_: None)


def short_template(
    preset: str = "playground", changes: Mapping[str, Any] | None = None, notes: Sequence[str] = ()
) -> str:
    """As :func:`template`, with the keys alone that people change, or that the preset or ``changes`` set."""
    config, plain = _configured(preset, changes), Config()

    def chosen(name: str, role: str) -> Collection[str]:
        section = config.models[role] if role else getattr(config, name)
        usual = plain.models[MAIN] if role else getattr(plain, name)
        return {*_CHANGED.get(name, ()), *(k for k in type(section).model_fields if differs(section, usual, k))}

    return _text(config, [*_SHORT, *(f"# {note}" for note in notes)], chosen)


def differs(section: BaseModel, other: BaseModel, key: str) -> bool:
    """Whether two sections of one class have different values of a key."""
    return bool(getattr(section, key) != getattr(other, key))


def _configured(preset: str, changes: Mapping[str, Any] | None) -> Config:
    preset_file(preset)
    return parse_config(merged(PRESETS[preset], changes or {}))


def _text(config: Config, head: Sequence[str], chosen: Any) -> str:
    """The file's text; ``chosen(section, role)`` are the keys that stand in it, None for all."""
    lines = list(head)
    for name, field in Config.model_fields.items():
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            keys = _keys(section, "  ", chosen(name, ""))
            lines += [f"\n{name}:", *keys] if keys else []
        elif name == "models":
            lines.append(f"\n{name}:  # {field.description}")
            for role, model in config.models.items():
                lines += [f"  {role}:", *_keys(model, "    ", chosen(name, role))]
    return "\n".join(lines) + "\n"


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the changes in their place, key by key."""
    out = dict(values)
    for name, value in changes.items():
        there = out.get(name)
        out[name] = merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return out


def _keys(section: BaseModel, indent: str, chosen: Collection[str] | None) -> list[str]:
    lines = []
    values = section.model_dump(mode="json")
    for key, field in type(section).model_fields.items():
        if chosen is not None and key not in chosen:
            continue
        value = yaml.dump(values[key], Dumper=_DUMPER, default_flow_style=True, width=1000)
        text = f"{indent}{key}: {value.strip().removesuffix('...').strip()}"
        lines.append(f"{text}  # {meaning}" if (meaning := meaning_of(field)) else text)
    return lines


def meaning_of(field: Any) -> str:
    """What a key means, with the values that there are where its description does not name them."""
    description, choices = field.description or "", choices_of(field.annotation)
    if all(f"`{choice}`" in description for choice in choices):
        return str(description)
    return f"{' | '.join(choices)}: {description}".removesuffix(": ")
