"""Trains the tiny ears that ship in the package: they hear ten kinds of sounds and write the kind ``heard``.

    python experiments/ears/train.py --out FOLDER [--minutes 30] [--sounds 20000] [--batch 16]

The distribution (``av.BASE``) is not the playground's: other timbres, tunings and noise, and the base dialect's words.
Spectrograms are coloured, and noise of other colours is put under them, so that the ears do not hang on that world's
microphones. One sound in twelve is silence, with or without noise, so that no sound is heard in it; one in twelve is of
a clip whose sound is shifted, so that sounds come earlier and later than they do in whole clips.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments._training import (
    DEVICE,
    ENGLISH,
    FIRST_SEED,
    HELD_OUT_SEED,
    Clock,
    adamw,
    draws,
    made,
    padded,
    record,
    target_loss,
)
from experiments.ears.tiny import write_tiny_ears
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import av
from flywheel.playground.av.payloads import heard_payload, seen_payload

PROMPT = load_prompt(Path("annotators/prompts/heard.yaml"))
#: Frames of the mel spectrogram that the sound of a clip fills.
_MEL_FRAMES = round(av.DURATION_S * 100)
_NOISE = 0.03
#: How much spectrograms are coloured, in powers of ten; noise put under them, in powers of ten below their maximum.
_TILT, _FLOOR = 0.8, (-7.5, -3.0)


class Heard(NamedTuple):
    """A sound's mel spectrogram (bands, frames), float32, and the JSON that is to be written of it."""

    mel: np.ndarray
    target: str


def timeline_of(seed: int, world: av.World = av.BASE) -> av.Timeline:
    """A timeline of the world; one in twelve is silent, one in twelve shifted."""
    rng = np.random.default_rng([seed, 17])
    timeline, chance = av.sample(seed, world), float(rng.random())
    if chance < 1 / 6:
        return av.plant(timeline, "silent" if chance < 1 / 12 else "shift", rng)
    return timeline


def sound_of(timeline: av.Timeline, seed: int) -> np.ndarray:
    """Its sound, float32 at 16 kHz; of silent clips every other one is without noise too."""
    sound = av.sound(timeline)
    return np.zeros_like(sound) if timeline.fault == "silent" and seed % 2 else sound


def compact(payload: dict[str, Any]) -> str:
    """JSON as guided engines write it."""
    return json.dumps(payload, separators=(",", ":"))


@cache
def _extractor() -> Any:
    from experiments.ears.tiny import feature_extractor

    return feature_extractor()


def example(seed: int, world: av.World = av.BASE) -> Heard:
    """The mel spectrogram and the target of a seed."""
    timeline = timeline_of(seed, world)
    made = _extractor()(sound_of(timeline, seed), sampling_rate=16_000, padding="max_length", return_tensors="np")
    return Heard(made["input_features"][0, :, :_MEL_FRAMES], compact(heard_payload(timeline, "base")))


def of_corpus(seed: int) -> Heard:
    """An example of the playground's own world, for a look at how far the ears carry."""
    return example(seed, av.CORPUS)


def tokenizer_texts() -> list[str]:
    """What a general tokenizer would know: both describers' words, numbers, and the prompt."""
    timelines = [av.sample(FIRST_SEED + seed, av.BASE) for seed in range(400)]
    lines = [compact(payload(t, "base")) for t in timelines for payload in (heard_payload, seen_payload)]
    lines += [f"{t:.1f}" for t in np.arange(0, 10, 0.1)] * 10
    return [*lines, *[PROMPT.instruction] * 60, *ENGLISH.strip().splitlines() * 4]


class Pool:
    """Examples as batches of the model's inputs."""

    def __init__(self, examples: list[Heard], processor: Any) -> None:
        self.mels = torch.from_numpy(np.stack([one.mel for one in examples])).to(DEVICE)
        self.texts = [one.target for one in examples]
        self.tokenizer = processor.tokenizer
        end = self.tokenizer.eos_token_id
        self.targets = [[*self.tokenizer.encode(text, add_special_tokens=False), end] for text in self.texts]
        # All sounds are of one length, so all prompts are the same.
        clip = ClipInput(key="c", duration_s=av.DURATION_S, fps=25.0, sound=sound_of(timeline_of(FIRST_SEED), 0))
        row = InputBuilder(processor).row(clip, PROMPT.render(Evidence()))
        self.prompt = row.ids
        assert int(row.tensors["feature_attention_mask"].sum()) == _MEL_FRAMES
        mel = torch.from_numpy(example(FIRST_SEED).mel) if timeline_of(FIRST_SEED).fault == "" else None
        if mel is not None:
            torch.testing.assert_close(mel, row.tensors["input_features"][0, :, :_MEL_FRAMES])

    def media(self, places: np.ndarray, noise: float = 0.0) -> dict[str, torch.Tensor]:
        mels = self.mels[torch.from_numpy(places).to(DEVICE)]
        if noise:
            mels = coloured(mels)
            mels = mels + noise * torch.randn_like(mels)
        return {"input_features": mels, "feature_attention_mask": torch.ones_like(mels[:, 0], dtype=torch.long)}

    def batch(self, places: np.ndarray) -> dict[str, torch.Tensor]:
        rows = [(self.prompt + self.targets[i], len(self.prompt)) for i in places]
        words = padded(rows, self.tokenizer.pad_token_id)
        return {**{name: value.to(DEVICE) for name, value in words.items()}, **self.media(places, _NOISE)}


def coloured(mels: torch.Tensor) -> torch.Tensor:
    """Log-mel spectrograms (B, bands, frames) as other microphones and rooms would give them, at random."""
    size, bands, frames = mels.shape
    band = torch.linspace(-1, 1, bands, device=mels.device)[None, :, None]

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(size, 1, 1, device=mels.device).uniform_(low, high)

    power = 10 ** (4 * mels - 4 + uniform(-_TILT, _TILT) * band + uniform(-_TILT / 2, _TILT / 2) * band**2)
    floor = uniform(*_FLOOR) + uniform(-1.5, 1.5) * band
    flicker = -torch.log(torch.rand(size, bands, frames, device=mels.device).clamp_min(1e-6))
    power = power + power.amax(dim=(1, 2), keepdim=True) * 10**floor * flicker
    # As Whisper's features are made from powers.
    logs = power.clamp_min(1e-10).log10()
    return (torch.maximum(logs, logs.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4


def events_of(text: str) -> list[tuple[str, ...]]:
    """Count, pitch, kind and start of each event of a reply; one broken one for what is no JSON."""
    try:
        events = json.loads(text)["events"]
        return [(*event["text"].split(" ", 2), f"{event['start_s']:.1f}") for event in events]
    except (ValueError, KeyError, TypeError):
        return [("broken",) * 4]


@torch.no_grad()
def told(model: torch.nn.Module, pool: Pool, batch: int) -> dict[str, float]:
    """Shares of the pool's events that are told right, of greedy texts; by place in the order of time."""
    model.eval()
    right, total, whole, numbers = np.zeros(4), 0, 0, 0
    for start in range(0, len(pool.texts), batch):
        places = np.arange(start, min(start + batch, len(pool.texts)))
        ids = torch.tensor([pool.prompt] * len(places), device=DEVICE)
        prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        written = model.generate(**prompt, **pool.media(places), max_new_tokens=120, do_sample=False)
        for place, reply in zip(places, written[:, ids.shape[1] :], strict=True):
            ours, true = (
                events_of(text) for text in (pool.tokenizer.decode(reply, skip_special_tokens=True), pool.texts[place])
            )
            numbers += len(ours) == len(true)
            whole += ours == true
            for one, other in zip(true, [*ours, *[("",) * 4] * 4], strict=False):
                total += 1
                near = bool(other[3]) and other[3] != "broken" and abs(float(one[3]) - float(other[3])) <= 0.2001
                right += [one[0] == other[0], one[1] == other[1], one[2] == other[2], near]
    model.train()
    names = ("count", "pitch", "kind", "onset_within_0.2_s")
    shares = {name: round(float(value), 4) for name, value in zip(names, right / total, strict=True)}
    clips = len(pool.texts)
    return {**shares, "number_of_events": numbers / clips, "all_right": whole / clips, "clips": clips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="ears to go on from; new ones without")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--sounds", type=int, default=20_000)
    parser.add_argument("--held-out", type=int, default=480)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    from transformers import (
        AutoProcessor,
        Qwen2_5OmniConfig,
        Qwen2_5OmniForConditionalGeneration,
        Qwen2_5OmniThinkerForConditionalGeneration,
    )

    if arguments.start is None:
        write_tiny_ears(arguments.out, tokenizer_texts(), seed=arguments.seed)
    else:
        shutil.copytree(arguments.start, arguments.out, dirs_exist_ok=True)
    processor = AutoProcessor.from_pretrained(arguments.out)
    workers, held = arguments.workers, range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.held_out)
    pool = Pool(made(example, range(FIRST_SEED + 1000, FIRST_SEED + 1000 + arguments.sounds), workers), processor)
    held_out, corpus = (Pool(made(function, held, workers), processor) for function in (example, of_corpus))
    # The whole folder is what ships; the thinker within it is what learns.
    config = Qwen2_5OmniConfig.from_pretrained(arguments.out)
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        arguments.out, config=config.thinker_config, dtype=torch.float32
    ).to(DEVICE)
    torch.manual_seed(arguments.seed)
    learns = [weight for name, weight in model.named_parameters() if not name.startswith("visual")]
    clock = Clock(adamw(learns, arguments.lr), arguments.lr, arguments.minutes, warm_up=50)
    model.train()
    for _, places in zip(clock, draws(len(pool.texts), arguments.batch, arguments.seed), strict=False):
        clock.step(target_loss(model, model.lm_head, pool.batch(places)))
    whole = Qwen2_5OmniForConditionalGeneration(config)
    whole.thinker.load_state_dict(model.state_dict())
    whole.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    whole.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    whole.save_pretrained(arguments.out, safe_serialization=True)
    record(
        arguments.out,
        clock,
        batch=arguments.batch,
        seed=arguments.seed,
        sounds=arguments.sounds,
        held_out=told(model, held_out, 4 * arguments.batch),
        playground=told(model, corpus, 4 * arguments.batch),
        never_seen="the playground's timbres, tunings and noise, and the words of its dialect; pictures",
    )


if __name__ == "__main__":
    main()
