"""The commented file that a new workspace begins with."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from flywheel.core.config.load import parse_config
from flywheel.core.config.sections import Config
from flywheel.core.errors import UserError

PRESETS: dict[str, dict[str, Any]] = {
    "playground": {},
    "qwen3-vl-8b": {
        "corpus": {"frames": 32, "sampling": "fps", "max_side": 640},
        "models": {"main": {"folder": "Qwen3-VL-8B-Instruct"}},
        "annotate": {"batch_size": 8, "max_new_tokens": 256},
        "pretrain": {"num_steps": 2000, "batch_size": 2, "learning_rate": 1e-5, "gradient_checkpointing": True},
        "finetune": {"num_steps": 400, "batch_size": 2, "learning_rate": 1e-4},
        "review": {"wait_for": 200},
    },
}


def template(preset: str = "playground") -> str:
    """A commented ``flywheel.yaml``: every key with its value in the preset and what it means."""
    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: unknown. There are {', '.join(PRESETS)}.")
    config = parse_config(PRESETS[preset])
    lines = ["# A video-language data flywheel. Every key stands here with its value; delete what you do not change."]
    for name, field in Config.model_fields.items():
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            lines += [f"\n{name}:", *_keys(section, "  ")]
        elif name == "models":
            lines.append(f"\n{name}:  # {field.description}")
            for role, model in config.models.items():
                lines += [f"  {role}:", *_keys(model, "    ")]
    return "\n".join(lines) + "\n"


def _keys(section: BaseModel, indent: str) -> list[str]:
    lines = []
    values = section.model_dump(mode="json")
    for key, field in type(section).model_fields.items():
        value = yaml.safe_dump(values[key], default_flow_style=True, width=1000)
        text = f"{indent}{key}: {value.strip().removesuffix('...').strip()}"
        lines.append(f"{text}  # {field.description}" if field.description else text)
    return lines
