"""Keys of a config file at their new places: the same values, comments and line ends, or the key is left alone."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flywheel.core.config import MOVED
from flywheel.core.config.migrate import migrate_file, moved
from flywheel.core.errors import UserError

BY_HAND = """\
# Our corpus.
corpus:
    # A model of our own.
    model: 'my models/eight: b'   # fine-tuned
    frames: 16

annotate:   # how texts are written
    engine: vllm
    options:
        max_model_len: 8192
        # more would not fit
        gpu_memory_utilization: 0.9

    servers:
    - http://a:1
    - http://b:2   # the second
    prompt: caption
# The end.
"""

NO_NEWLINE = "annotate:\n  batch_size: 3\n  engine: openai  # a pool"
HALF_MOVED = """\
models:
  main:
    engine: vllm   # new
    # the end of main

  ears: {folder: e}

annotate:
  engine: fake   # old
  timeout_s: 5
"""
IN_BRACES = "corpus: {model: gone, frames: 4}\nannotate: {engine: fake}  # of no model\nmodels: {judge: {folder: j}}\n"
JSON = '{"annotate": {"servers": ["a", "b"], "seed": 1}, "corpus": {"model": "x"}}'
BLOCKS = "annotate:\n  engine: |\n    two\n    lines\n  serve: >-\n    folded\n    text\n  tolerance:\n  seed: 1\n"
DOCUMENT = "%YAML 1.1\n---\npretrain:\n  precision: bf16\n...\n"

#: What 'flywheel init' wrote before keys moved.
BEFORE = Path(__file__).parent / "before"
FILES = {
    "template": (BEFORE / "playground.yaml").read_text(),
    "template of a preset": (BEFORE / "qwen3-vl-8b.yaml").read_text(),
    "by hand": BY_HAND,
    "no newline at the end": NO_NEWLINE,
    "half moved": HALF_MOVED,
    "in braces": IN_BRACES,
    "JSON": JSON,
    "blocks": BLOCKS,
    "one document": DOCUMENT,
    "a mark before it": "\ufeff" + NO_NEWLINE,
}


def expected(values: dict[str, Any]) -> dict[str, Any]:
    """The values with all keys moved, worked out on the values alone."""
    for source, target in MOVED.items():
        section, key = source.split(".")
        if key in (values.get(section) or {}):
            value = values[section].pop(key)
            place = values
            for name in target.split(".")[:-1]:
                place = place.setdefault(name, {})
            place.setdefault(target.split(".")[-1], value)
    return values


def comments(text: str) -> list[str]:
    return sorted(comment.strip() for comment in re.findall(r"(?:^|\s)#[^\n]*", text))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_same_values_stand_under_the_new_keys(name: str, newline: str) -> None:
    text = FILES[name].replace("\n", newline)
    after, notes = moved(text, MOVED)
    assert yaml.safe_load(after) == expected(yaml.safe_load(text))
    assert comments(after) == comments(text if name != "half moved" else text.replace("   # old", ""))
    assert after.count("\n") == after.count(newline), "line ends stay what they are"
    assert notes
    assert not [note for note in notes if "left where it is" in note]
    assert moved(after, MOVED) == (after, []), "what is moved stays"


def test_any_way_to_write_it_gives_the_same_values() -> None:
    rng = random.Random(0)
    keys = [path.split(".") for path in MOVED] + [["corpus", "frames"], ["annotate", "seed"], ["loss", "name"]]
    values = [
        "text",
        "a: b",
        "# no comment",
        "",
        3,
        0.5,
        None,
        True,
        ["x", "y z"],
        {"k": [1, {"n": "m"}]},
        "two\nlines\n",
        {},
    ]
    for number in range(24):
        raw: dict[str, dict[str, Any]] = {}
        for section, key in rng.sample(keys, rng.randint(1, len(keys))):
            raw.setdefault(section, {})[key] = copy.deepcopy(rng.choice(values))
        text = yaml.safe_dump(
            raw,
            default_flow_style=rng.choice([None, False, False, True]),
            indent=rng.choice([2, 3, 4, 8]),
            default_style=rng.choice([None, None, None, "'", '"']),
            width=rng.choice([20, 80]),
            sort_keys=False,
        )
        if rng.random() < 0.5:
            text = text.replace("\n", "\r\n")
        after, notes = moved(text, MOVED)
        assert yaml.safe_load(after) == expected(raw), f"{number}: {text}\n{after}\n{notes}"


def test_comments_go_with_their_key() -> None:
    after, _ = moved(BY_HAND, MOVED)
    assert "    # A model of our own.\n    folder: 'my models/eight: b'   # fine-tuned\n" in after
    assert "        # more would not fit\n" in after
    assert after.startswith("# Our corpus.\ncorpus:\n    frames: 16\n\nmodels:\n  main:\n")
    assert after.endswith("    prompt: caption\n# The end.\n")


def test_the_new_place_wins() -> None:
    after, notes = moved(HALF_MOVED, MOVED)
    assert "annotate.engine: dropped, models.main.engine is there already." in notes
    assert yaml.safe_load(after)["models"]["main"] == {"engine": "vllm", "timeout_s": 5}


@pytest.mark.parametrize(
    "text",
    [
        "annotate:\n  engine: &e vllm\nloss:\n  name: *e\n",
        "loss:\n  name: &e mle\nannotate:\n  engine: *e\n",
        "annotate: &a\n  engine: vllm\nother: *a\n",
        "base: &b\n  engine: vllm\nannotate:\n  <<: *b\n",
        "annotate:\n  engine: vllm\n  engine: fake\n",
        "models: everything\nannotate:\n  engine: vllm\n",
        "annotate: {engine: vllm, # fast\n  seed: 1}\n",
    ],
    ids=["anchor", "alias", "anchored section", "merged", "twice", "no section", "comment in braces"],
)
def test_what_can_not_be_moved_is_left_alone_and_named(text: str) -> None:
    after, notes = moved(text, MOVED)
    assert after == text
    assert len(notes) == 1
    assert notes[0].startswith("annotate.engine: left where it is (")
    assert notes[0].endswith("Move it to models.main.engine by hand.")


def test_others_move_past_one_that_can_not() -> None:
    after, notes = moved("annotate:\n  engine: &e vllm\n  serve: merged\n  name: *e\n", MOVED)
    assert after == "annotate:\n  engine: &e vllm\n  name: *e\nmodels:\n  main:\n    serve: merged\n"
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("annotate:\n\tengine: vllm\n", "line 2: a tab in the indentation. Write spaces."),
        ("annotate: [\n", "not valid YAML"),
        ("- a\n", "must hold sections"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_what_is_no_config_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        moved(text, MOVED)


def test_a_file_is_written_whole_with_a_copy_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "flywheel.yaml"
    before = BY_HAND.replace("\n", "\r\n").encode()
    file.write_bytes(before)
    file.chmod(0o640)
    tried = migrate_file(file, MOVED, dry_run=True)
    assert tried.backup is None
    assert file.read_bytes() == before
    assert "\n+models:\n+  main:\n" in tried.diff.replace("\r", "")
    done = migrate_file(file, MOVED)
    assert done.backup is not None
    assert done.backup.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o640
    assert yaml.safe_load(file.read_bytes()) == expected(yaml.safe_load(before))
    after = file.read_bytes()
    assert migrate_file(file, MOVED).backup is None, "nothing to move, nothing written"
    file.write_bytes(before)
    assert migrate_file(file, MOVED).backup == tmp_path / "flywheel.yaml.bak2", "no copy is overwritten"
    assert file.read_bytes() == after
    assert sorted(p.name for p in tmp_path.iterdir()) == ["flywheel.yaml", "flywheel.yaml.bak", "flywheel.yaml.bak2"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(NO_NEWLINE)
    (tmp_path / "flywheel.yaml").symlink_to(tmp_path / "real.yaml")
    migrate_file(tmp_path / "flywheel.yaml", MOVED)
    assert (tmp_path / "flywheel.yaml").is_symlink()
    assert "models:" in (tmp_path / "real.yaml").read_text()


def test_a_file_that_can_not_be_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    file = tmp_path / "flywheel.yaml"
    file.write_text(NO_NEWLINE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="can't be written"):
        migrate_file(file, MOVED)
    assert file.read_text() == NO_NEWLINE
    assert not (tmp_path / "flywheel.yaml.tmp").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"\xff\xfe", "can't be read"), (b"a: [", "YAML")]
)
def test_a_file_that_is_none_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "flywheel.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=rf"flywheel.yaml: .*{message}"):
        migrate_file(file, MOVED)
