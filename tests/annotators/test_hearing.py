"""A model that is given sound must be seen to hear it: engines that drop it and deaf or inattentive models are not."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotators import Request, Result, Sampling, build
from annotators.ear_canaries import ear_canaries
from annotators.hearing import Ears, HearingProof, prove_hearing
from flywheel.core.errors import ProofFailed
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import Vlm, load_vlm
from flywheel.playground.tiny import bundled_model
from tests.annotators.test_vllm import ENVIRONMENT
from tests.chat_server import models, reply, serving
from tests.models.tiny_omni import tiny_omni

#: At so small a part of its loudness the ears move log-probs and no word.
FAINT = 0.02
SHORT = Sampling(max_new_tokens=8)
TIME = np.arange(2 * 16_000) / 16_000


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_omni(tmp_path_factory.mktemp("omni"))


@pytest.fixture
def vlm(omni: Path) -> Vlm:
    return load_vlm(omni, inputs=("sound",))


def questions(number: int = 4, loud: float = 0.3) -> list[Request]:
    noise = np.random.default_rng(0).standard_normal((number, len(TIME)))
    sounds = [loud * np.sin(2 * np.pi * (150 + 400 * n) * TIME) + loud * (n % 2) * noise[n] for n in range(number)]
    clips = [ClipInput(key=f"c{n}", duration_s=2.0, fps=10.0, sound=s.astype(np.float32)) for n, s in enumerate(sounds)]
    return [Request(key=clip.key, clip=clip, prompt="What is heard?") for clip in clips]


def of_engine(vlm: Vlm, requests: list[Request]) -> HearingProof:
    engine = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor))
    return prove_hearing(engine, ear_canaries(requests), SHORT)


def test_a_model_that_hears_is_seen_to(vlm: Vlm) -> None:
    proof = of_engine(vlm, questions())
    assert proof.ears is Ears.HEARS
    assert (proof.muted, proof.foreign, proof.noise, proof.made) == (1.0, 1.0, 0.0, 0)
    assert proof.tokens is not None
    assert proof.tokens > 40, "two seconds of sound are 50 tokens"


@pytest.mark.slow
def test_silent_clips_prove_by_sounds_that_are_made(vlm: Vlm) -> None:
    proof = of_engine(vlm, questions(2, loud=0.0))
    assert (proof.ears, proof.canaries, proof.made) == (Ears.HEARS, 4, 4)
    alike = [
        replace(question, clip=replace(question.clip, sound=questions(1)[0].clip.sound)) for question in questions()
    ]
    assert [canary.made for canary in ear_canaries(alike)[0]] == [True] * 4, "one sound in all clips proves nothing"
    assert ear_canaries([]) == []


@pytest.mark.slow
def test_a_deaf_model_is_not_one_that_pays_no_attention(vlm: Vlm) -> None:
    """Its sound comes in as tokens either way; what these do with the log-probs tells the two apart."""
    with torch.no_grad():
        vlm.model.audio_tower.proj.bias.fill_(1.0)
        vlm.model.audio_tower.proj.weight.mul_(FAINT)
        inattentive = of_engine(vlm, questions())
        vlm.model.audio_tower.proj.weight.zero_()
        deaf = of_engine(vlm, questions())
    assert (inattentive.ears, deaf.ears) == (Ears.IGNORES, Ears.DEAF)
    assert deaf.muted_nats <= 1e-5
    assert inattentive.muted_nats > 1e-3
    assert deaf.tokens == inattentive.tokens
    assert "hears and pays no attention" in str(inattentive)
    assert "deaf" in str(deaf)


@pytest.mark.slow
def test_a_model_without_ears_and_an_engine_that_drops_the_sound(vlm: Vlm) -> None:
    """The chat template of the bundled model leaves sound out without a word, and so do engines."""
    eyes = load_vlm(bundled_model())
    no_ears = of_engine(eyes, questions())
    assert (no_ears.ears, no_ears.tokens) == (Ears.DROPS, 0.0)

    class Dropping:
        def __init__(self) -> None:
            self.inner = build("transformers", vlm=vlm, builder=InputBuilder(vlm.processor))

        def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
            return self.inner.generate([replace(request, clip=None) for request in requests], sampling)

    dropped = prove_hearing(Dropping(), ear_canaries(questions()), SHORT)  # type: ignore[arg-type]
    assert (dropped.ears, dropped.tokens) == (Ears.DROPS, 0.0)
    assert "the engine drops the sound" in str(dropped)


def test_noise_of_an_engine_is_no_hearing() -> None:
    """One that never says the same twice says nothing by saying other things."""
    rng = np.random.default_rng(0)

    class Noisy:
        def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
            for request in requests:
                text = " ".join(rng.choice(["dog", "bell", "rain", "horn"], 12))
                heard = request.clip is not None
                yield Result(
                    key=request.key, text=text, token_ids=(), logprobs=(), tokens_in=9 + heard, finish="stop", seconds=0
                )

    found = [prove_hearing(Noisy(), ear_canaries(questions()), SHORT) for _ in range(20)]  # type: ignore[arg-type]
    assert sum(proof.ears is Ears.HEARS for proof in found) <= 2
    assert all(proof.noise > 0.2 for proof in found)


@pytest.mark.slow
def test_an_engine_that_answers_nothing_is_one_line(vlm: Vlm) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such thing")

    vlm.model.generate = broken
    with pytest.raises(ProofFailed, match=r"answers none of the canaries .*no such thing"):
        of_engine(vlm, questions())


def answers(of_audio: Callable[[str], str], counts: bool = True) -> Callable[..., Any]:
    def answer(path: str, _: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        if path.endswith("models"):
            return 200, {}, models(bundled_model())
        parts = body["messages"][0]["content"]
        audio = "".join(p["input_audio"]["data"] for p in parts if p["type"] == "input_audio")
        done = reply(of_audio(audio))
        done["usage"]["prompt_tokens"] = 5 + (len(audio) // 1000 if counts else 0)
        return 200, {}, done

    return answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_audio", "counts", "ears"),
    [
        (lambda audio: f"I hear {hash(audio) % 9973} things.", True, Ears.HEARS),
        (lambda audio: "A dog barks.", True, Ears.DEAF),
        (lambda audio: "A dog barks.", False, Ears.DROPS),
        (lambda audio: "Silence." if not audio.strip("A=")[60:].strip("A") else "A dog barks.", True, Ears.IGNORES),
    ],
)
def test_servers_are_asked_as_any_engine(of_audio: Callable[[str], str], counts: bool, ears: Ears) -> None:
    with serving(answers(of_audio, counts)) as url:
        engine = build("openai", model=bundled_model(), adapter=None, servers=[url], concurrency=2, patience_s=2.0)
        proof = prove_hearing(engine, ear_canaries(questions()), SHORT)
        engine.close()
    assert proof.ears is ears
    assert json.dumps(str(proof))


@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_hears_what_transformers_hears(tmp_path: Path) -> None:
    """The bundled ears, in a folder as hubs have them: the same words, and the proof tells an engine that drops sound.

    Beside the weights lies a file of speakers, which is a pickle that nobody may read.
    """
    folder = Path(shutil.copytree(bundled_model("bundled-ears"), tmp_path / "ears"))
    (folder / "spk_dict.pt").write_bytes(b"not to be read")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.annotators.real_vllm_hearing",
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=540,
        env=ENVIRONMENT,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-3000:]
    found = json.loads(lines[0].removeprefix("RESULT"))
    assert (found["hears"], found["drops"]) == ("hears", "drops the sound")
    for share, far in (found["alike"], found["guided"]):
        assert share == 1.0
        assert far <= 1e-3
