"""Annotation with a real store and a real model, and with a fake engine where only what surrounds it is tested."""

from __future__ import annotations

import gc
import json
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from annotators import Request, Result, Sampling, Unusable, build, names, parse_caption
from annotators.asking import costs_of
from annotators.interface import failed
from flywheel.core.errors import UserError
from flywheel.core.types import Clip
from flywheel.ingest import ingest
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm
from flywheel.models.score import mean_logprobs
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
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
            clip=ClipInput(
                key=str(i),
                frames_THWC=scenes.draw(scenes.sample_scene(i), times),
                times_s=times,
                duration_s=3.2,
                fps=10.0,
            ),
            prompt="Transcript: something\n" * (i % 2) + "Describe what is seen and heard.",
        )
        for i in range(count)
    ]


@pytest.mark.slow
def test_logprobs_are_the_models_own() -> None:
    """What generate noted for the chosen tokens is what a forward pass over the text gives, greedy and sampled."""
    vlm = load_vlm(bundled_model())
    builder = InputBuilder(vlm.processor)
    engine = build("transformers", vlm=vlm, builder=builder)
    asked = requests(6)
    for sampling in (Sampling(max_new_tokens=40), Sampling(max_new_tokens=40, temperature=1.3, top_p=0.9, seed=3)):
        results = list(engine.generate(asked, sampling))
        for request, result in zip(asked, results, strict=True):
            assert result.key == request.key
            assert len(result.logprobs) == len(result.token_ids)
            if result.finish != "stop" or result.text != vlm.processor.tokenizer.decode(
                vlm.processor.tokenizer.encode(result.text)
            ):
                continue
            if vlm.processor.tokenizer.encode(result.text) != list(result.token_ids[:-1]):
                continue  # a sampled spelling that the tokenizer would cut otherwise can't be scored as text
            scored = mean_logprobs(vlm, builder, [request.clip], [request.prompt], [result.text])[0]
            np.testing.assert_allclose(np.mean(result.logprobs), scored, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_written_does_not_depend_on_the_batch(temperature: float) -> None:
    vlm = load_vlm(bundled_model())
    builder, sampling = (
        InputBuilder(vlm.processor),
        Sampling(max_new_tokens=30, temperature=temperature, top_p=0.95, seed=5),
    )
    together = build("transformers", vlm=vlm, builder=builder, batch_size=5).generate(requests(5), sampling)
    alone = build("transformers", vlm=vlm, builder=builder, batch_size=1).generate(requests(5), sampling)
    assert [r.text for r in together] == [r.text for r in alone]


def test_nucleus_keeps_to_the_nucleus_and_sampling_to_the_distribution() -> None:
    from annotators.engines.transformers import _Choice

    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    keys = [str(i) for i in range(4000)]
    for top_p, expected in ((0.75, torch.tensor([0.625, 0.375, 0, 0])), (1.0, p)):
        choice = _Choice(Sampling(max_new_tokens=1, temperature=1.0, top_p=top_p), keys, torch.device("cpu"))
        chosen = choice(torch.zeros(4000, 1, dtype=torch.long), p.log().expand(4000, -1)).argmax(1)
        shares = torch.bincount(chosen, minlength=4) / 4000
        assert float((shares - expected).abs().max()) < 0.025, shares


def test_the_halves_of_a_batch_have_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = build("transformers", vlm=None, builder=None, batch_size=8)
    held, sizes = list[weakref.ref[torch.Tensor]](), list[int]()

    def short_of_memory(batch: list[Request], sampling: Sampling) -> list[Result]:
        assert not any(tensor() is not None for tensor in held), "tensors of a batch that failed are still there"
        tensor = torch.zeros(len(batch))
        held.append(weakref.ref(tensor))
        sizes.append(len(batch))
        if len(batch) > 2:
            try:
                raise RuntimeError("CUDA out of memory")
            except RuntimeError as error:
                raise ValueError(f"of {tensor.shape}") from error
        return [failed(request, "") for request in batch]

    monkeypatch.setattr(engine, "_batch", short_of_memory)
    asked, greedy = [Request(key=str(i), clip=None, prompt="") for i in range(8)], Sampling(max_new_tokens=8)
    gc.disable()
    try:
        assert [r.key for r in engine.generate(asked, greedy)] == [r.key for r in asked]
    finally:
        gc.enable()
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


@pytest.mark.slow
def test_a_request_that_cannot_be_done_fails_alone() -> None:
    """In a batch of eight one row is over what the model can read: it has its reason, the other seven their texts."""
    vlm = load_vlm(bundled_model())
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor), batch_size=8)
    asked = requests(8)
    original = engine._batch  # type: ignore[attr-defined]

    def short_of_memory(batch: list[Request], sampling: Sampling) -> object:
        if any(r.key == "5" for r in batch):
            raise RuntimeError("CUDA out of memory")
        return original(batch, sampling)

    engine._batch = short_of_memory  # type: ignore[attr-defined]
    results = {r.key: r for r in engine.generate(asked, Sampling(max_new_tokens=20))}
    assert len(results) == 8
    assert results["5"].finish == "error"
    assert "CUDA out of memory" in results["5"].text
    assert all(r.finish != "error" and r.text for key, r in results.items() if key != "5")


def test_each_clip_once_and_again_nothing(make_workspace: Make, corpus: Path) -> None:
    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.batch_size=4")
    clips = context.split("train", "test", "anchor")
    first = context.ask(clips, by=0, round=1, limit=7)
    assert (first.written, first.generated) == (7, 7)
    second = context.ask(clips, by=0, round=1)
    assert (second.written, second.generated) == (13, 13)
    assert context.ask(clips, by=0, round=1).written == 0
    assert context.workspace.annotations(round=1)["clip_id"].n_unique() == 20
    third = context.ask(clips, by=0, round=2)
    assert (third.written, third.generated, third.reused) == (20, 0, 20), "an unchanged model writes nothing anew"
    assert context.workspace.generations().height == 20
    assert set(context.workspace.annotations(round=2)["generation_id"]) == set(context.workspace.generations()["id"])


@pytest.mark.slow
def test_changed_sampling_prompt_or_hints_are_new_keys(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    context = filled(make_workspace, corpus, "annotate.engine=fake")
    context.ask(context.split("train"), by=0, round=1)
    made = context.workspace.generations().height
    changes = (["annotate.max_new_tokens=5"], ["annotate.hints=[sounds]"], ["corpus.frames=4"])
    for number, overrides in enumerate(changes):
        other = RoundContext(make_workspace("annotate.engine=fake", *overrides))
        result = other.ask(other.split("train")[:3], by=0, round=7 + number)
        assert result.generated > 0, overrides
    assert context.workspace.generations().height > made


@pytest.mark.slow
def test_killed_between_generation_and_annotation(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was generated is committed and used; the text that was written stands."""
    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.commit_rows=8")

    class Killed(BaseException):
        pass

    def die(*_: object) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(context.workspace, "add_annotations", die)
        with pytest.raises(Killed):
            context.ask(context.split("train", "test", "anchor"), by=0, round=1)
    made = context.workspace.generations().height
    assert 0 < made <= 8
    assert context.workspace.annotations(round=1).is_empty()
    before = dict(context.workspace.generations().select("id", "text").iter_rows())
    result = context.ask(context.split("train", "test", "anchor"), by=0, round=1)
    assert (result.written, result.generated, result.reused) == (20, 20 - made, made)
    after = dict(context.workspace.generations().select("id", "text").iter_rows())
    assert before.items() <= after.items()


@pytest.mark.slow
def test_a_file_that_is_gone_is_a_rejected_row(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(corpus / "corpus", tmp_path / "copy")
    w = make_workspace("annotate.engine=fake")
    with w.lock():
        ingest(w, [str(tmp_path / "copy")])
    gone = sorted((tmp_path / "copy").glob("*.mp4"))[0]
    gone.unlink()
    context = RoundContext(w)
    result = context.ask(context.split("train", "test", "anchor"), by=0, round=1)
    assert (result.written, result.rejected) == (19, 1)
    row = w.rejected().to_dicts()[0]
    assert (Path(row["uri"]).name, row["stage"], row["reason"]) == (gone.name, "annotate", "the file is gone")


@pytest.mark.slow
def test_empty_text_is_tried_again_then_rejected(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotators.engines import fake

    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.max_tries=3")
    temperatures: list[float] = []
    original = fake._Engine.generate

    def mostly_empty(self: object, asked: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        temperatures.append(sampling.temperature)
        for r in original(self, asked, sampling):  # type: ignore[arg-type]
            yield replace(r, text=" \u200b") if int(r.key[:1], 16) < 8 or sampling.temperature == 0 else r

    monkeypatch.setattr(fake._Engine, "generate", mostly_empty)
    clips = context.split("train", "test", "anchor")
    result = context.ask(clips, by=0, round=1)
    assert temperatures == [0.0, 0.7, 0.7]
    assert result.written + result.rejected == 20
    assert 0 < result.rejected < 20
    assert set(context.workspace.rejected()["reason"]) == {"the model wrote nothing"}
    assert result.unhealthy == {"empty": 20 + 2 * result.rejected}
    kept = context.workspace.generations().join(context.workspace.annotations(), left_on="id", right_on="generation_id")
    assert all(json.loads(s)["temperature"] == 0.7 for s in kept["sampling"]), (
        "a retried text's record says how it was sampled"
    )


@pytest.mark.slow
def test_candidates_are_kept_and_the_best_is_chosen(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = filled(
        make_workspace, corpus, "annotate.engine=fake", "annotate.num_candidates=3", "annotate.temperature=0.8"
    )
    context.ask(context.split("test"), by=0, round=1)
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
    assert names() == ["fake", "grammar", "openai", "time_aware", "transformers", "vllm"]
    with pytest.raises(UserError, match="There are fake, grammar, openai, time_aware, transformers, vllm"):
        build("vlmm")


@pytest.mark.slow
def test_rejected_clips_are_tried_again_only_when_asked(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotators.engines import fake

    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.max_tries=1")
    original = fake._Engine.generate

    def loops(self: object, asked: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        for r in original(self, asked, sampling):  # type: ignore[arg-type]
            yield replace(r, text="a dog runs and " * 9) if int(r.key[:1], 16) < 8 else r

    clips = context.split("train", "test", "anchor")
    with monkeypatch.context() as patch:
        patch.setattr(fake._Engine, "generate", loops)
        first = context.ask(clips, by=0, round=1)
    assert first.rejected > 0
    assert first.unhealthy == {"loop": first.rejected}
    assert set(context.workspace.rejected()["reason"]) == {"the model repeats itself (a dog runs and)"}
    assert context.ask(clips, by=0, round=1).generated == 0, "a rejected clip is not tried by itself"
    again = context.ask(clips, by=0, round=1, retry=1)
    assert (again.generated, again.written) == (first.rejected, first.rejected)
    assert context.workspace.annotations(round=1).height == 20
    assert context.workspace.rejected(open_only=True).is_empty()


@pytest.mark.slow
def test_what_is_only_measured_is_kept_however_bad(
    make_workspace: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving loops out of an evaluation would flatter the model."""
    from annotators.engines import fake

    context = filled(make_workspace, corpus, "annotate.engine=fake")
    original = fake._Engine.generate
    monkeypatch.setattr(
        fake._Engine, "generate", lambda *a: (replace(r, text="la " * 40, finish="length") for r in original(*a))
    )
    assert context.ask(context.split("test"), by=0, round=0, purpose="measure").rejected == 0
    assert context.ask(context.split("train"), by=0, round=1).written == 0


@pytest.mark.slow
def test_figures_of_a_pass(make_workspace: Make, corpus: Path) -> None:
    """Decode calls of the first pass, none in the second; tokens and money."""
    context = filled(
        make_workspace,
        corpus,
        "annotate.engine=fake",
        "annotate.price_per_million_out=1000",
        "annotate.price_per_hour=0",
    )
    clips = context.split("train", "test", "anchor")
    first = context.ask(clips, by=0, round=1)
    assert (first.decodes, first.cache_hits) == (20, 0)
    assert first.tokens_out == 100
    assert first.money == pytest.approx(0.1)
    assert costs_of(context.workspace, 1, "caption")["money_per_kept_row"] == pytest.approx(0.005)
    assert 0 <= first.busy_share <= 1
    other = RoundContext(make_workspace("annotate.engine=fake", "annotate.max_new_tokens=7"))
    second = other.ask(clips, by=0, round=2)
    assert (second.generated, second.decodes, second.cache_hits) == (20, 0, 20)
    # A pass in parts, as after a kill, costs what its parts cost together.
    third = RoundContext(make_workspace("annotate.engine=fake", "annotate.max_new_tokens=9"))
    for limit in (6, None):
        third.ask(clips, by=0, round=3, limit=limit)
    assert costs_of(third.workspace, 3, "caption")["tokens_out"] == 100


def test_minimum_bayes_risk_takes_the_text_nearest_to_the_others() -> None:
    from annotators.selection import SELECTIONS
    from flywheel.core.types import Generation
    from flywheel.kinds import Reply

    def made(text: str, logprob: float) -> tuple[Generation, Reply]:
        generation = Generation(
            id=text,
            clip_id="c",
            prompt="p",
            model="m",
            adapter="",
            sampling="",
            candidate=0,
            text=text,
            token_ids=(1,),
            logprobs=(logprob,),
            tokens_in=1,
            tokens_out=1,
            seconds=0.0,
            finish="stop",
        )
        return generation, Reply(text=text)

    texts = [made("a cat sleeps", -0.1), made("a red ball rolls left", -0.5), made("a red ball rolls", -0.9)]
    assert SELECTIONS["logprob"](texts)[1].text == "a cat sleeps"
    assert SELECTIONS["mbr"](texts)[1].text in ("a red ball rolls left", "a red ball rolls")


@pytest.mark.slow
def test_decoders_work_while_the_engine_takes_what_lies_ready(make_workspace: Make, corpus: Path) -> None:
    """Small batches too: when the engine gets its first picture, the next ones are being decoded already,
    and never too many."""
    context = filled(make_workspace, corpus, "annotate.engine=fake", "annotate.batch_size=1", "annotate.decoders=2")
    asked: list[str] = []
    original, most = context.reader, 0

    def watched(clip: Clip, inputs: Iterable[str]) -> ClipInput:
        asked.append(clip.id)
        return original(clip, inputs)

    context.reader = watched  # type: ignore[assignment]
    from annotators.engines import fake

    taken = 0

    def generate(self: object, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        nonlocal taken, most
        for request in requests:
            time.sleep(0.05 if taken == 0 else 0)
            if taken == 0:
                wait_until = time.monotonic() + 10
                while len(asked) < 20 and len(asked) <= 8 and time.monotonic() < wait_until:
                    time.sleep(0.01)
                assert len(asked) > 8, "only the first pictures were decoded: the engine would wait for the others"
            taken += 1
            most = max(most, len(asked) - taken)
            yield from original_generate(self, [request], sampling)  # type: ignore[arg-type]

    original_generate = fake._Engine.generate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake._Engine, "generate", generate)
        result = context.ask(context.split("train", "test", "anchor"), by=0, round=1)
    assert result.written == 20
    assert most <= 24
