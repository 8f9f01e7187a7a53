"""The configuration: one frozen model per section, unknown keys refused with a suggestion."""

from flywheel.core.config.load import FILE_NAME, load_config, parse_config, read_raw
from flywheel.core.config.moves import MOVED, move
from flywheel.core.config.presets import PRESETS, preset
from flywheel.core.config.sections import (
    MAIN,
    Annotate,
    Config,
    Corpus,
    Curate,
    Evaluate,
    Finetune,
    Gate,
    Loss,
    Model,
    Pretrain,
    Review,
    Rounds,
    Schedule,
    Section,
    Store,
    Tracking,
    Train,
    Transcribe,
)
from flywheel.core.config.template import short_template, template

__all__ = [
    "FILE_NAME",
    "MAIN",
    "MOVED",
    "PRESETS",
    "Annotate",
    "Config",
    "Corpus",
    "Curate",
    "Evaluate",
    "Finetune",
    "Gate",
    "Loss",
    "Model",
    "Pretrain",
    "Review",
    "Rounds",
    "Schedule",
    "Section",
    "Store",
    "Tracking",
    "Train",
    "Transcribe",
    "load_config",
    "move",
    "parse_config",
    "preset",
    "read_raw",
    "short_template",
    "template",
]
