"""Kinds of text in the pass: faults of their replies, and the way from a prompt file to an annotation's payload."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from annotators import Request, Result, Sampling, build, prompt_file
from annotators.health import Unhealthy, check
from flywheel.core.errors import UserError
from flywheel.core.types import RoundReport
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import load_vlm
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
from flywheel.rounds.publish import flatten
from flywheel.rounds.stages import to_record
from flywheel.rounds.stages.annotate import write
from flywheel.store import Workspace
from tests.annotators.test_annotate import filled, requests
from tests.annotators.test_health import result

Make = Callable[..., Workspace]

KINDS = ("dense_caption", "qa", "tags")
guided = pytest.mark.skipif(importlib.util.find_spec("xgrammar") is None, reason="xgrammar is not installed")


def small(folder: Path, name: str = "dense_caption", /, **changes: object) -> Path:
    """The bundled prompt with a form that a model which knows no JSON can fill within a hundred tokens."""
    raw = yaml.safe_load(prompt_file(name, folder).read_text())
    cue = {
        "start_s": {"enum": [0, 0.5, 1]},
        "end_s": {"enum": [2, 2.5]},
        "text": {"type": "string", "minLength": 4, "maxLength": 16},
    }
    if name == "dense_caption":
        items = raw["json_schema"]["properties"]["cues"]
        items["maxItems"], items["items"]["properties"] = 2, cue
    raw.update(changes)
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(raw))
    return file


@pytest.mark.parametrize(
    ("text", "finish", "name"),
    [
        ('{"tags": ["dog", "be', "length", "cut off"),
        ("I'm sorry, I can't.", "stop", "refusal"),
        ("a dog", "stop", "schema"),
        ("", "stop", "empty"),
        ('{"tags": ["собака"]}', "stop", "language"),
    ],
)
def test_faults_of_structured_replies(text: str, finish: str, name: str) -> None:
    with pytest.raises(Unhealthy) as error:
        check(result(text, finish), kind="tags", script="LATIN")
    assert error.value.name == name


def test_bundled_prompts_and_their_digests(tmp_path: Path) -> None:
    prompts = [load_prompt(prompt_file(kind, tmp_path)) for kind in ("caption", *KINDS)]
    assert len({p.digest for p in prompts}) == 4
    dense = prompts[1]
    evidence = Evidence(transcript="hello", timed_transcript="[0.0-1.0] hello", sounds="a bell")
    assert dense.render(evidence) == f"Sounds: a bell\nTranscript: [0.0-1.0] hello\n{dense.instruction}"
    assert "[0.0-1.0]" not in prompts[0].render(evidence)
    changed = load_prompt(small(tmp_path))
    assert changed.digest != dense.digest, "another form is another prompt"


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("tags", {"json_schema": {"type": "objekt"}}, "not a JSON schema"),
        ("tags", {"json_schema": {"type": "object", "required": ["words"]}}, "must require 'tags'"),
        ("tags", {"colour": "red"}, "colour: Extra inputs"),
        ("caption", {"json_schema": {"type": "object"}}, "a caption is plain text"),
        ("caption", {"hints": {"transcript": "Heard: {words}"}}, r"hints.transcript: has no place .* write \{text\}"),
        ("caption", {"instruction": "It says {transcript}."}, r"instruction: nothing fills \{transcript\} here"),
        ("caption", {"instruction": "It says {text}."}, "write in a hint's line below hints"),
        ("tags", {"kind": "poem"}, "kind 'poem': unknown. There are answers, caption, consistency"),
    ],
)
def test_a_wrong_prompt_file_is_one_line(tmp_path: Path, kind: str, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        load_prompt(small(tmp_path, kind, **changes))
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_clip_has_one_text_of_each_kind(make_workspace: Make, tmp_path: Path) -> None:
    for overrides, reason in (
        (["annotate.also=[tags, tags]"], "two prompts of one kind"),
        (["annotate.also=[caption]"], "two prompts of one kind"),
        (["annotate.prompt=tags"], "asks for tags, not a caption"),
    ):
        with pytest.raises(UserError, match=reason):
            RoundContext(make_workspace(*overrides))


@guided
@pytest.mark.slow
def test_a_schema_that_cannot_be_compiled_is_one_line() -> None:
    vlm = load_vlm(bundled_model())
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor))
    schema = json.dumps(
        {"type": "object", "properties": {"tags": {"type": "string", "pattern": "(?<=x)y"}}, "required": ["tags"]}
    )
    with pytest.raises(UserError, match=r"json_schema can't be compiled") as error:
        list(engine.generate(requests(1), Sampling(max_new_tokens=4, schema=schema)))
    assert "\n" not in str(error.value)


@pytest.mark.slow
@guided
def test_timed_cues_by_the_tiny_model(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """The model writes no JSON by itself: the guide gives every reply its form, and leaves the captions alone."""
    file = small(tmp_path)
    context = filled(
        make_workspace, corpus, f"annotate.also=[{file}]", "annotate.max_new_tokens=48", "corpus.test_share=0.6"
    )
    counts = to_record(write(context, 1, limit=4))
    assert counts["written"] == 4
    assert counts["also"]["dense_caption"]["written"] == 4, counts["also"]
    assert counts["also"]["dense_caption"]["decodes"] == 0, "pictures are decoded once for all kinds"
    dense = context.workspace.annotations(round=1, kind="dense_caption")
    for row in dense.iter_rows(named=True):
        cues = json.loads(row["payload"])["cues"]
        assert 1 <= len(cues) <= 2
        assert all(0 <= c["start_s"] < c["end_s"] <= 3.3 for c in cues)
        assert row["text"] == " ".join(c["text"] for c in cues)
    assert dense["clip_id"].n_unique() == 4
    report = RoundReport(round=1, num_corrections=0, details={"annotate": counts})
    assert flatten(report)["annotate/dense_caption/tokens_out_per_kept_row"] > 10
    assert context.workspace.annotations(round=1, kind="caption")["payload"].unique().to_list() == [""]
    # How many the split leaves for training hangs on the bytes that this machine's encoder wrote.
    rest = min(len(context.split("train")) - 4, 4)
    again = to_record(write(context, 1, limit=4))
    assert rest > 0
    assert (again["written"], again["also"]["dense_caption"]["generated"]) == (rest, rest), "none of the first anew"


@pytest.mark.slow
def test_one_kind_that_fails_leaves_the_other(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fake engine writes no JSON: its tags are rejected with their reason, its captions stand.

    What is tried again are tags alone.
    """
    from annotators.engines import fake

    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.also=[tags]")
    counts = to_record(write(context, 1))
    count = counts["written"]
    assert counts["also"]["tags"]["rejected"] == count
    assert counts["also"]["tags"]["unhealthy"] == {"schema": 2 * count}
    rejected = context.workspace.rejected(open_only=True)
    assert rejected["kind"].unique().to_list() == ["tags"]
    assert rejected["reason"].str.starts_with("the reply is not JSON").all()
    assert to_record(write(context, 1))["also"]["tags"]["generated"] == 0
    original = fake._Engine.generate

    def knows_json(self: object, asked: Iterator[Request], sampling: Sampling) -> Iterator[Result]:
        for r in original(self, asked, sampling):  # type: ignore[arg-type]
            yield replace(r, text=json.dumps({"tags": [r.text]}) if sampling.schema else r.text)

    monkeypatch.setattr(fake._Engine, "generate", knows_json)
    retried = to_record(write(context, 1, retry_failed=True))
    assert (retried["generated"], retried["also"]["tags"]["written"]) == (0, count)
    assert context.workspace.rejected(open_only=True).is_empty()


def test_cues_come_with_the_video(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """Times of a side-car are kept with the clip, and shown from the clip's start."""
    folder = tmp_path / "videos"
    folder.mkdir()
    video = sorted((corpus / "corpus").glob("*.mp4"))[0]
    shutil.copy(video, folder / "a.mp4")
    (folder / "a.vtt").write_text(
        "WEBVTT\n\n00:00.500 --> 00:01.250\nA bell rings.\n\n00:01.900 --> 00:02.900\nIt stops.\n", encoding="utf-8"
    )
    from flywheel.ingest import ingest

    w = make_workspace("corpus.split_by=length", "corpus.clip_len_s=1.5")
    with w.lock():
        ingest(w, [str(folder)])
    context = RoundContext(w)
    first, second, *_ = sorted(context.clips.values(), key=lambda c: c.start_s)
    assert [(c.start_s, c.end_s, c.text) for c in first.cues] == [(0.5, 1.25, "A bell rings.")]
    shown = context.evidence(second)
    assert (shown.transcript, shown.timed_transcript) == ("It stops.", "[0.4-1.4] It stops.")
