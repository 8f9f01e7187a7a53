"""Trains the tiny ears that are to ship in the package: they hear ten kinds of sounds and write the kind ``heard``.

    python experiments/ears/train.py --out FOLDER --steps 700

The distribution (``av.BASE``) is not the playground's: other timbres, tunings and noise, and the base dialect's words.
One sound in twelve is silence, with or without noise, so that no sound is heard in it.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.ears.tiny import write_tiny_ears
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import av
from flywheel.playground.av.payloads import heard_payload, seen_payload

#: Seeds of what is learned and of what is held out; the playground's corpora use seeds far below.
FIRST_SEED, HELD_OUT_SEED = 60_000_000, 61_000_000
PROMPT = load_prompt(Path("annotators/prompts/heard.yaml"))
BATCH = 16
ENGLISH = """
A person walks along the street while music plays. Two people are talking in a room. Someone is cooking in a kitchen and
explains what to do next. The dog barks and a bird sings. There is no speech, only the sound of wind and water. A woman
holds a phone near the window. Children play with a ball. A car turns at the corner and stops. What happens at the end?
"""


def example(seed: int) -> tuple[np.ndarray, str]:
    """A sound (float32 at 16 kHz) and the JSON that is to be written of it, compact as guided engines write it."""
    rng = np.random.default_rng([seed, 17])
    timeline = av.sample(seed, av.BASE)
    if (chance := rng.random()) < 1 / 12:
        timeline = av.plant(timeline, "silent", rng)
    elif chance < 1 / 6:
        timeline = av.plant(timeline, "shift", rng)
    sound = av.sound(timeline)
    if chance < 1 / 24:
        sound = np.zeros_like(sound)
    return sound, json.dumps(heard_payload(timeline, "base"), separators=(",", ":"))


def tokenizer_texts() -> list[str]:
    """What a general tokenizer would know: both describers' words, numbers, and the prompt."""
    lines = []
    for seed in range(400):
        timeline = av.sample(FIRST_SEED + seed, av.BASE)
        payloads = (heard_payload(timeline, "base"), seen_payload(timeline, "base"))
        lines += [json.dumps(payload, separators=(",", ":")) for payload in payloads]
    lines += [f"{t:.1f}" for t in np.arange(0, 10, 0.1)] * 10
    return [*lines, *[PROMPT.instruction] * 60, *ENGLISH.strip().splitlines() * 4]


class Batches:
    """Batches of sounds and targets, as the product's own builder makes them, but many at a time."""

    def __init__(self, processor: object, first_seed: int) -> None:
        self.processor, self.seed = processor, first_seed
        self.tokenizer = processor.tokenizer
        sound, _target = example(first_seed)
        clip = ClipInput(key="c", duration_s=av.DURATION_S, fps=10.0, sound=sound)
        row = InputBuilder(processor).row(clip, PROMPT.render(Evidence()))
        self.prompt_ids = row.ids
        ours = self.features([sound])
        torch.testing.assert_close(ours["input_features"], row.tensors["input_features"])
        assert torch.equal(ours["feature_attention_mask"], row.tensors["feature_attention_mask"])

    def features(self, sounds: list[np.ndarray]) -> dict[str, torch.Tensor]:
        made = self.processor.feature_extractor(
            sounds, sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        return {"input_features": made["input_features"], "feature_attention_mask": made["attention_mask"]}

    def batch(self, size: int, noise: float = 0.0) -> dict[str, torch.Tensor]:
        examples = [example(self.seed + i) for i in range(size)]
        self.seed += size
        out = self.features([sound for sound, _ in examples])
        if noise:
            out["input_features"] += noise * torch.randn_like(out["input_features"])
        end = self.tokenizer.eos_token_id
        targets = [[*self.tokenizer.encode(text, add_special_tokens=False), end] for _, text in examples]
        longest = max(map(len, targets))
        pad = self.tokenizer.pad_token_id
        ids = [self.prompt_ids + t + [pad] * (longest - len(t)) for t in targets]
        labels = [[-100] * len(self.prompt_ids) + t + [-100] * (longest - len(t)) for t in targets]
        mask = [[1] * (len(self.prompt_ids) + len(t)) + [0] * (longest - len(t)) for t in targets]
        return {
            **out,
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(mask),
            "labels": torch.tensor(labels),
        }


def events_of(text: str) -> list[tuple[str, ...]]:
    """Count, pitch, kind and start of each event of a reply; empty for one that is no JSON."""
    try:
        events = json.loads(text)["events"]
        return [(*event["text"].split(" ", 2), f"{event['start_s']:.1f}") for event in events]
    except (ValueError, KeyError, TypeError):
        return [("broken",) * 4]


@torch.no_grad()
def held_out(model: torch.nn.Module, processor: object, number: int) -> dict[str, float]:
    """Shares of held-out events that are told right, of greedy texts; by place in the order of time."""
    model.eval()
    batches = Batches(processor, HELD_OUT_SEED)
    right, total, whole, numbers = np.zeros(4), 0, 0, 0
    for _ in range(number // BATCH):
        batch = batches.batch(BATCH)
        size = len(batches.prompt_ids)
        prompt = {name: batch[name][:, :size] for name in ("input_ids", "attention_mask")}
        media = {name: batch[name] for name in ("input_features", "feature_attention_mask")}
        written = model.generate(**prompt, **media, max_new_tokens=120, do_sample=False)[:, size:]
        labels = batch["labels"][:, size:].masked_fill(
            batch["labels"][:, size:] == -100, processor.tokenizer.pad_token_id
        )
        for ours, theirs in zip(written, labels, strict=True):
            said, true = (events_of(processor.tokenizer.decode(x, skip_special_tokens=True)) for x in (ours, theirs))
            numbers += len(said) == len(true)
            whole += said == true
            for one, other in zip(true, [*said, *[("",) * 4] * 4], strict=False):
                total += 1
                near = bool(other[3]) and other[3] != "broken" and abs(float(one[3]) - float(other[3])) <= 0.2001
                right += [one[0] == other[0], one[1] == other[1], one[2] == other[2], near]
    model.train()
    count = number // BATCH * BATCH
    names = ("count", "pitch", "kind", "onset_within_0.2_s")
    shares = {name: round(float(value), 4) for name, value in zip(names, right / total, strict=True)}
    return {**shares, "number_of_events": numbers / count, "all_right": whole / count, "clips": count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between looks at what is held out")
    arguments = parser.parse_args()
    began = time.process_time()
    write_tiny_ears(arguments.out, tokenizer_texts(), seed=arguments.seed)
    processor = AutoProcessor.from_pretrained(arguments.out)
    # The whole folder is what ships; the thinker within it is what learns.
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

    config = Qwen2_5OmniConfig.from_pretrained(arguments.out)
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        arguments.out, config=config.thinker_config, dtype=torch.float32
    )
    torch.manual_seed(arguments.seed)
    batches = Batches(processor, FIRST_SEED + 1000)
    learns = [p for name, p in model.named_parameters() if not name.startswith("visual")]
    optimizer = torch.optim.AdamW(learns, lr=arguments.lr, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    recent: list[float] = []
    for step in range(arguments.steps):
        done = step / arguments.steps
        for group in optimizer.param_groups:
            group["lr"] = arguments.lr * min(1.0, (step + 1) / 50) * (0.55 + 0.45 * math.cos(math.pi * done))
        batch = batches.batch(BATCH, noise=0.03)
        labels = batch.pop("labels")
        keep = labels.shape[1] - len(batches.prompt_ids) + 1
        logits = _logits(model, batch, keep)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, -keep + 1 :].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if (step + 1) % 20 == 0:
            print(
                f"step {step + 1} loss {np.mean(recent[-20:]):.4f} {time.process_time() - began:.0f} CPU s", flush=True
            )
        if (step + 1) % arguments.every == 0:
            print(f"step {step + 1} held out {held_out(model, processor, 48)}", flush=True)
            _save(model, config, arguments.out, Qwen2_5OmniForConditionalGeneration)
    _save(model, config, arguments.out, Qwen2_5OmniForConditionalGeneration)
    record = {
        "steps": arguments.steps,
        "batch": BATCH,
        "lr": arguments.lr,
        "seed": arguments.seed,
        "final_loss": float(np.mean(recent[-50:])),
        "held_out": held_out(model, processor, 96),
        "cpu_s": time.process_time() - began,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "never_seen": "the corpus world's timbres, tunings and noise, and the words of its dialect; pictures",
    }
    (arguments.out / "training_record.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


def _logits(model: torch.nn.Module, batch: dict[str, torch.Tensor], keep: int) -> torch.Tensor:
    """Logits of the last ``keep`` places alone: those of the prompt are not learned from."""
    caught: list[torch.Tensor] = []
    head = model.lm_head
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -keep:],))
    try:
        caught.append(model(**batch).logits)
    finally:
        hook.remove()
    return caught[0]


def _save(model: torch.nn.Module, config: object, out: Path, whole_class: type) -> None:
    whole = whole_class(config)
    whole.thinker.load_state_dict(model.state_dict())
    whole.generation_config.eos_token_id = model.generation_config.eos_token_id
    whole.generation_config.pad_token_id = model.generation_config.pad_token_id
    whole.save_pretrained(out, safe_serialization=True)


if __name__ == "__main__":
    main()
