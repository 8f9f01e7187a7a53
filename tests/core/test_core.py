"""Config, registry, and the pure function of a text and its corrections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from flywheel.core.config import PRESETS, Config, load_config, template
from flywheel.core.config.load import section_of
from flywheel.core.errors import UserError
from flywheel.core.types import Annotation, Correction, Verdict, agreement, content_id, corrected

MACHINE = Annotation(
    id="a",
    round=1,
    kind="caption",
    clip_id="c",
    generation_id="g",
    source="model",
    text="machine text",
    mean_logprob=-0.1,
)
START = datetime(2026, 1, 1, tzinfo=UTC)


def said(verdict: Verdict, text: str = "", refiner: str = "r1", minute: int = 0, annotation: str = "a") -> Correction:
    return Correction(
        id=content_id(verdict, text, refiner, minute),
        annotation_id=annotation,
        clip_id="c",
        verdict=verdict,
        text=text,
        refiner=refiner,
        at=START + timedelta(minutes=minute),
    )


@pytest.mark.parametrize(
    ("corrections", "wanted"),
    [
        ([], "machine text"),
        ([said("accept")], "machine text"),
        ([said("edit", "better")], "better"),
        ([said("reject")], None),
        ([said("skip"), said("cant_tell", refiner="r2")], "machine text"),
        ([said("edit", "first"), said("edit", "second", minute=1)], "second"),
        ([said("edit", "second", minute=1), said("edit", "first")], "second"),
        ([said("edit", "x"), said("edit", "y", "r2"), said("edit", "y", "r3")], "y"),
        (
            [said("edit", "a red cat"), said("edit", "a red cat runs", "r2"), said("edit", "blue dog", "r3")],
            "a red cat",
        ),
        ([said("edit", "x"), said("edit", "y", "r2"), said("edit", "from the lead", "boss")], "from the lead"),
        ([said("edit", "other", annotation="b")], "machine text"),
        ([said("reject"), said("edit", "kept", "r2"), said("edit", "kept", "r3")], "kept"),
    ],
)
def test_corrected(corrections: list[Correction], wanted: str | None) -> None:
    assert corrected(MACHINE, corrections, leads=frozenset({"boss"})) == wanted


@pytest.mark.parametrize(
    ("corrections", "wanted"),
    [
        ([], 1.0),
        ([said("edit", "x")], 1.0),
        ([said("edit", "x"), said("edit", "x", "r2")], 1.0),
        ([said("edit", "x"), said("edit", "y", "r2")], 0.5),
        ([said("edit", "a b"), said("edit", "a c", "r2")], (1 + 1 / 3) / 2),
        ([said("edit", "y"), said("edit", "y", "r2"), said("reject", refiner="r3")], 2 / 3),
        ([said("edit", "x"), said("edit", "from the lead", "boss")], 1.0),
        ([said("edit", "x"), said("skip", refiner="r2")], 1.0),
    ],
)
def test_agreement_weighs_a_text(corrections: list[Correction], wanted: float) -> None:
    assert agreement(MACHINE, corrections, leads=frozenset({"boss"})) == pytest.approx(wanted)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_template_is_the_preset(preset: str) -> None:
    raw = yaml.safe_load(template(preset))
    assert Config.model_validate(raw) == Config.model_validate(PRESETS[preset])


def test_every_key_is_documented_or_plain() -> None:
    plain = {
        "weight_decay",
        "eval_share",
        "seed",
        "enabled",
        "batch_size",
        "learning_rate",
        "lora_rank",
        "lora_alpha",
        "lora_dropout",
    }
    for section in Config.model_fields.values():
        model = section_of(section.annotation)
        for name, field in model.model_fields.items() if model is not None else ():
            assert field.description or name in plain, name


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("loss: {gama: 1}", [], r"loss\.gama: unknown key\."),
        ("loss: {nmae: mle}", [], r"loss\.nmae: unknown key\. Did you mean 'name'\?"),
        ("los: {}", [], r"los: unknown key\. Did you mean 'loss'\?"),
        ("corpus: {frames: 0}", [], r"corpus\.frames: a number at least 1 is expected, got 0"),
        ("corpus: {test_share: 0.8, anchor_share: 0.3}", [], "must stay under 1"),
        ("annotate: {num_candidates: 3}", [], "needs a temperature above 0"),
        ("- a", [], "must hold sections"),
        ("a: [", [], "not valid YAML"),
        ("", ["loss"], "must look like"),
        ("", ["loss.name.x=1"], "loss.name: a text is expected"),
    ],
)
def test_bad_configs(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    file = tmp_path / "flywheel.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=f"(?i){message}"):
        load_config(file, overrides)


def test_overrides(tmp_path: Path) -> None:
    file = tmp_path / "flywheel.yaml"
    file.write_text("loss: {name: mle}")
    loaded = load_config(file, ["loss.name=tailr", "loss.arguments={gamma: 0.1}", "pretrain.num_steps=7"])
    assert (loaded.loss.name, loaded.loss.arguments, loaded.pretrain.num_steps) == ("tailr", {"gamma": 0.1}, 7)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="flywheel init"):
        load_config(tmp_path / "flywheel.yaml")
