"""Trains the tiny VLM that ships in the package: good eyes, a dialect of its own.

    python experiments/base_model/train.py --out flywheel/playground/base_vlm --minutes 20

The distribution (``scenes.BASE``) is not the playground's: a third of the (colour, shape) pairs never occur, nor do the
sounds `tick` and `whistle`; pictures have flat backgrounds without texture and are never compressed; the words for
shapes, motions and sounds, and the sentence, are the base dialect's. Transcripts in the prompt are in that dialect too,
half of them noisy, so that the model learns to weigh what it reads against what it sees.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from transformers import AutoModelForImageTextToText, AutoProcessor

from flywheel.models.prompt import Evidence, Prompt
from flywheel.playground import grammar, noise, scenes, tiny
from flywheel.sound.events import describe, sound_events

NUM_SCENES = 18_000
NUM_HELD_OUT = 320
TIMES = [(i + 0.5) * scenes.DURATION_S / tiny.FRAMES for i in range(tiny.FRAMES)]
FIRST_SEED = 50_000_000  # the playground's corpora use seeds far below
PROMPT = Prompt.model_validate(yaml.safe_load(Path("annotators/prompts/caption.yaml").read_text()))

# Plain English for the tokenizer, so that text about other things is not spelled letter by letter.
ENGLISH = """
A person walks along the street while music plays. Two people are talking in a room. The camera moves slowly over a
mountain, a wall and a river. A telescope stands in a clean room where engineers work. Someone is cooking in a kitchen \
and
explains what to do next. The dog runs across the grass and a bird flies away. In this video we will show you how it is
made. There is no speech, only the sound of wind and water. The man in the black shirt opens the door and looks outside.
A woman holds a phone near the window. Children play with a ball. A car turns at the corner and stops. What happens at \
the
end of the clip? First, then, after that, before, during, between, above, below, behind, in front of. The light changes
from dark to bright. The screen shows text and numbers. This is the first time that the mirror has been seen like this.
"""


def render(seed: int) -> tuple[NDArray[np.uint8], str]:
    scene = scenes.sample_scene(seed, scenes.BASE)
    events = sound_events(scenes.sound(scene), scenes.SAMPLE_RATE)
    return scenes.draw(scene, TIMES), describe(events)


def tokenizer_texts() -> list[str]:
    """What a general tokenizer would know: words of both dialects, numbers, marks.
    The model itself never reads the corpus dialect."""
    lines = [scenes.sample_scene(FIRST_SEED + i, scenes.BASE).base_caption() for i in range(400)]
    lines += [
        " " + " ".join((*grammar.SIZES, *grammar.COLOURS, *grammar.SHAPES, *grammar.MOTIONS, *grammar.SOUNDS))
    ] * 40
    lines += [" beep repeats low hum plays noise hisses something ticks whistle climbs while and"] * 40
    lines += [f"<{t:.1f} seconds>" for t in np.arange(0, 10, 0.1)] * 4
    lines += [PROMPT.instruction, *(h.replace("{text}", " ") for h in PROMPT.hints.values())] * 40
    lines += ["tone x1 sweep up noise click Hz s loud soft clear"] * 40
    lines += [*grammar.CHATTER, *ENGLISH.strip().splitlines()] * 4
    return lines


class Stream:
    """Batches without end: prompts and targets drawn anew each time, pictures from the rendered pool."""

    def __init__(
        self, processor: object, pictures: list[tuple[NDArray[np.uint8], str]], first_seed: int, seed: int
    ) -> None:
        self.processor = processor
        self.pictures = pictures
        self.first_seed = first_seed
        self.rng = np.random.default_rng(seed)
        self.noise = torch.randn(8, 1, tiny.FRAMES, 64, 128, 3, generator=torch.Generator().manual_seed(seed))
        self.pad_id = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        # The processor does the same work ten times slower, clip by clip; once is enough to hold us to its numbers.
        metadata = {
            "fps": 10.0,
            "duration": scenes.DURATION_S,
            "total_num_frames": 32,
            "width": 128,
            "height": 64,
            "frames_indices": [int(t * 10) for t in TIMES],
        }
        wanted = processor(
            text=["<|video_pad|>"],
            videos=[pictures[0][0]],
            video_metadata=[metadata],
            do_sample_frames=False,
            return_tensors="pt",
        )
        self.span = processor.tokenizer.decode(wanted["input_ids"][0])
        ours, grid = patchify(torch.from_numpy(pictures[0][0]).float()[None])
        torch.testing.assert_close(ours, wanted["pixel_values_videos"])
        assert grid.tolist() == wanted["video_grid_thw"].tolist()
        types = self.processor.tokenizer([self.span], return_tensors="pt")["input_ids"] == self.pad_id
        assert (2 * types.int()).tolist() == wanted["mm_token_type_ids"].tolist()

    def evidence(self, index: int) -> Evidence:
        rng = self.rng
        scene = scenes.sample_scene(self.first_seed + index, scenes.BASE)
        other = scenes.sample_scene(self.first_seed + int(rng.integers(len(self.pictures))), scenes.BASE)

        def text(rate: float) -> str:
            kind = str(rng.choice(noise.KINDS)) if rng.random() < rate else "clean"
            return noise.noisy_transcript(scene, other, kind, rng, text_of=scenes.Scene.base_caption)

        return Evidence(
            transcript=text(0.5) if rng.random() < 0.5 else None,
            sounds=self.pictures[index][1] if rng.random() < 0.9 else None,
            previous=text(0.6) if rng.random() < 0.25 else None,
        )

    def batch(
        self, indices: NDArray[np.int64], augment: bool = True, evidence: list[Evidence] | None = None
    ) -> dict[str, torch.Tensor]:
        evidence = evidence or [self.evidence(int(i)) for i in indices]
        texts = []
        for index, hints in zip(indices, evidence, strict=True):
            target = scenes.sample_scene(self.first_seed + int(index), scenes.BASE).base_caption()
            texts.append(chat(self.processor, PROMPT.render(hints), target))
        out = self.processor.tokenizer(
            [text.replace("<|video_pad|>", self.span) for text in texts], return_tensors="pt", padding=True
        )
        out["mm_token_type_ids"] = 2 * (out["input_ids"] == self.pad_id).int()
        out["pixel_values_videos"], out["video_grid_thw"] = patchify(self.pixels(indices, augment))
        labels = out["input_ids"].clone()
        opening = self.processor.tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
        for row, ids in enumerate(out["input_ids"].tolist()):
            start = max(i for i in range(len(ids)) if ids[i : i + len(opening)] == opening) + len(opening)
            labels[row, :start] = -100
        end = self.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
        for row, ids in enumerate(out["input_ids"].tolist()):
            last = max(i for i, token in enumerate(ids) if token == end)
            labels[row, last + 1 :] = -100
        out["labels"] = labels
        return dict(out)

    def pixels(self, indices: NDArray[np.int64], augment: bool) -> torch.Tensor:
        videos = torch.from_numpy(np.stack([self.pictures[int(i)][0] for i in indices])).float()
        if not augment:
            return videos
        gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, size=(len(videos), 1, 1, 1, 3))).float()
        sigma = torch.from_numpy(self.rng.uniform(0, 6, size=(len(videos), 1, 1, 1, 1))).float()
        return (videos * gain + sigma * self.noise[int(self.rng.integers(8))]).clamp_(0, 255)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
        while True:
            for part in np.array_split(self.rng.permutation(len(self.pictures)), len(self.pictures) // BATCH):
                yield part, self.batch(part)


BATCH = 16


def patchify(videos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What Qwen3-VL's video processor makes of ``(B, 8, 64, 128, 3)`` pictures that need no scaling."""
    size = len(videos)
    patches = (videos / 127.5 - 1).permute(0, 1, 4, 2, 3).reshape(size, 4, 2, 3, 2, 2, 16, 4, 2, 16)
    flat = patches.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(-1, 1536)
    return flat, torch.tensor([[4, 4, 8]] * size)


class Eyes(torch.nn.Module):
    """Readers of the vision tower's tokens, for training only:
    what and where is the thing in each half, at each moment?

    Through the words alone the tower learns shapes slowly; asked directly it learns them in minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4 * 128, 128), torch.nn.GELU())
        self.heads = torch.nn.ModuleDict(
            {"size": torch.nn.Linear(128, 2), "colour": torch.nn.Linear(128, 8), "shape": torch.nn.Linear(128, 6)}
        )
        self.place = torch.nn.Linear(128, 6)

    def forward(self, tokens: torch.Tensor, truth: dict[str, torch.Tensor]) -> torch.Tensor:
        """``tokens`` (B * 4 * 2 * 4, 128) of B videos: 4 moments of 2 x 4 tokens, two columns to a half."""
        grid = tokens.reshape(-1, 4, 2, 2, 2, 128).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 2, 4 * 128)
        seen = self.body(grid)
        visible = truth["visible"]
        loss = (self.place(seen) - truth["place"]).abs().mean(-1)[visible].mean()
        for name, head in self.heads.items():
            wanted = truth[name][:, None].expand(-1, 4, -1)[visible]
            loss = loss + torch.nn.functional.cross_entropy(head(seen)[visible], wanted)
        return loss


def truth_of(seeds: list[int]) -> dict[str, torch.Tensor]:
    """What :class:`Eyes` are asked: indices of the values, (B, 2), and per moment the places in both frames,
    (B, 4, 2, 6)."""
    values = {"size": grammar.SIZES, "colour": grammar.COLOURS, "shape": grammar.SHAPES}
    found = [scenes.sample_scene(s, scenes.BASE) for s in seeds]
    out = {n: torch.tensor([[v.index(getattr(t, n)) for t in s.things] for s in found]) for n, v in values.items()}
    place = np.zeros((len(found), 4, 2, 6), dtype=np.float32)
    visible = np.zeros((len(found), 4, 2), dtype=bool)
    for i, scene in enumerate(found):
        for k, thing in enumerate(scene.things):
            for j, time_s in enumerate(TIMES):
                moved = max(0.0, time_s - scene.start_s)
                shown = not (thing.motion == "blinks" and moved > 0 and (moved / 1.1) % 1.0 < 0.5)
                dx = {"drifts left": -7.0, "drifts right": 7.0}.get(thing.motion, 0.0) * moved
                if thing.motion == "shakes" and moved > 0:
                    dx = 4.5 * math.sin(2 * math.pi * moved / 0.46)
                dy = {"rises": -7.0, "sinks": 7.0}.get(thing.motion, 0.0) * moved
                grown = 1 + 0.22 * moved * (thing.motion == "grows")
                place[i, j // 2, k, 3 * (j % 2) : 3 * (j % 2) + 3] = (
                    (thing.x + dx - 64 * k - 32) / 10,
                    (thing.y + dy - 32) / 10,
                    (thing.radius * grown - 11) / 4 if shown else -3,
                )
                visible[i, j // 2, k] |= shown
    return {**out, "place": torch.from_numpy(place), "visible": torch.from_numpy(visible)}


def chat(processor: object, prompt: str, target: str | None) -> str:
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}]
    if target is not None:
        messages.append({"role": "assistant", "content": [{"type": "text", "text": target}]})
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=target is None))


def linear_patches(model: torch.nn.Module) -> None:
    """The patch embedding is a convolution whose kernel is its stride:
    the same numbers as a linear layer, 4x faster here."""
    patch = model.model.visual.patch_embed
    patch.forward = lambda x: torch.nn.functional.linear(
        x.view(-1, patch.proj.weight[0].numel()), patch.proj.weight.flatten(1), patch.proj.bias
    )


@torch.no_grad()
def word_accuracy(model: torch.nn.Module, stream: Stream, hints: bool) -> float:
    """Share of target tokens that are the model's first choice on held-out scenes of the base distribution."""
    model.eval()
    right = total = 0
    for part in np.array_split(np.arange(len(stream.pictures)), len(stream.pictures) // BATCH):
        evidence = None if hints else [Evidence(sounds=stream.pictures[int(i)][1]) for i in part]
        batch = stream.batch(part, augment=False, evidence=evidence)
        labels = batch.pop("labels")
        guess = model(**batch).logits[:, :-1].argmax(-1)
        mask = labels[:, 1:] != -100
        right += int((guess[mask] == labels[:, 1:][mask]).sum())
        total += int(mask.sum())
    model.train()
    return right / total


def rate(optimizer: torch.optim.Optimizer, peak: float, step: int, done: float) -> None:
    """Warm up over 200 steps, then half a cosine to the end, which is a time."""
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done))


def look(model: torch.nn.Module, eyes: Eyes, stream: Stream, held_out: Stream, arguments: argparse.Namespace) -> None:
    """The vision tower alone, before any word."""
    visual = model.model.visual
    optimizer = torch.optim.AdamW(
        [*visual.parameters(), *eyes.parameters()], lr=arguments.lr, weight_decay=0.01, betas=(0.9, 0.98)
    )
    started, step, recent = time.monotonic(), 0, []
    while (done := (time.monotonic() - started) / (60 * arguments.eye_minutes)) < 1:
        part = stream.rng.integers(len(stream.pictures), size=BATCH)
        rate(optimizer, arguments.lr, step, done)
        pixels, grid = patchify(stream.pixels(part, True))
        loss = eyes(visual(pixels, grid_thw=grid).pooler_output, truth_of([stream.first_seed + int(i) for i in part]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(visual.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        recent.append(loss.item())
        if step % 250 == 0:
            print(f"eyes {step} loss {np.mean(recent[-250:]):.4f} {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--eye-minutes", type=float, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-scenes", type=int, default=NUM_SCENES)
    arguments = parser.parse_args()
    tiny.write_tiny_vlm(arguments.out, tokenizer_texts(), seed=arguments.seed)
    processor = AutoProcessor.from_pretrained(arguments.out)
    model = AutoModelForImageTextToText.from_pretrained(arguments.out, dtype=torch.float32)
    linear_patches(model)
    with ProcessPoolExecutor(2) as pool:
        pictures = list(
            pool.map(render, range(FIRST_SEED, FIRST_SEED + arguments.num_scenes + NUM_HELD_OUT), chunksize=256)
        )
    stream = Stream(processor, pictures[NUM_HELD_OUT:], FIRST_SEED + NUM_HELD_OUT, arguments.seed)
    held_out = Stream(processor, pictures[:NUM_HELD_OUT], FIRST_SEED, arguments.seed + 1)
    eyes = Eyes()
    look(model, eyes, stream, held_out, arguments)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *eyes.parameters()], lr=arguments.lr, weight_decay=0.01, betas=(0.9, 0.98)
    )
    tokens: list[torch.Tensor] = []
    model.model.visual.register_forward_hook(lambda _, __, out: tokens.append(out.pooler_output))
    started, step, recent = time.monotonic(), 0, []
    for part, batch in stream:
        done = (time.monotonic() - started) / (60 * arguments.minutes)
        if done >= 1:
            break
        rate(optimizer, arguments.lr, step, done)
        tokens.clear()
        loss = model(**batch).loss
        asked = truth_of([stream.first_seed + int(i) for i in part])
        (loss + 0.1 * eyes(tokens[0], asked)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        recent.append(loss.item())
        if step % 100 == 0:
            print(f"step {step} loss {np.mean(recent[-100:]):.4f} {time.monotonic() - started:.0f} s", flush=True)
        if step % 1000 == 0:
            print(f"step {step} held-out {word_accuracy(model, held_out, False):.4f}", flush=True)
            model.save_pretrained(arguments.out, safe_serialization=True)
    model.save_pretrained(arguments.out, safe_serialization=True)
    record = {
        "steps": step,
        "batch": BATCH,
        "lr": arguments.lr,
        "seed": arguments.seed,
        "scenes": arguments.num_scenes,
        "final_loss": float(np.mean(recent[-100:])),
        "held_out_token_accuracy_frames_and_sounds": word_accuracy(model, held_out, False),
        "held_out_token_accuracy_all_hints": word_accuracy(model, held_out, True),
        "wall_s": time.monotonic() - started,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "never_seen": {
            "colour_shape_pairs": sorted(" ".join(pair) for pair in scenes.BASE.unseen_pairs),
            "sounds": sorted(set(grammar.SOUNDS) - set(scenes.BASE.sounds)),
            "phrasings": "every word for a shape, a motion and a sound, and the sentence frame, of the corpus dialect",
            "pictures": "gradients, grain, compression",
        },
    }
    (arguments.out / "training_record.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
