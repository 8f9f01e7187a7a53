"""What one describer is asked holds nothing of the other's input: read from the requests that models really get."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from annotators import prompt_file
from annotators.asking import ask
from annotators.tasks import Asking, Task
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models.prompt import load_prompt
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from tests.chat_server import models, reply, serving
from tests.media.made import Pictures, write
from tests.models.tiny_omni import tiny_omni

Make = Callable[..., Workspace]
SEEN = {"scene": "", "objects": "a dog", "layout": "", "writing": "", "mood": ""}
HEARD = {"speech": "", "environment": "", "timbre": "", "mood": ""}
SHORT = ("annotate.max_tries=1", "models.main.engine=fake", "corpus.test_share=0.7")


def words_of(context: RoundContext) -> set[str]:
    """Words that came with the videos and stand in no prompt."""
    given = {word for clip in context.clips.values() for word in f"{clip.transcript} {clip.sounds}".split()}
    prompts = " ".join(load_prompt(prompt_file(name, Path())).instruction for name in ("seen", "heard"))
    return {word for word in given if len(word) > 4 and word not in prompts}


def context_of(make_workspace: Make, corpus: Path, *overrides: str, also: str = "[seen, heard]") -> RoundContext:
    w = make_workspace(*SHORT, f"annotate.also={also}", *overrides)
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    context = RoundContext(w)
    assert len(words_of(context)) > 5
    return context


def described(context: RoundContext, clips: list[Any]) -> None:
    with context.workspace.lock():
        for prompt in context.extra_prompts:
            context.ask(clips, by=0, round=1, prompt=prompt)


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_omni(tmp_path_factory.mktemp("omni"))


@pytest.mark.slow
def test_requests_to_servers(make_workspace: Make, corpus: Path, omni: Path) -> None:
    """Of an OpenAI-compatible server: ``input_audio`` or frames, never both, and no word of a transcript."""
    bodies: list[Any] = []
    with serving(lambda path, headers, body: answer(bodies, path, body, omni)) as url:
        settings = ("engine=openai", f"servers=[{url}]", f"folder={omni}")
        servers = [f"models.{role}.{setting}" for role in ("eyes", "ears") for setting in settings]
        context = context_of(make_workspace, corpus, *servers)
        clips = list(context.clips.values())[:2]
        described(context, clips)
    forms = {}
    for body in bodies:
        (message,) = body["messages"]
        kinds = sorted(part["type"] for part in message["content"])
        text = next(part["text"] for part in message["content"] if part["type"] == "text")
        assert not any(word in text for word in words_of(context)), text
        forms.setdefault("seen" if "video_url" in kinds else "heard", []).append(kinds)
    assert set(map(tuple, forms["seen"])) == {("text", "video_url")}
    assert set(map(tuple, forms["heard"])) == {("input_audio", "text"), ("text",)}, "the canaries are asked without too"
    texts = context.workspace.annotations(round=1, kind="heard")
    assert texts.height == 2, context.workspace.rejected()["reason"].to_list()
    assert json.loads(texts["payload"][0])["events"] == [{"start_s": 0.5, "end_s": 1.0, "text": "a bell"}]
    seen = context.workspace.annotations(round=1, kind="seen")
    assert set(seen["text"]) == {"a dog. a dog runs."}


def answer(bodies: list[Any], path: str, body: Any, folder: Path) -> tuple[int, dict[str, str], Any]:
    """What a server that hears and sees answers: another sound, another mood."""
    if path.endswith("models"):
        return 200, {}, models(folder)
    bodies.append(body)
    parts = body["messages"][0]["content"]
    audio = "".join(part["input_audio"]["data"] for part in parts if part["type"] == "input_audio")
    if any(part["type"] == "video_url" for part in parts):
        text = {**SEEN, "events": [{"start_s": 0, "end_s": 1, "text": "a dog runs"}]}
    else:
        event = {"start_s": 0.5, "end_s": 1.0, "text": "a bell"}
        text = {**HEARD, "mood": f"mood {zlib.crc32(audio.encode())}", "events": [event]}
    done = reply(json.dumps(text))
    done["usage"]["prompt_tokens"] = 50 + len(audio) // 1000
    return 200, {}, done


@pytest.mark.slow
def test_requests_to_a_model_of_transformers(make_workspace: Make, corpus: Path, tmp_path: Path, omni: Path) -> None:
    """One folder that sees and hears: what reaches the model itself is pictures or sound."""
    short = [short_prompt(tmp_path, name) for name in ("seen", "heard")]
    folders = [f"models.{role}.folder={omni}" for role in ("eyes", "ears")]
    context = context_of(make_workspace, corpus, *folders, also=f"[{short[0]}, {short[1]}]")
    vlm = context.loader.load(omni, inputs=("frames", "sound"))
    got: list[dict[str, Any]] = []
    original = vlm.model.generate

    def noting(**inputs: Any) -> Any:
        got.append(inputs)
        return original(**inputs)

    vlm.model.generate = noting
    described(context, list(context.clips.values())[:2])
    tokenizer = vlm.processor.tokenizer
    texts = [tokenizer.decode(ids) for inputs in got for ids in inputs["input_ids"]]
    assert not any(word in text for text in texts for word in words_of(context))
    media = [{name for name in inputs if name in ("pixel_values_videos", "input_features")} for inputs in got]
    assert media[0] == {"pixel_values_videos"}
    assert {"input_features"} in media
    assert {"pixel_values_videos", "input_features"} not in media
    for inputs, kinds in zip(got, media, strict=True):
        count = int((inputs["input_ids"] == tokenizer.convert_tokens_to_ids("<|AUDIO|>")).sum())
        assert (count > 0) == ("input_features" in kinds)


def short_prompt(folder: Path, name: str) -> Path:
    """The bundled prompt for a model that knows no JSON."""
    raw = yaml.safe_load(prompt_file(name, Path()).read_text())
    del raw["json_schema"]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**raw, "max_new_tokens": 8}, sort_keys=False))
    return file


def test_a_prompt_that_shows_one_the_others_input_is_refused(tmp_path: Path) -> None:
    for name, change, reason in (
        ("heard", {"inputs": ["sound", "frames"]}, r"inputs: a heard is made from \[sound\] and nothing else"),
        ("heard", {"hints": {"transcript": "{text}"}}, "hints: a heard is made from no hints"),
        ("seen", {"inputs": None}, r"inputs: a seen is made from \[frames\]"),
        ("seen", {"hints": {"sounds": "{text}"}}, "hints: a seen is made from no hints"),
        ("judge", {"inputs": ["frames"]}, r"inputs: a judgement is made from \[\]"),
        ("judge", {"hints": {"seen": "{text}"}}, "hints: a judgement is made from seen, heard"),
    ):
        raw = yaml.safe_load(prompt_file(name, tmp_path).read_text())
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({k: v for k, v in {**raw, **change}.items() if v is not None}))
        with pytest.raises(UserError, match=reason):
            load_prompt(file)


def test_clips_without_a_sound_track_are_rejects_that_stop_nothing(
    make_workspace: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corpus may be mostly silent films: that is no disk which is away."""
    monkeypatch.setattr("flywheel.core.reading.IN_A_ROW", 8)
    monkeypatch.setattr("annotators.asking.IN_A_ROW", 8)
    folder = tmp_path / "videos"
    folder.mkdir()
    write(folder / "silent.mp4", Pictures(times_s=[n / 25 for n in range(50)]))
    w = make_workspace(*SHORT, "annotate.also=[seen, heard]", "models.ears.engine=fake", "models.eyes.engine=fake")
    with w.lock():
        ingest(w, [str(folder)])
    context = RoundContext(w)
    (clip,) = context.clips.values()
    prompt = context.extra_prompts[1]
    tasks = [
        Task(clip_id=f"{clip.id[:-4]}{number:04}", prompt="", media=partial(context.input, clip, {"sound"}))
        for number in range(12)
    ]
    asking = Asking.of(context.config.annotate, prompt)
    with w.lock(), context.writer(prompt, 0) as writer:
        result = ask(w, tasks, writer, prompt, round=1, asking=asking)
    assert (result.written, result.generated, result.rejected) == (0, 0, 12)
    assert set(w.rejected()["reason"]) == {"the clip has no sound track: there is nothing to be heard"}
    assert context.input(clip).frames_THWC is not None
