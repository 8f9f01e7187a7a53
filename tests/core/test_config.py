"""Where keys stand today, old places that are understood for a release, models by role, and the order of stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.core.config import MOVED, load_config, parse_config, template
from flywheel.core.config import load as loading
from flywheel.core.errors import UserError


def written(folder: Path, text: str) -> Path:
    file = folder / "flywheel.yaml"
    file.write_text(text)
    loading._named.clear()
    return file


def test_old_keys_are_understood_and_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path, "corpus: {model: m}\nannotate: {engine: fake, options: {batch: 2}}\npretrain: {precision: bf16}"
    )
    config = load_config(file)
    main = config.main
    assert (main.folder, main.engine, main.options, main.precision) == ("m", "fake", {"batch": 2}, "bf16")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "annotate.engine is models.main.engine" in line
    assert "flywheel config migrate" in line
    assert load_config(file) == config
    assert not capsys.readouterr().err, "once a process is enough"


def test_old_keys_beside_new_ones_and_after_set_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "annotate: {engine: fake}\nmodels: {main: {engine: vllm}}")
    assert load_config(file, ["annotate.options.seed=1"]).main.engine == "vllm"
    in_file, after_set = capsys.readouterr().err.splitlines()
    assert "models.main.engine (which is there too: annotate.engine is ignored)" in in_file
    assert after_set == "--set: old keys: annotate.options.seed is models.main.options.seed now."


def test_every_old_key_has_a_place(tmp_path: Path) -> None:
    for new in MOVED.values():
        key = new.rpartition(".")[2]
        assert key in type(parse_config({}).main).model_fields


def test_an_override_wins_by_its_old_name_too(tmp_path: Path) -> None:
    """A file that names the new key, and a script that still sets the old one: the script's word is the last."""
    file = written(tmp_path, template())
    assert load_config(file, ["annotate.engine=fake"]).main.engine == "fake"
    assert load_config(file, ["annotate.options.seed=3"]).main.options == {"seed": 3}
    assert load_config(file, ["models.main.engine=vllm"]).main.engine == "vllm"


def test_the_new_key_wins_over_the_old_one_in_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, "annotate: {engine: fake}\nmodels: {main: {engine: vllm}}")
    assert load_config(file).main.engine == "vllm"


def test_main_is_always_there() -> None:
    config = parse_config({"models": {"judge": {"folder": "/m", "engine": "openai"}}})
    assert set(config.models) == {"main", "judge"}
    assert config.main.engine == "transformers"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"models": {"main": {"engin": "fake"}}}, r"models\.main\.engin: unknown key\. Did you mean 'engine'\?"),
        ({"models": {"main": 3}}, r"models\.main: a section of keys is expected, got 3"),
        ({"models": {"a b": {}}}, r"models: a role is a word"),
        ({"rounds": {"stages": ["annotate", "gate", "evaluate"]}}, r"the gate must be the last stage"),
        ({"rounds": {"stages": ["annotate", "gate"]}}, r"a round needs the stage 'evaluate'"),
        ({"rounds": {"stages": ["annotate", "annotate", "evaluate", "gate"]}}, r"stands there twice"),
        ({"weigh": {"least": 3}}, r"weigh: unknown key"),
    ],
)
def test_bad_sections(raw: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(raw)


def test_another_stage_brings_its_section() -> None:
    stages = ["annotate", "weigh", "evaluate", "gate"]
    config = parse_config({"rounds": {"stages": stages}, "weigh": {"least": 3}})
    assert config.plugins == {"weigh": {"least": 3}}
    assert config.rounds.stages == tuple(stages)


@pytest.mark.parametrize("section", ["annotate", "pretrain", "finetune", "evaluate"])
def test_seeds_are_what_every_generator_takes(section: str) -> None:
    for seed in (0, 2**31):
        assert getattr(parse_config({section: {"seed": seed}}), section).seed == seed
    with pytest.raises(UserError, match=f"{section}.seed: a number at least 0 is expected, got -1"):
        parse_config({section: {"seed": -1}})
