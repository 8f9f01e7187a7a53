"""An encoder learns from features of frozen models in local folders, which are made once a clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models import encoders
from flywheel.models.encoder_files import load_encoder, save_encoder
from flywheel.models.encoders import SOUND, VIDEO
from flywheel.models.frozen import FrozenPictures, FrozenSounds
from flywheel.rounds.encoder_clips import ClipReader
from flywheel.search.in_use import encoder_folder
from flywheel.search.indexing import index
from flywheel.search.searching import Searcher, SearchQuery
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from tests.models.tiny_towers import tiny_dinov2, tiny_whisper
from trainers.leak import check_alone, leak_of, unrelated

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("frozen")
    return {"pictures": str(tiny_dinov2(folder / "dinov2")), "sounds": str(tiny_whisper(folder / "whisper"))}


def test_features_are_the_models_own(folders: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    seer, hearer = FrozenPictures(Path(folders["pictures"])), FrozenSounds(Path(folders["sounds"]))
    frames = rng.integers(0, 255, (3, 40, 64, 3), dtype=np.uint8)
    model, processor = seer.parts()
    own = model(**processor(list(frames), return_tensors="pt")).last_hidden_state.mean(1)
    torch.testing.assert_close(seer.features(frames), own, atol=1e-5, rtol=0)
    # A second of two is heard: half of the model's times, two layers.
    second = rng.normal(0, 0.1, 16_000).astype(np.float32)
    model, extractor = hearer.parts()
    inputs = extractor(second, sampling_rate=16_000, return_tensors="pt")["input_features"]
    layers = model.get_encoder()(inputs, output_hidden_states=True).hidden_states
    own = torch.stack(layers[1:]).mean(0)[0, :50]
    torch.testing.assert_close(hearer.features(second, 50), own, atol=1e-5, rtol=0)
    # Five seconds in three parts, and hardly any sound.
    assert hearer.features(rng.normal(0, 0.1, 80_000).astype(np.float32), 8).shape == (8, 16)
    assert torch.isfinite(hearer.features(np.zeros(1, np.float32), 8)).all()


def test_an_encoder_of_frozen_features_does_not_leak(folders: dict[str, str]) -> None:
    encoder = encoders.build("dual", width=32, hidden=48, frames=2, times=16, bands=16, **folders)
    assert sum(weight.numel() for weight in encoder.parameters()) < 20_000, "the frozen models are no weights of it"
    check_alone(encoder, unrelated(encoder, 4, torch.Generator().manual_seed(0)))
    assert not leak_of(encoder).leaks


def test_a_clips_features_are_made_once_and_it_is_found(
    real_clips: Path, folders: dict[str, str], make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = f"index.sizes={{width: 16, hidden: 16, frames: 2, times: 16, pictures: {folders['pictures']}, "
    settings = (f"{sizes} sounds: {folders['sounds']}}}", "index.encoder=dual", "index.steps=3", "index.batch=2")
    w = make_workspace(*settings, "corpus.most_unreadable=1")
    made: list[str] = []
    for front in (FrozenPictures, FrozenSounds):
        make = front.features
        monkeypatch.setattr(front, "features", lambda *what, make=make: made.append("") or make(*what))
    with w.lock():
        ingest(w, [str(real_clips)])
        done = index(w)
    assert (done.video, done.width) == (w.count("clips"), 16)
    assert len(made) == done.video + done.sound, "in training and for vectors: once"
    searcher, clips = Searcher(w), {row["id"]: row for row in w.clips().iter_rows(named=True)}
    file = next(Path(row["uri"]) for row in clips.values() if row["has_audio"])
    assert len(searcher.search(SearchQuery(like=file, limit=50))) == len(clips)
    # The same to the bit from the cache, and from a damaged one.
    reader = ClipReader(w, searcher.encoder, kept=False)
    clip = next(clip for clip in ClipIndex(w).of("train", "test", "anchor") if clip.has_audio)
    before = reader.video(clip), reader.sound(clip)
    for kept in w.cache.folder.rglob("*.npy"):
        kept.write_bytes(b"torn")
    again = ClipReader(w, searcher.encoder, kept=False)
    assert all(torch.equal(a, b) for a, b in zip(before, (again.video(clip), again.sound(clip)), strict=True))
    # Another model in the folder is another front end.
    tiny_dinov2(Path(folders["pictures"]), seed=1)
    with pytest.raises(UserError, match="are others than it was trained with") as caught:
        load_encoder(encoder_folder(w))
    assert "\n" not in str(caught.value)
    tiny_dinov2(Path(folders["pictures"]))


@pytest.mark.parametrize("what", ["none", "empty", "other"])
def test_a_folder_that_holds_no_front_end_is_one_line(folders: dict[str, str], tmp_path: Path, what: str) -> None:
    folder = tmp_path / "model"
    if what != "none":
        folder.mkdir()
    if what == "other":
        (folder / "config.json").write_text('{"model_type": "nobody_knows"}')
        (folder / "model.safetensors").write_bytes(b"")
    for name in (VIDEO, SOUND):
        with pytest.raises(UserError, match=str(folder)) as caught:
            encoders.build("dual", **{{VIDEO: "pictures", SOUND: "sounds"}[name]: str(folder)})
        assert "\n" not in str(caught.value)
    save_encoder(encoders.build("dual", width=16, hidden=16), tmp_path / "plain")
    assert load_encoder(tmp_path / "plain").width == 16
