"""What other people's tools make of exported conversations: the words that were written, and one video for each clip.

``chat_templates`` behave as the published ones of their models do: some tell a part by its type, some by the keys that
are there, whatever they hold. The readers of LLaMA-Factory and ms-swift are looked for in the folder that
FLYWHEEL_TEST_READERS names (``pip install --no-deps --target``), beside the installed packages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jinja2.sandbox
import pytest

from flywheel.formats import export
from tests.formats.test_export_formats import row

TEMPLATES = sorted((Path(__file__).parent / "chat_templates").glob("*.jinja"))
#: A caption that speaks of marks by which loaders count media.
ODD = 'A "bell" <rings> & 日本, <video> and <image>.'
ROWS = (row("a"), row("b", text="Es läutet."), row("c", text=ODD), row("d", video=b""))


def lines(folder: Path, form: str) -> list[dict[str, object]]:
    folder.mkdir()
    export.get(form).write(iter(ROWS), folder)
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_messages_say_what_was_written_under_published_templates(tmp_path: Path, template: Path) -> None:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    published = environment.from_string(template.read_text())
    conversations = lines(tmp_path / "out", "messages")
    assert len(conversations) == 4, "videos stay in place, also one that can't be cut"
    for conversation, one in zip(conversations, ROWS, strict=True):
        said = published.render(messages=conversation["messages"])
        marks = ("<|video_pad|>", "<|image_pad|>") if "qwen" in template.stem else ("<video>", "<image>")
        assert [said.count(mark) - one.text.count(mark) for mark in marks] == [1, 0], said
        assert "Describe the video." in said
        assert one.text in said.partition("Describe the video.")[2]
        assert "None" not in said


def test_no_part_has_keys_of_another_and_paths_are_relative(tmp_path: Path) -> None:
    for conversation in lines(tmp_path / "out", "messages"):
        (video, question), (answer,) = (message["content"] for message in conversation["messages"])  # type: ignore[attr-defined]
        assert set(video) == {"type", "video", "video_start", "video_end"}
        assert set(question) == set(answer) == {"type", "text"}
        assert os.path.normpath(tmp_path / "out" / video["video"]) == f"/v/{conversation['id']}.mp4"
        assert not os.path.isabs(video["video"])


def test_conversations_have_as_many_videos_as_marks(tmp_path: Path) -> None:
    found = lines(tmp_path / "out", "sharegpt")
    assert [conversation["id"] for conversation in found] == ["a", "b", "c"], "what can't be cut is left out"
    for conversation in found:
        words = " ".join(message["content"] for message in conversation["messages"])  # type: ignore[attr-defined]
        assert [words.count(mark) for mark in ("<video>", "<image>")] == [1, 0]
        [video] = conversation["videos"]  # type: ignore[misc]
        assert (tmp_path / "out" / video).read_bytes() == b"film"
        assert not os.path.isabs(video)
    assert "(video) and (image)" in found[2]["messages"][1]["content"]  # type: ignore[index]


SWIFT = """
import json, sys
from swift.dataset import load_dataset
rows = load_dataset("train.jsonl", split_dataset_ratio=0.0, num_proc=1)[0]
print("READ", json.dumps([{"words": [m["content"] for m in r["messages"]], "videos": r["videos"]} for r in rows]))
"""
# Its package imports sound libraries that reading texts does not need: the reader's own modules are taken one by one.
LLAMA_FACTORY = """
import json, sys, types
from importlib.util import find_spec
from types import SimpleNamespace
package = types.ModuleType("llamafactory.data")
package.__path__ = [find_spec("llamafactory").submodule_search_locations[0] + "/data"]
sys.modules["llamafactory.data"] = package
from datasets import load_dataset
from llamafactory.data.converter import align_dataset
from llamafactory.data.parser import get_dataset_list
[attributes] = get_dataset_list(["train"], ".")
arguments = SimpleNamespace(media_dir=".", streaming=False, preprocessing_num_workers=None, overwrite_cache=True)
rows = load_dataset("json", data_files=attributes.dataset_name, split="train", cache_dir="cache")
rows = align_dataset(rows, attributes, arguments, SimpleNamespace(local_process_index=0))
found = [{"words": [m["content"] for m in r["_prompt"] + r["_response"]], "videos": r["_videos"]} for r in rows]
print("READ", json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("package", "program"), [("swift", SWIFT), ("llamafactory", LLAMA_FACTORY)])
def test_other_peoples_own_readers_find_each_text_and_video(tmp_path: Path, package: str, program: str) -> None:
    path = [*filter(None, [os.environ.get("FLYWHEEL_TEST_READERS")]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "DISABLE_VERSION_CHECK": "1"}
    looked = f"from importlib.util import find_spec; raise SystemExit(find_spec('{package}') is None)"
    if subprocess.run([sys.executable, "-c", looked], env=environment, check=False).returncode:
        pytest.skip(f"{package} is not installed")
    written = lines(tmp_path / "out", "sharegpt")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path / "out",
        env=environment,
        timeout=200,
        check=False,
    )
    [read] = [line for line in done.stdout.splitlines() if line.startswith("READ ")] or [done.stderr[-2000:]]
    found = json.loads(read.removeprefix("READ "))
    assert [one["words"] for one in found] == [[m["content"] for m in w["messages"]] for w in written]  # type: ignore[attr-defined]
    for one, conversation in zip(found, written, strict=True):
        [video] = one["videos"]
        place = Path(video["path"] if isinstance(video, dict) else video)
        assert (tmp_path / "out" / place).resolve() == (tmp_path / "out" / conversation["videos"][0]).resolve()  # type: ignore[index]
