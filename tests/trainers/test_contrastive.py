"""Encoders are trained: the gradient of large batches is the plain one, resume is exact, nothing leaks."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_bed import TINY, Made, tiny
from safetensors import safe_open
from safetensors.torch import save_file

from flywheel.core.errors import UserError
from flywheel.metrics.retrieval import recall_at
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Encoder
from flywheel.models.encoders._literal import LiteralTrimodal
from trainers.contrastive import ContrastiveSettings, gradients, train_encoder
from trainers.leak import check_alone, leak_of, unrelated


def _gradient(encoder: Encoder, chunk: int, size: int = 12) -> tuple[dict[str, float], torch.Tensor]:
    batch = unrelated(encoder, size, torch.Generator().manual_seed(1))
    batch.present[SOUND][2] = False
    batch.present[TEXT][5] = False
    batch.same[VIDEO][3] = batch.same[VIDEO][4]
    encoder.zero_grad()
    torch.manual_seed(3)
    losses = gradients(encoder, batch, chunk=chunk, generator=torch.Generator().manual_seed(2))
    return losses, torch.cat([w.grad.flatten() for w in encoder.parameters() if w.grad is not None])


@pytest.mark.parametrize("name", ["dual", "trimodal"])
def test_the_gradient_in_chunks_is_the_plain_one(name: str) -> None:
    encoder = tiny(name).double().eval()
    losses, plain = _gradient(encoder, chunk=12)
    cached_losses, cached = _gradient(encoder, chunk=5)
    assert cached_losses == pytest.approx(losses, rel=1e-6)
    assert plain.abs().max() > 1e-3
    torch.testing.assert_close(cached, plain, rtol=1e-6, atol=1e-8)


def test_what_is_dropped_out_is_the_same_in_both_passes_of_a_chunk() -> None:
    encoder = tiny("dual").double().train()
    _, cached = _gradient(encoder, chunk=6)
    # The plain gradient, of vectors that were made in chunks of six too: dropout draws as it did there.
    encoder.zero_grad()
    batch = unrelated(encoder, 12, torch.Generator().manual_seed(1))
    batch.present[SOUND][2] = False
    batch.same[VIDEO][3] = batch.same[VIDEO][4]
    torch.manual_seed(3)
    pieces = [encoder.vectors(batch.part(start, start + 6)) for start in (0, 6)]
    vectors = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    encoder.contrast(vectors, batch, torch.Generator())["contrast/video-sound"].backward()
    plain = torch.cat([w.grad.flatten() for w in encoder.parameters() if w.grad is not None])
    torch.testing.assert_close(cached, plain, rtol=1e-6, atol=1e-8)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    settings = ContrastiveSettings(steps=6, batch=8, chunk=8, warm_up=2, validate_every=2)

    class Stopped(Exception):
        pass

    class StopsAt:
        def log(self, values: dict[str, float], step: int) -> None:
            if step == 5:
                raise Stopped

    def train(folder: str, sink: StopsAt | None = None, settings: ContrastiveSettings = settings) -> Encoder:
        encoder = tiny("dual")
        train_encoder(encoder, Made(encoder, 40), Made(encoder, 16, seed=1), tmp_path / folder, settings, sink)
        return encoder

    whole = train("whole")
    with pytest.raises(Stopped):
        train("stopped", StopsAt())
    resumed = train("stopped")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert encoder_id(tmp_path / "whole") == encoder_id(tmp_path / "stopped")
    assert torch.equal(load_encoder(tmp_path / "whole").places[SOUND], whole.places[SOUND])  # type: ignore[index,union-attr]
    again = tiny("dual")
    with pytest.raises(UserError, match="other settings, clips or texts"):
        train_encoder(again, Made(again, 40, seed=2), Made(again, 16, seed=1), tmp_path / "stopped", settings)
    with pytest.raises(UserError, match="other settings, clips or texts"):
        train("stopped", settings=ContrastiveSettings(steps=6, batch=4, chunk=8, warm_up=2, validate_every=2))
    # What an older version stopped says not of which texts it is: it begins anew.
    file = tmp_path / "stopped" / "training.safetensors"
    with safe_open(file, "pt") as kept:
        state = json.loads(kept.metadata()["state"])
        tensors = {name: torch.zeros_like(kept.get_tensor(name)) for name in kept.keys()}  # noqa: SIM118 (no mapping)
    del state["settings"]["digests"]
    save_file(tensors, file, metadata={"state": json.dumps(state)})
    train("stopped")
    assert encoder_id(tmp_path / "whole") == encoder_id(tmp_path / "stopped")
    assert not list(tmp_path.rglob("*.part"))
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} == {".json", ".safetensors"}


def test_what_is_equal_is_no_negative() -> None:
    encoder = tiny("trimodal")
    batch = unrelated(encoder, 6, torch.Generator().manual_seed(0))
    vectors = {name: vector.detach() for name, vector in encoder.vectors(batch).items()}
    for clip in range(1, 6):
        batch.same[SOUND][clip] = batch.same[SOUND][0]
    with torch.no_grad():
        losses = encoder.contrast(vectors, batch, torch.Generator().manual_seed(0))
    # All have the same sound: there is nothing to tell apart.
    assert losses["contrast/sound-video"] == pytest.approx(0, abs=1e-6)
    assert losses["matching/sound-video"] == 0


def test_a_batch_in_which_no_clip_has_both_costs_nothing() -> None:
    encoder = tiny("trimodal")
    batch = unrelated(encoder, 4, torch.Generator().manual_seed(0))
    batch.present[SOUND][:] = torch.tensor([True, True, False, False])
    batch.present[TEXT][:] = torch.tensor([False, False, True, True])
    losses = gradients(encoder, batch, chunk=4, generator=torch.Generator().manual_seed(0))
    assert losses["contrast/sound-text"] == losses["matching/sound-text"] == 0
    assert losses["contrast/sound-video"] > 0
    assert all(torch.isfinite(weight.grad).all() for weight in encoder.parameters() if weight.grad is not None)


def test_a_batch_of_one_is_refused(tmp_path: Path) -> None:
    encoder = tiny("dual")
    with pytest.raises(UserError, match="two train clips or more to tell apart, got 1"):
        train_encoder(encoder, Made(encoder, 1), Made(encoder, 4), tmp_path / "x", ContrastiveSettings())
    assert not (tmp_path / "x").exists()


def test_an_encoder_whose_vectors_see_other_modalities_is_refused(tmp_path: Path) -> None:
    literal = _literal()
    with pytest.raises(UserError, match="its vectors of video change with the clip's sound and text"):
        train_encoder(literal, Made(literal, 8), Made(literal, 8), tmp_path / "x", ContrastiveSettings())
    assert "literal" not in "".join(encoders.names())
    for name in TINY:
        check_alone(tiny(name), unrelated(tiny(name), 3, torch.Generator().manual_seed(0)))


def _literal() -> LiteralTrimodal:
    encoder = tiny("trimodal")
    literal = LiteralTrimodal.__new__(LiteralTrimodal)
    literal.__dict__.update(encoder.__dict__)
    return literal


@pytest.mark.slow
@pytest.mark.parametrize("name", encoders.names())
def test_no_registered_encoder_leaks(name: str) -> None:
    leak = leak_of(tiny(name))
    assert not leak.leaks, leak


@pytest.mark.slow
def test_the_whole_clips_vector_teaches_and_does_not_leak() -> None:
    torch.manual_seed(0)
    encoder = encoders.build("trimodal", **TINY["trimodal"], local_weight=0.0, fused_weight=5.0)
    batch = Made(encoder, 12).batch(np.arange(12))
    with torch.no_grad():
        losses = encoder.local(batch, encoder.masks(batch, torch.Generator()))
    assert set(losses) == {f"fused/{name}" for name in encoders.ALL}
    assert all(0 < float(loss.min()) <= float(loss.max()) < 2 for loss in losses.values())
    # A clip that has nothing but its picture is what the whole is; of what it lacks there is no loss.
    alone = {name: torch.full((12,), name == VIDEO) for name in encoders.ALL}
    with torch.no_grad():
        losses = encoder.local(replace(batch, present=alone), {})
    torch.testing.assert_close(losses["fused/video"], torch.zeros(12), atol=1e-5, rtol=0)
    assert not losses["fused/text"].any()
    leak = leak_of(encoder)
    assert not leak.leaks, leak


@pytest.mark.slow
def test_the_papers_single_pass_leaks() -> None:
    leak = leak_of(_literal())
    assert leak.leaks
    assert max(leak.loss_shares.values()) < 0.5
    assert max(leak.recalls.values()) < 0.1, "and yet it finds nothing"


@pytest.mark.slow
@pytest.mark.parametrize("name", encoders.names())
def test_clips_that_belong_together_are_found(name: str, tmp_path: Path) -> None:
    encoder = tiny(name)
    settings = ContrastiveSettings(steps=80, batch=32, chunk=32, warm_up=10, validate_every=40)
    made = Made(encoder, 256)
    trained = train_encoder(encoder, made, Made(encoder, 64, seed=1), tmp_path / "encoder", settings)
    assert trained.step > 0
    kinds = Made(encoder, 64, seed=2)
    batch = kinds.batch(np.array([int(np.flatnonzero(kinds._class == kind)[0]) for kind in range(8)]))
    with torch.no_grad():
        vectors = {key: value.numpy() for key, value in encoder.vectors(batch).items()}
    for first in vectors:
        for second in vectors:
            if first != second:
                assert recall_at(vectors[first] @ vectors[second].T, np.arange(8), 1) >= 5 / 8, (first, second)
    assert all(math.isfinite(value) for value in trained.validation.values())
