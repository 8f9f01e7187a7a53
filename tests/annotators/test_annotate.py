"""Annotation with a real store and a real model, and with a fake engine where only what surrounds it is tested."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from annotators import Request, Sampling, Unusable, build, names, parse_caption
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models.inputs import InputBuilder, Picture
from flywheel.models.load import load_vlm
from flywheel.models.score import mean_logprobs
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
from flywheel.rounds.annotate import write_texts
from flywheel.store import Workspace

Make = Callable[..., Workspace]


def filled(make: Make, corpus: Path, *overrides: str) -> RoundContext:
    w = make(*overrides)
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    return RoundContext(w)


def requests(count: int) -> list[Request]:
    times = tuple(0.2 + 0.4 * i for i in range(8))
    return [
        Request(
            key=str(i),
            picture=Picture(
                key=str(i), frames_THWC=scenes.draw(scenes.sample_scene(i), times), times_s=times, duration_s=3.2, fps=10.0
            ),
            prompt="Transcript: something\n" * (i % 2) + "Describe what is seen and heard.",
        )
        for i in range(count)
    ]


def test_logprobs_are_the_models_own() -> None:
    """What generate noted for the chosen tokens is what a forward pass over the text gives, greedy and sampled."""
    vlm = load_vlm(bundled_model())
    builder = InputBuilder(vlm.processor)
    engine = build("transformers", vlm=vlm, builder=builder)
    asked = requests(6)
    for sampling in (Sampling(max_new_tokens=40), Sampling(max_new_tokens=40, temperature=1.3, top_p=0.9, seed=3)):
        results = engine.generate(asked, sampling)
        for request, result in zip(asked, results, strict=True):
            assert result.key == request.key
            assert len(result.logprobs) == len(result.token_ids)
            if result.finish != "stop" or result.text != vlm.processor.tokenizer.decode(
                vlm.processor.tokenizer.encode(result.text)
            ):
                continue
            if vlm.processor.tokenizer.encode(result.text) != list(result.token_ids[:-1]):
                continue  # a sampled spelling that the tokenizer would cut otherwise can't be scored as text
            scored = mean_logprobs(vlm, builder, [request.picture], [request.prompt], [result.text])[0]
            np.testing.assert_allclose(np.mean(result.logprobs), scored, atol=1e-4)


def test_greedy_does_not_depend_on_the_batch() -> None:
    vlm = load_vlm(bundled_model())
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor))
    together = engine.generate(requests(5), Sampling(max_new_tokens=30))
    alone = [engine.generate([r], Sampling(max_new_tokens=30))[0] for r in requests(5)]
    assert [r.text for r in together] == [r.text for r in alone]


def test_nucleus_keeps_to_the_nucleus() -> None:
    from annotators.engines.transformers import _Choice

    scores = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = _Choice(Sampling(max_new_tokens=1, temperature=1.0, top_p=0.75))(torch.zeros(1, 1, dtype=torch.long), scores)
    assert torch.isfinite(kept).tolist() == [[True, True, False, False]]


def test_each_clip_once_and_again_nothing(make_workspace: Make, corpus: Path) -> None:
    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.batch_size=4")
    clips = context.split("train", "test", "anchor")
    first = write_texts(context, clips, by=0, round=1, kind="caption", limit=7)
    assert (first.written, first.generated) == (7, 7)
    second = write_texts(context, clips, by=0, round=1, kind="caption")
    assert (second.written, second.generated) == (13, 13)
    assert write_texts(context, clips, by=0, round=1, kind="caption").written == 0
    assert context.workspace.annotations(round=1)["clip_id"].n_unique() == 20
    third = write_texts(context, clips, by=0, round=2, kind="caption")
    assert (third.written, third.generated, third.reused) == (20, 0, 20), "an unchanged model writes nothing anew"
    assert context.workspace.generations().height == 20
    assert set(context.workspace.annotations(round=2)["generation_id"]) == set(context.workspace.generations()["id"])


def test_changed_sampling_prompt_or_hints_are_new_keys(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    context = filled(make_workspace, corpus, "annotate.engine=fake")
    write_texts(context, context.split("train"), by=0, round=1, kind="caption")
    made = context.workspace.generations().height
    for overrides in (["annotate.max_new_tokens=5"], ["annotate.hints=[sounds]"], ["corpus.frames=4"]):
        other = RoundContext(make_workspace("annotate.engine=fake", *overrides))
        result = write_texts(other, other.split("train")[:3], by=0, round=9, kind=f"caption{overrides}")
        assert result.generated > 0, overrides
    assert context.workspace.generations().height > made


def test_killed_between_generation_and_annotation(make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was generated is committed and used; the text that was written stands."""
    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.batch_size=8")

    class Killed(BaseException):
        pass

    def die(*_: object) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(context.workspace, "add_annotations", die)
        with pytest.raises(Killed):
            write_texts(context, context.split("train", "test", "anchor"), by=0, round=1, kind="caption")
    assert context.workspace.generations().height == 8
    assert context.workspace.annotations(round=1).is_empty()
    before = dict(context.workspace.generations().select("id", "text").iter_rows())
    result = write_texts(context, context.split("train", "test", "anchor"), by=0, round=1, kind="caption")
    assert (result.written, result.generated, result.reused) == (20, 12, 8)
    after = dict(context.workspace.generations().select("id", "text").iter_rows())
    assert before.items() <= after.items()


def test_a_file_that_is_gone_is_a_rejected_row(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(corpus / "corpus", tmp_path / "copy")
    w = make_workspace("annotate.engine=fake")
    with w.lock():
        ingest(w, [str(tmp_path / "copy")])
    gone = sorted((tmp_path / "copy").glob("*.mp4"))[0]
    gone.unlink()
    context = RoundContext(w)
    result = write_texts(context, context.split("train", "test", "anchor"), by=0, round=1, kind="caption")
    assert (result.written, result.rejected) == (19, 1)
    row = w.rejected().to_dicts()[0]
    assert (Path(row["uri"]).name, row["stage"], row["reason"]) == (gone.name, "annotate", "the file is gone")


def test_empty_text_is_tried_again_then_rejected(make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotators.engines import fake

    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.max_tries=3")
    temperatures: list[float] = []
    original = fake._Engine.generate

    def mostly_empty(self: object, asked: list[Request], sampling: Sampling) -> list[object]:
        from dataclasses import replace

        temperatures.append(sampling.temperature)
        results = original(self, asked, sampling)  # type: ignore[arg-type]
        return [replace(r, text=" \u200b") if int(r.key[:1], 16) < 8 or sampling.temperature == 0 else r for r in results]

    monkeypatch.setattr(fake._Engine, "generate", mostly_empty)
    clips = context.split("train", "test", "anchor")
    result = write_texts(context, clips, by=0, round=1, kind="caption")
    assert temperatures == [0.0, 0.7, 0.7]
    assert result.written + result.rejected == 20
    assert 0 < result.rejected < 20
    assert set(context.workspace.rejected()["reason"]) == {"the model wrote nothing"}
    kept = context.workspace.generations().join(context.workspace.annotations(), left_on="id", right_on="generation_id")
    assert all(json.loads(s)["temperature"] == 0.7 for s in kept["sampling"]), "a retried text's record says how it was sampled"


def test_candidates_are_kept_and_the_best_is_chosen(make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.num_candidates=3", "annotate.temperature=0.8")
    write_texts(context, context.split("test"), by=0, round=1, kind="caption")
    count = len(context.split("test"))
    assert context.workspace.generations().height == 3 * count
    assert context.workspace.annotations(round=1).height == count
    assert context.workspace.generations().group_by("clip_id").agg(pl.col("candidate").n_unique())[
        "candidate"
    ].unique().to_list() == [3]


def test_parse() -> None:
    assert parse_caption(" a\n\x07 b\u200b ") == "a b"
    for bad, reason in (("", "nothing"), (" \n", "nothing"), ("...", "no words")):
        with pytest.raises(Unusable, match=reason):
            parse_caption(bad)


def test_unknown_engine() -> None:
    assert names() == ["fake", "transformers"]
    with pytest.raises(UserError, match="There are fake, transformers"):
        build("vlmm")
