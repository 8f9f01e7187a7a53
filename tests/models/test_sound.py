"""A model that hears: the clip's sound reaches it from the file, and changes what it says.
A model without ears is said so at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from annotators import Request, Sampling, build
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm, without_weights
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from tests.models.tiny_omni import tiny_omni

Make = Callable[..., Workspace]


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_omni(tmp_path_factory.mktemp("omni"))


def muted(source: Path, out: Path) -> Path:
    """The same pictures, packet for packet, with silence for sound."""
    with av.open(str(source)) as original, av.open(str(out), "w") as copy:
        video, sound = original.streams.video[0], original.streams.audio[0]
        pictures = copy.add_stream_from_template(video)
        silence = copy.add_stream("aac", rate=sound.rate)
        for packet in original.demux(video):
            if packet.dts is not None:
                packet.stream = pictures
                copy.mux(packet)
        for frame in original_sound(source):
            quiet = av.AudioFrame.from_ndarray(
                np.zeros_like(frame.to_ndarray()), format=frame.format.name, layout=frame.layout.name
            )
            quiet.sample_rate, quiet.pts, quiet.time_base = frame.sample_rate, frame.pts, frame.time_base
            copy.mux(silence.encode(quiet))
        copy.mux(silence.encode(None))
    return out


def original_sound(source: Path) -> list[av.AudioFrame]:
    with av.open(str(source)) as container:
        return list(container.decode(container.streams.audio[0]))


@pytest.fixture
def pair(make_workspace: Make, corpus: Path, tmp_path: Path, omni: Path) -> RoundContext:
    """A clip and its muted copy."""
    folder = tmp_path / "videos"
    folder.mkdir()
    source = next(p for p in sorted((corpus / "corpus").glob("*.mp4")))
    shutil.copy(source, folder / "loud.mp4")
    muted(source, folder / "mute.mp4")
    w = make_workspace(
        f"corpus.model={omni}", "corpus.sound=true", "annotate.max_new_tokens=32", "annotate.max_tries=1"
    )
    with w.lock():
        ingest(w, [str(folder)])
    return RoundContext(w)


@pytest.mark.slow
def test_muted_and_unmuted_give_different_inputs(pair: RoundContext, omni: Path) -> None:
    loud, mute = (pair.input(c.id) for c in sorted(pair.clips.values(), key=lambda c: c.uri))
    np.testing.assert_array_equal(loud.frames_THWC, mute.frames_THWC)
    assert loud.sound is not None
    assert mute.sound is not None
    assert np.abs(loud.sound).max() > 0.05
    assert np.abs(mute.sound).max() < 1e-3
    vlm = load_vlm(omni)
    builder = InputBuilder(vlm.processor)
    batch = builder.build([loud, mute], ["What is heard?"] * 2)
    assert not torch.equal(batch["input_features"][0], batch["input_features"][1])
    torch.testing.assert_close(*batch["pixel_values_videos"].chunk(2))
    with torch.inference_mode():
        logits = vlm.model(**batch).logits[:, -1]
    assert float((logits[0] - logits[1]).abs().max()) > 1e-2, "what it hears must move what it says"
    # Cached: the second look decodes neither pictures nor sound.
    before = pair.workspace.cache.decodes
    again = pair.input(next(c.id for c in pair.clips.values() if c.uri.endswith("loud.mp4")))
    np.testing.assert_array_equal(again.sound, loud.sound)
    assert pair.workspace.cache.decodes == before


@pytest.mark.slow
def test_sound_is_part_of_what_is_written(pair: RoundContext) -> None:
    """Engine, store and key: with its ears shut the same model writes other generations."""
    clips = list(pair.clips.values())
    result = pair.ask(clips, by=0, round=1, purpose="measure")
    heard = pair.workspace.generations()
    assert heard.height == 2
    assert heard["logprobs"][0].to_list() != heard["logprobs"][1].to_list()
    assert result.hearing is not None
    assert result.hearing["ears"] == "hears"
    deaf = RoundContext(
        Workspace.open(
            pair.workspace.root, ["tracking.enabled=false", "annotate.max_new_tokens=32", f"corpus.model={pair.base}"]
        )
    )
    deaf.ask(clips, by=0, round=2, purpose="measure")
    assert deaf.workspace.generations().height == 4
    shorter = deaf.workspace.generations()["tokens_in"].to_list()
    assert max(shorter[2:]) < min(shorter[:2])
    deaf.workspace.database.close()


@pytest.mark.slow
def test_of_a_model_that_speaks_the_thinker_is_loaded(tmp_path: Path, omni: Path) -> None:
    """As hubs have them: with a voice, whose file of speakers is a pickle. The same words, and no pickle is opened."""
    whole = load_vlm(tiny_omni(tmp_path / "whole", published=True), inputs=("sound",))
    thinker = load_vlm(omni, inputs=("sound",))
    assert type(whole.model) is type(thinker.model)
    sound = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 4
    clip = ClipInput(key="c", duration_s=1.0, fps=10.0, sound=sound)
    requests = [Request(key="c", clip=clip, prompt="What is heard?")]
    texts = [
        list(
            build("transformers", vlm=v, builder=InputBuilder(v.processor)).generate(
                requests, Sampling(max_new_tokens=8)
            )
        )
        for v in (whole, thinker)
    ]
    assert texts[0][0].token_ids == texts[1][0].token_ids
    long = replace(clip, sound=np.zeros(16_000 * 5, np.float32))
    with pytest.raises(ValueError, match=r"5\.0 s of sound are more than the 4\.0 s that the model hears"):
        InputBuilder(thinker.processor).row(long, "What is heard?")
    assert without_weights(tmp_path / "whole", "fp32").num_parameters() == thinker.model.num_parameters()


@pytest.mark.slow
def test_a_model_without_ears(make_workspace: Make, corpus: Path) -> None:
    w = make_workspace("corpus.sound=true")
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    context = RoundContext(w)
    with pytest.raises(UserError, match=r"corpus.sound: .* takes no audio"):
        context.ask(context.split("test"), by=0, round=1)
