"""A model that is told when: times as queries name them, the attention that finds them, and its own files as a role."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from annotators.interface import Request, Sampling
from annotators.writer import AskedModel, Writer
from flywheel.core.config import Model
from flywheel.core.errors import UserError
from flywheel.models.inputs import ClipInput
from flywheel.models.loader import Loader
from flywheel.models.time_aware import Resampler, spans_of, time_features
from flywheel.models.time_aware.files import CARD, load_model, new_model, save_model
from trainers.time_aware import Plan, fit


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("From 00:00:03.200 to 00:00:06.400, what is seen?", [(3.2, 6.4)]),
        ("[00:00:01, 00:00:13]", [(1.0, 13.0)]),
        ("A. 0:05 - 0:07\nB. 0:10 until 1:00:00", [(5.0, 7.0), (10.0, 3600.0)]),
        ("What is heard at 01:05.5? And at 0:03?", [(65.5, 65.5), (3.0, 3.0)]),
        ("From 0:09 to 0:04", [(9.0, 9.0), (4.0, 4.0)]),
        ("The score is 3:2, in 12.30 m, 10:3 or 1:2:3", []),
    ],
)
def test_spans_of_time_in_words(text: str, spans: list[tuple[float, float]]) -> None:
    assert spans_of(text) == spans


def test_times_that_overlap_are_alike() -> None:
    starts = torch.arange(0, 3200, 3.2)
    shots = time_features(torch.stack([starts, starts + 3.2], dim=-1))
    inside = time_features(torch.stack([starts + 1.0, starts + 1.8], dim=-1))
    assert torch.equal((inside @ shots.T).argmax(1), torch.arange(len(starts))), "of an hour's shots it is the own one"
    assert time_features(torch.tensor([[5.0, 5.0]])).square().sum() == pytest.approx(16.0, rel=1e-5)


def test_a_time_finds_what_is_there_before_anything_is_learned() -> None:
    torch.manual_seed(0)
    resampler = Resampler(seen_width=8, heard_width=8, width=64, states=2, spans=3, heads=4)
    starts = 3.2 * torch.arange(8.0)
    span = torch.stack([starts, starts + 3.2], dim=-1)[None]
    tokens, none = torch.randn(1, 8, 8), torch.zeros(1, 0, 8)
    named, there = torch.tensor([[True, False, False]]), torch.ones(1, 8, dtype=torch.bool)
    asked = torch.zeros(1, 3, 2)
    asked[0, 0] = torch.tensor([9.6, 12.8])

    def states(seen: torch.Tensor, present: torch.Tensor = there) -> torch.Tensor:
        with torch.no_grad():
            made: torch.Tensor = resampler(seen, span, none, torch.zeros(1, 0, 2), present, asked, named)
        return made

    before = states(tokens)
    assert before.shape == (1, 5, 64), "two of its own and three for times, whatever there is to see"
    moved = []
    for place in range(8):
        other = tokens.clone()
        other[0, place] = -other[0, place]
        moved.append(float((states(other) - before)[0, 2].norm()))
    assert int(np.argmax(moved)) == 3
    assert moved[3] > 3 * sorted(moved)[-2]
    absent = there.clone()
    absent[0, 5:] = False
    padded = tokens.clone()
    padded[0, 5:] = 99.0
    assert torch.allclose(states(padded, absent), states(tokens, absent)), "what is not there says nothing"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_is_trained_is_kept_and_answers_as_a_role(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoders, model = new_model(states=2, rank=4)
    frozen = {name: value.clone() for name, value in model.state_dict().items() if name not in model.learned()}
    rng = np.random.default_rng(2)
    clip = ClipInput(
        key="clip",
        duration_s=3.2,
        fps=10.0,
        frames_THWC=rng.integers(0, 255, (4, 64, 128, 3), dtype=np.uint8),
        times_s=(0.4, 1.2, 2.0, 2.8),
        sound=(0.1 * rng.normal(size=51_200)).astype(np.float32),
    )
    perceived = encoders(clip)
    assert [len(perceived.seen_VD), len(perceived.heard_AD)] == [2, 2]
    queries = ["From 0:00 to 0:02, what is seen?", "From 0:02 to 0:04, what is seen?"]
    rows = [(perceived, query, answer) for query, answer in zip(queries, ("a bell", "a drum"), strict=True)]
    losses = fit(model, iter(lambda: rows, None), Plan(steps=30, learning_rate=3e-3))
    assert losses[-1] < 0.1 * losses[0]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in frozen.items())
    save_model(model, tmp_path / "model", steps=30)
    card = json.loads((tmp_path / "model" / CARD).read_text())
    assert (card["steps"], card["parts"]["audio"]["folder"]) == (30, "bundled-ears")
    asked = AskedModel(
        role="timely",
        folder=tmp_path / "model",
        settings=Model(folder="model", engine="time_aware"),
        inputs=frozenset({"frames"}),
    )
    with Writer(asked, Loader(), batch_size=2) as writer:
        writer.check()
        requests = [Request(key=query, clip=clip, prompt=query) for query in queries]
        results = list(writer.engine(lambda: requests).generate(requests, Sampling(max_new_tokens=8)))
    written = [model.write(perceived, query, 8)[0] for query in queries]
    assert [list(r.token_ids) for r in results] == written, "as it was before it was kept"
    assert [r.finish for r in results] == ["stop", "stop"]
    card["parts"]["vision"]["digest"] = "0" * 16
    (tmp_path / "model" / CARD).write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"was learned on other weights of bundled-eyes \(vision\)"):
        load_model(tmp_path / "model")
    with pytest.raises(UserError, match="is no time-aware model"):
        load_model(tmp_path)
