"""YAML within bounds: what a few lines can stand for is an error of one line, wherever YAML is read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flywheel.core.config import load_config
from flywheel.core.config.migrate import migrate_file
from flywheel.core.errors import UserError
from flywheel.core.yaml_text import parsed_yaml
from flywheel.models.prompt import load_prompt

_LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))
_MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10))
BOMBS = {
    "laughs": (_LAUGHS, "aliases stand for more than"),
    "merges": (_MERGES, "aliases stand for more than"),
    "itself": ("a: &a [*a]", "within itself"),
    "deep": ("a: " + "[" * 100_000, "nested too deeply"),
    "digits": ("a: " + "1" * 200_000, "limit"),
    "long": ("a: b\n" * 300_000, "longer than"),
    "tag": ("a: !!python/object/apply:os.system ['true']", "the tag .* is not taken"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_one_line(name: str, tmp_path: Path) -> None:
    text, reason = BOMBS[name]
    began = time.process_time()
    with pytest.raises(ValueError, match=reason):
        parsed_yaml(text)
    file = tmp_path / "flywheel.yaml"
    file.write_text(text)
    for read in (load_config, load_prompt, lambda path: migrate_file(path, {})):
        with pytest.raises(UserError) as said:
            read(file)
        assert "\n" not in str(said.value)
        assert len(str(said.value)) < 1000
    assert time.process_time() - began < 8


def test_what_is_shared_by_a_few_is_read(tmp_path: Path) -> None:
    assert parsed_yaml("a: &a {b: 1}\nc: {<<: *a, d: *a}") == {"a": {"b": 1}, "c": {"b": 1, "d": {"b": 1}}}
    assert parsed_yaml("") is None
    file = tmp_path / "flywheel.yaml"
    file.write_text("corpus:\n  frames: [" + ", ".join("x" * 100) + "]\n")
    with pytest.raises(UserError) as said:
        load_config(file)
    assert len(str(said.value)) < 250


def test_what_somebody_does_with_the_values_is_not_seen_by_the_next() -> None:
    text = "a: [1, {b: 2}]\nb: 3\n"
    parsed_yaml(text)["a"][1]["b"] = 5
    parsed_yaml(text).pop("b")
    assert parsed_yaml(text) == {"a": [1, {"b": 2}], "b": 3}
