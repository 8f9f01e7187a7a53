"""A kind of text from another package goes the whole way; a broken one is one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from flywheel.kinds import Unusable, read
from flywheel.store import Workspace
from tests.plugins import Command, Plugin

GROUP = "flywheel.annotators.kinds"
SHOT = """
    from flywheel.core.types import Cue
    from flywheel.kinds import Kind, Unusable

    def read(text, duration_s):
        if not text.startswith("A clip that shows "):
            raise Unusable("shows nothing")
        payload = {"shot": text.rstrip(".").split()[-1], "length_s": duration_s}
        return payload, words(payload)

    def words(payload):
        return f"shot of {payload['shot']}"

    def cues(payload):
        return (Cue(start_s=0.0, end_s=payload["length_s"], text=words(payload)),)

    KIND = Kind(name="shot", read=read, words=words, cues=cues)
"""


def prompt(folder: Path, kind: str) -> Path:
    file = folder / f"{kind}.yaml"
    file.write_text(
        yaml.safe_dump({"name": kind, "version": 1, "kind": kind, "instruction": "Name the shot.", "hints": {}})
    )
    return file


@pytest.mark.parametrize("text", ["A dog.", "  "])
def test_a_plug_in_can_refuse_a_reply(plugin: Plugin, text: str) -> None:
    plugin(GROUP, "shot = shots:KIND", SHOT)
    assert read("shot", "A clip that shows 7.", duration_s=2.5).payload == '{"length_s": 2.5, "shot": "7"}'
    with pytest.raises(Unusable):
        read("shot", text)


@pytest.mark.slow
def test_a_kind_of_another_package_is_written_kept_and_exported(
    ingested: Workspace,
    tmp_path: Path,
    plugin: Plugin,
    commandline: Command,
) -> None:
    """One module and one prompt file, and no file of ours."""
    plugin(GROUP, "shot = shots:KIND", SHOT)
    also = f"annotate.also=[{prompt(tmp_path, 'shot')}]"
    settings = ("--config", ingested.root, "--set", "models.main.engine=fake", "--set", "tracking.enabled=false")
    assert commandline("annotate", *settings, "--set", also) == 0
    shots = ingested.annotations(round=1, kind="shot", purpose="learn")
    captions = ingested.annotations(round=1, kind="caption", purpose="learn")
    assert shots.height == captions.height > 0
    for row in shots.iter_rows(named=True):
        payload = json.loads(row["payload"])
        assert row["text"] == f"shot of {payload['shot']}"
        assert payload["length_s"] > 0
    out = tmp_path / "subtitles"
    assert commandline("export", *settings, "--round", "0", "--format", "webvtt", "--out", out) == 0
    texts = dict(shots.select("clip_id", "text").iter_rows())
    files = list(out.glob("*.vtt"))
    assert files
    assert all(texts[file.stem] in file.read_text() for file in files)


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        ("shot = shots:KIND", "import a_library_that_is_not_there", r"'other_people'.*can't be imported \(ModuleNot"),
        ("shot = shots:KIND", "KIND = 7", "brings no Kind but a int"),
        ("shot = shots:NAME", SHOT, "can't be imported"),
        ("still = shots:KIND", SHOT, "its plug-in calls it 'shot'"),
        ("tags = shots:KIND", SHOT, "this package and package 'other_people' .* both bring one"),
    ],
)
def test_a_bad_plug_in_is_one_line(
    ingested: Workspace,
    tmp_path: Path,
    plugin: Plugin,
    commandline: Command,
    capsys: pytest.CaptureFixture[str],
    entry: str,
    code: str,
    reason: str,
) -> None:
    plugin(GROUP, entry, code)
    file = prompt(tmp_path, entry.partition(" ")[0])
    settings = ("--config", ingested.root, "--set", "models.main.engine=fake", "--set", "tracking.enabled=false")
    assert commandline("annotate", *settings, "--set", f"annotate.also=[{file}]") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{file}: kind: ")
    assert not line.endswith("..")
    assert re.search(reason, line), line
    assert ingested.annotations(round=1).is_empty()


def test_a_bad_plug_in_does_not_hurt_who_does_not_use_it(plugin: Plugin) -> None:
    plugin(GROUP, "shot = shots:KIND", "raise RuntimeError")
    assert read("caption", "A dog.").text == "A dog."
