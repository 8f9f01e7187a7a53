"""Front ends and shapes of encoders: what clips become before vectors are made of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flywheel.core.errors import UserError
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, load_encoder, save_encoder
from flywheel.models.encoders import SOUND, VIDEO
from flywheel.models.encoders._pictures import patches, squares, unpatched
from flywheel.models.encoders._spectrogram import SpectrogramShape, spectrograms
from flywheel.models.encoders._words import BEGIN, FIRST_WORD, PAD, hashed_words
from flywheel.models.encoders.trimodal import PAPER, Trimodal


def test_patches_are_put_back_where_they_were() -> None:
    pictures = torch.arange(2 * 3 * 16 * 24 * 3).reshape(2, 3, 16, 24, 3)
    cut = patches(pictures, 8)
    assert cut.shape == (2, 3, 6, 192)
    # The second patch of the first line begins eight pixels to the right.
    assert torch.equal(cut[0, 0, 1, :3], pictures[0, 0, 0, 8])
    assert torch.equal(unpatched(cut, 8, 16, 24), pictures)


def test_frames_are_chosen_evenly_and_scaled() -> None:
    frames = torch.zeros((1, 8, 20, 30, 3), dtype=torch.uint8) + 10 * torch.arange(8).view(1, 8, 1, 1, 1).byte()
    assert squares(frames, 4, 8)[0, :, 0, 0, 0].tolist() == [10, 30, 50, 70]
    assert squares(frames[:, :1], 4, 8).shape == (1, 4, 8, 8, 3)
    with pytest.raises(ValueError, match="at least one a clip"):
        squares(frames[:, :0], 4, 8)


@pytest.mark.parametrize("scale", ["log", "mel"])
def test_a_tone_is_loud_in_the_band_of_its_frequency(scale: str) -> None:
    shape = SpectrogramShape(bands=32, times=8, scale=scale)  # type: ignore[arg-type]
    times_s = np.arange(16_000, dtype=np.float32) / 16_000
    tones = np.stack([np.sin(2 * np.pi * hz * times_s) for hz in (150, 600, 2400)])
    found = spectrograms(torch.from_numpy(tones), shape)
    assert found.shape == (3, 32, 8)
    bands = found.mean(2).argmax(1).tolist()
    assert bands == sorted(set(bands))
    if scale == "log":
        # Twice two octaves are as far apart.
        assert bands[2] - bands[1] == pytest.approx(bands[1] - bands[0], abs=1)
    # Loud in the second half alone.
    half = spectrograms(torch.from_numpy(tones * (times_s > 0.5)), shape)
    assert half[1, bands[1], 6] > half[1, bands[1], 1] + 0.5


def test_silence_and_short_sounds_have_their_spectrogram() -> None:
    shape = SpectrogramShape(bands=16, times=8)
    assert torch.equal(spectrograms(torch.zeros((1, 4000)), shape), torch.full((1, 16, 8), -1.0))
    assert torch.isfinite(spectrograms(torch.ones((1, 3)), shape)).all()
    with pytest.raises(ValueError, match="got nan"):
        spectrograms(torch.tensor([[0.0, float("nan")]]), shape)


def test_words_have_the_same_number_wherever_they_stand() -> None:
    ids = hashed_words(["A red ball.", "ball, RED", "", "Ünïcode 狗"], 5, 1000)
    assert ids[:, 0].tolist() == [BEGIN] * 4
    assert ids[0, 2] == ids[1, 2]
    assert ids[0, 3] == ids[1, 1]
    assert ids[2, 1:].tolist() == [PAD] * 4
    assert (ids[3, 1:3] >= FIRST_WORD).all()
    long = hashed_words(["word " * 10_000], 5, 1000)
    assert (long[0, 1:] >= FIRST_WORD).all()


def test_the_papers_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        paper = encoders.build("trimodal", **PAPER)
    assert isinstance(paper, Trimodal)
    assert [len(paper.places[name]()) for name in encoders.ALL] == [1568, 256, 40]
    # 156 M in the paper, which does not say the decoder's sizes.
    assert sum(weight.numel() for weight in paper.parameters()) == 151_225_916
    assert paper.spectrogram.rate_hz == 11_000


def test_exactly_three_of_four_patches_are_hidden() -> None:
    encoder = encoders.build("trimodal", width=16, heads=2, decoder_width=8, words=8, frames=2)
    batch = encoders.Batch(
        video=torch.zeros((3, 2, 64, 64, 3), dtype=torch.uint8),
        sound=torch.zeros((3, 64, 64)),
        text=encoder.read_text(["one two three", "four", ""]),
        present={name: torch.ones(3, dtype=torch.bool) for name in encoders.ALL},
        same={name: torch.arange(3) for name in encoders.ALL},
    )
    masks = encoder.masks(batch, torch.Generator().manual_seed(0))
    assert masks[VIDEO].view(3, 2, 16).sum(2).unique().tolist() == [12]
    assert masks[SOUND].sum(1).unique().tolist() == [12]
    words = masks["text"]
    assert words.sum(1).tolist() == [1, 1, 0], "each text gives a word, an empty one none"
    assert not words[:, 0].any()
    losses = encoder.local(batch, masks)
    assert {name: loss.shape for name, loss in losses.items()} == {f"masked/{name}": (3,) for name in encoders.ALL}
    torch.stack([loss.sum() for loss in losses.values()]).sum().backward()
    assert isinstance(encoder, Trimodal)
    assert all(head.weight.grad.abs().sum() > 0 for head in encoder.heads.values())  # type: ignore[union-attr,operator]


def test_vectors_are_unit_and_of_what_the_encoder_knows() -> None:
    encoder = encoders.build("dual", width=16, hidden=16)
    video = encoder.embed_video(np.zeros((2, 3, 40, 30, 3), np.uint8))
    sound = encoder.embed_audio(np.zeros((2, 1600), np.float32))
    assert video.shape == sound.shape == (2, 16)
    torch.testing.assert_close(video.norm(dim=1), torch.ones(2))
    with pytest.raises(ValueError, match="'dual': makes no vectors of text"):
        encoder.embed_text(["a dog"])


def test_an_encoder_comes_back_from_its_folder(tmp_path: Path) -> None:
    encoder = encoders.build("dual", width=16, hidden=16)
    save_encoder(encoder, tmp_path / "e", step=7)
    again = load_encoder(tmp_path / "e")
    sound = np.random.default_rng(0).normal(size=(1, 4000)).astype(np.float32)
    assert torch.equal(encoder.embed_audio(sound), again.embed_audio(sound))
    assert json.loads((tmp_path / "e" / "encoder.json").read_text())["step"] == 7
    name = encoder_id(tmp_path / "e")
    save_encoder(encoders.build("dual", width=16, hidden=16), tmp_path / "e")
    assert encoder_id(tmp_path / "e") != name


@pytest.mark.parametrize("damage", ["card", "weights", "sizes", "gone"])
def test_a_damaged_folder_is_one_line(tmp_path: Path, damage: str) -> None:
    save_encoder(encoders.build("dual", width=16, hidden=16), tmp_path)
    card, weights = tmp_path / "encoder.json", tmp_path / "encoder.safetensors"
    if damage == "card":
        card.write_text("{")
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "sizes":
        card.write_text(card.read_text().replace('"width": 16', '"width": 24'))
    else:
        weights.unlink()
    with pytest.raises(UserError, match=str(tmp_path)) as caught:
        load_encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(UserError, match=r"encoder 'trimodel': unknown\. Did you mean 'trimodal'"):
        encoders.build("trimodel")
    with pytest.raises(UserError, match=r"unknown argument 'widht'\. Did you mean 'width'"):
        encoders.build("dual", widht=3)
    with pytest.raises(ValueError, match="that heads divide"):
        encoders.build("trimodal", width=30, heads=4)
