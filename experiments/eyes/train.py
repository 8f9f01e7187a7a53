"""Trains the tiny eyes that ship in the package: from frames alone they write the kind ``seen``, and captions from
frames and what the ears heard.

    python experiments/eyes/train.py --out FOLDER [--minutes 60] [--scenes 18000] [--batch 16]

Qwen3-VL's architecture as the base model's, with three times the frames, so that it is seen when something acts.
Pictures are of the base world (``av.BASE``): other random numbers, tints and backdrops than the playground has, and
never compressed.
Captions are learned with transcripts and earlier texts in the prompt, half of them noisy.
"""

from __future__ import annotations

import argparse
import json
import sys
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
from experiments.ears.train import compact
from flywheel import kinds
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import av
from flywheel.playground.av.kinds import COLOURS, KINDS, SIZES
from flywheel.playground.av.payloads import heard_payload, seen_payload
from flywheel.playground.av.transcripts import NOISE_KINDS, noisy_transcript
from flywheel.playground.grammar import CHATTER
from flywheel.playground.tiny import write_tiny_vlm

#: Each pair of frames is one moment of the vision tower. An act shows for .14 s at least: one frame or more has it.
FRAMES, MOMENTS = 24, 12
TIMES_S = [(i + 0.5) * av.DURATION_S / FRAMES for i in range(FRAMES)]
#: Rates of videos; the times that the processor writes between frames hang on them.
RATES = (10.0, 25.0, 30.0)
SEEN = load_prompt(Path("annotators/prompts/seen.yaml"))
CAPTION = load_prompt(Path("annotators/prompts/caption_heard.yaml"))
#: Texts that are asked of each scene: the pictures are kept, and asked about anew.
VARIANTS = 4
_SEEN_SHARE, _FAULT_SHARE = 0.5, 0.25


class Ask(NamedTuple):
    """A prompt and what is to be answered."""

    prompt: str
    target: str


class Scene(NamedTuple):
    """Frames (T, 64, 128, 3) uint8, texts that are asked of them, and the truth of the three places."""

    frames: np.ndarray
    asks: list[Ask]
    truth: np.ndarray


def scene(seed: int, world: av.World = av.BASE) -> Scene:
    """The frames of a seed's timeline, with the questions about them and the truth."""
    timeline, rng = av.sample(seed, world), np.random.default_rng([seed, 31])
    if rng.random() < _FAULT_SHARE:
        # Off-screen sources, and sounds of others: what is seen stays one thing, what is heard another.
        timeline = av.plant(timeline, str(rng.choice(["mismatch", "off_screen", "silent", "shift"])), rng)
    asks = [_ask(timeline, seed, rng) for _ in range(VARIANTS)]
    return Scene(av.frames(timeline, TIMES_S), asks, truth_of(timeline))


def of_corpus(seed: int) -> Scene:
    """A scene of the playground's own world."""
    return scene(seed, av.CORPUS)


def _ask(timeline: av.Timeline, seed: int, rng: np.random.Generator) -> Ask:
    if rng.random() < _SEEN_SHARE:
        return Ask(SEEN.render(Evidence()), compact(seen_payload(timeline, "base")))
    other = av.sample(seed + int(rng.integers(1, 1000)), timeline.world)

    def text(noisy: float) -> str:
        kind = str(rng.choice(NOISE_KINDS)) if rng.random() < noisy else "clean"
        return noisy_transcript(timeline, other, kind, rng, "base")

    hint = kinds.get("heard").hint
    assert hint is not None
    # Without a hint, what is heard can be told of whole clips alone: from what acts.
    shown = timeline.fault or rng.random() < 0.85
    evidence = Evidence(
        transcript=text(0.5) or None if rng.random() < 0.5 else None,
        heard=hint(heard_payload(timeline, "base")) if shown else None,
        previous=text(0.6) or None if rng.random() < 0.25 else None,
    )
    return Ask(CAPTION.render(evidence), av.caption(timeline, "base"))


def truth_of(timeline: av.Timeline) -> np.ndarray:
    """Of left, middle and right (3, 3 + T): kind (-1 for nothing), colour, size, and whether it acts in each frame."""
    out = np.full((3, 3 + FRAMES), -1, dtype=np.int8)
    for thing in timeline.things:
        place = ("left", "middle", "right").index(thing.side)
        out[place, :3] = [list(KINDS).index(thing.kind), COLOURS.index(thing.colour), SIZES.index(thing.size)]
        times = np.asarray(thing.times_s)[:, None]
        acts = (times <= TIMES_S) & (np.asarray(TIMES_S) < times + thing.hold_s)
        out[place, 3:] = acts.any(axis=0) if len(times) else 0
    return out


def tokenizer_texts() -> list[str]:
    """What a general tokenizer would know: words of both describers, captions and hints, numbers and times."""
    lines = []
    for seed in range(400):
        timeline = av.sample(FIRST_SEED + seed, av.BASE)
        rng = np.random.default_rng(seed)
        lines += [compact(payload(timeline, "base")) for payload in (seen_payload, heard_payload)]
        lines += [text for _ in range(2) for text in _ask(timeline, seed, rng)]
        # The wheel teaches these words: a tokenizer that spells them by letters would make that a test of spelling.
        lines += [av.caption(av.sample(FIRST_SEED + seed, av.BASE))]
    lines += [f"{t:.1f}" for t in np.arange(0, 10, 0.1)] * 10
    lines += [f"<{t:.1f} seconds>" for t in np.arange(0, 10, 0.1)] * 6
    return [*lines, *[SEEN.instruction, CAPTION.instruction] * 40, *CHATTER * 4, *ENGLISH.strip().splitlines() * 4]


class Pool:
    """Scenes as batches of the model's inputs: what the processor makes of them, many at a time."""

    def __init__(self, scenes: list[Scene], processor: Any) -> None:
        self.frames = torch.from_numpy(np.stack([one.frames for one in scenes])).to(DEVICE)
        self.truth = torch.from_numpy(np.stack([one.truth for one in scenes])).to(DEVICE)
        self.asks = [one.asks for one in scenes]
        self.builder, self.tokenizer = InputBuilder(processor), processor.tokenizer
        self.video_id = self.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        self.spans = []
        for rate in RATES:
            clip = ClipInput(
                key=f"{rate}", duration_s=av.DURATION_S, fps=rate, frames_THWC=scenes[0].frames, times_s=tuple(TIMES_S)
            )
            row = self.builder.row(clip, "x")
            before, after = (len(self._ids(part)) for part in self.builder.chat("x").split("<|video_pad|>"))
            self.spans.append(row.ids[before : len(row.ids) - after])
            ours = patches(torch.from_numpy(scenes[0].frames).float()[None])
            torch.testing.assert_close(ours, row.tensors["pixel_values_videos"])
            self.grid = row.tensors["video_grid_thw"]
            assert self.grid.tolist() == [[MOMENTS, 4, 8]]
        self.rows = [[self._row(ask) for ask in asks] for asks in self.asks]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _row(self, ask: Ask) -> tuple[list[int], list[int], list[int]]:
        """Ids before the video, after it, and of the target."""
        before, after = (self._ids(part) for part in self.builder.chat(ask.prompt).split("<|video_pad|>"))
        return before, after, [*self._ids(self.builder.plain(ask.target)), self.tokenizer.eos_token_id]

    def rows_of(self, places: np.ndarray, asked: np.ndarray, rng: np.random.Generator) -> list[tuple[list[int], int]]:
        rows = []
        for place, number in zip(places, asked, strict=True):
            before, after, target = self.rows[place][number]
            prompt = before + self.spans[int(rng.integers(len(RATES)))] + after
            rows.append((prompt + target, len(prompt)))
        return rows

    def media(self, places: np.ndarray, augment: bool = False) -> dict[str, torch.Tensor]:
        frames = self.frames[torch.from_numpy(places).to(DEVICE)].float()
        if augment:
            size = (len(frames), 1, 1, 1)
            gain = torch.empty(*size, 3, device=DEVICE).uniform_(0.85, 1.15)
            lift = torch.empty(*size, 3, device=DEVICE).uniform_(-12, 12)
            sigma = torch.empty(*size, 1, device=DEVICE).uniform_(0, 7)
            # Backdrops of the playground have slopes of light and still grain.
            x, y = (torch.linspace(-0.5, 0.5, n, device=DEVICE) for n in (128, 64))
            slopes = torch.empty(2, *size, 1, device=DEVICE).uniform_(-20, 20)
            slope = slopes[0] * x[None, None, None, :, None] + slopes[1] * y[None, None, :, None, None]
            still = torch.randn(len(frames), 1, 64, 128, 1, device=DEVICE)
            frames = (frames * gain + lift + slope + sigma * still).clamp_(0, 255)
        return {
            "pixel_values_videos": patches(frames),
            "video_grid_thw": self.grid.expand(len(places), -1).contiguous().to(DEVICE),
        }

    def batch(self, places: np.ndarray, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rows = self.rows_of(places, rng.integers(VARIANTS, size=len(places)), rng)
        words = {name: v.to(DEVICE) for name, v in padded(rows, self.tokenizer.pad_token_id).items()}
        words["mm_token_type_ids"] = 2 * (words["input_ids"] == self.video_id).int()
        return {**words, **self.media(places, augment=True)}


def patches(frames: torch.Tensor) -> torch.Tensor:
    """What Qwen3-VL's video processor makes of pictures (B, T, 64, 128, 3) that need no scaling."""
    size = len(frames)
    scaled = (frames / 127.5 - 1).permute(0, 1, 4, 2, 3).reshape(size, MOMENTS, 2, 3, 2, 2, 16, 4, 2, 16)
    return scaled.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(-1, 1536)


def make_fast(visual: Any) -> None:
    """Compute the vision tower's numbers in fewer, larger steps; for videos of this one size alone.

    Its patch embedding is a convolution whose kernel is its stride, and its attention goes moment by moment.
    """
    from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb_vision

    patch = visual.patch_embed
    patch.forward = lambda x: torch.nn.functional.linear(
        x.view(-1, patch.proj.weight[0].numel()), patch.proj.weight.flatten(1), patch.proj.bias
    )

    def attend(module: Any, hidden: torch.Tensor, position_embeddings: Any) -> torch.Tensor:
        shape = (len(hidden), 3, module.num_heads, -1)
        query, key, value = module.qkv(hidden).reshape(shape).permute(1, 0, 2, 3).unbind(0)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        # A moment is 4 x 8 patches.
        parts = [one.reshape(-1, 32, *one.shape[1:]).transpose(1, 2) for one in (query, key, value)]
        out = torch.nn.functional.scaled_dot_product_attention(*parts, scale=module.scaling)
        return torch.as_tensor(module.proj(out.transpose(1, 2).reshape(len(hidden), -1)))

    for block in visual.blocks:
        module = block.attn
        module.forward = lambda hidden_states, position_embeddings=None, module=module, **_: attend(
            module, hidden_states, position_embeddings
        )


class Readers(torch.nn.Module):
    """Readers of the vision tower's tokens, for training only: what stands left, middle and right, and does it act?

    Through words alone the tower learns shapes slowly; asked directly it learns them in minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4 * 128, 256), torch.nn.GELU())
        self.heads = torch.nn.ModuleList(torch.nn.Linear(256, n) for n in (1 + len(KINDS), len(COLOURS), len(SIZES)))
        self.acts = torch.nn.Linear(256, 2)

    def forward(self, tokens: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """``tokens`` (B * 12 * 2 * 4, 128): a moment is 2 x 4 tokens, of which a thing covers two columns."""
        grid = tokens.reshape(-1, MOMENTS, 2, 4, 128)
        places = torch.stack([grid[:, :, :, i : i + 2].flatten(2) for i in range(3)], dim=1)
        read = self.body(places)
        truth = truth.long()
        there = truth[:, :, 0] >= 0
        kind = (truth[:, :, :1] + 1).expand(-1, -1, MOMENTS)
        loss = torch.nn.functional.cross_entropy(self.heads[0](read).flatten(0, 2), kind.flatten())
        for number in (1, 2):
            wanted = truth[:, :, number][there][:, None].expand(-1, MOMENTS)
            loss = loss + torch.nn.functional.cross_entropy(
                self.heads[number](read[there]).flatten(0, 1), wanted.flatten()
            )
        acts = truth[:, :, 3:].reshape(*truth.shape[:2], MOMENTS, 2)[there].float()
        weight = torch.tensor(3.0, device=acts.device)
        return loss + torch.nn.functional.binary_cross_entropy_with_logits(
            self.acts(read[there]), acts, pos_weight=weight
        )


@torch.no_grad()
def told(model: torch.nn.Module, pool: Pool, batch: int) -> dict[str, float]:
    """How right greedy texts are: shares of whole ``seen`` replies' parts, and slot F1 of captions."""
    model.eval()
    pool.tokenizer.padding_side = "left"
    rng, right, captions, count = np.random.default_rng(0), np.zeros(4), [], 0
    for start in range(0, len(pool.asks), batch):
        places = np.arange(start, min(start + batch, len(pool.asks)))
        rows = pool.rows_of(places, np.zeros(len(places), dtype=int), rng)
        prompts = [ids[:length] for ids, length in rows]
        longest = max(map(len, prompts))
        pad = pool.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=DEVICE)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=DEVICE)
        written = model.generate(
            input_ids=ids,
            attention_mask=mask,
            mm_token_type_ids=2 * (ids == pool.video_id).int(),
            **pool.media(places),
            max_new_tokens=200,
            do_sample=False,
        )
        for place, reply in zip(places, written[:, longest:], strict=True):
            text, true = pool.tokenizer.decode(reply, skip_special_tokens=True), pool.asks[place][0].target
            if true.startswith("{"):
                right += seen_right(text, true)
                count += 1
            else:
                captions.append(av.facts_f1(av.facts(text, "base"), av.facts(true, "base")))
    model.train()
    names = ("scene", "objects", "acts", "acts_within_0.2_s")
    shares = {name: round(float(value), 4) for name, value in zip(names, right / max(1, count), strict=True)}
    return {**shares, "replies": count, "caption_f1": round(float(np.mean(captions)), 4), "captions": len(captions)}


def seen_right(text: str, true: str) -> np.ndarray:
    """Whether scene, objects, what acts, and that within .2 s are right, of a ``seen`` reply."""
    try:
        ours, wanted = json.loads(text), json.loads(true)
        acts = sorted(e["text"] for e in ours["events"]) == sorted(e["text"] for e in wanted["events"])
        starts = ({e["text"]: float(e["start_s"]) for e in one["events"]} for one in (ours, wanted))
        first, second = starts
        near = acts and all(abs(first[name] - second[name]) <= 0.2001 for name in second)
        return np.array([ours["scene"] == wanted["scene"], ours["objects"] == wanted["objects"], acts, near], float)
    except (ValueError, KeyError, TypeError, AttributeError):
        return np.zeros(4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--look-share", type=float, default=0.25, help="of the time, for the vision tower alone")
    parser.add_argument("--scenes", type=int, default=18_000)
    parser.add_argument("--held-out", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    write_tiny_vlm(arguments.out, tokenizer_texts(), vocab_size=1000, frames=FRAMES, seed=arguments.seed)
    processor = AutoProcessor.from_pretrained(arguments.out)
    workers, held = arguments.workers, range(HELD_OUT_SEED, HELD_OUT_SEED + arguments.held_out)
    pool = Pool(made(scene, range(FIRST_SEED + 1000, FIRST_SEED + 1000 + arguments.scenes), workers), processor)
    held_out, corpus = (Pool(made(function, held, workers), processor) for function in (scene, of_corpus))
    model = AutoModelForImageTextToText.from_pretrained(arguments.out, dtype=torch.float32).to(DEVICE)
    visual = model.model.visual
    make_fast(visual)
    torch.manual_seed(arguments.seed)
    readers, rng = Readers().to(DEVICE), np.random.default_rng(arguments.seed)
    model.train()
    first = arguments.look_share * arguments.minutes
    clock = Clock(adamw([*visual.parameters(), *readers.parameters()], arguments.lr), arguments.lr, first, warm_up=100)
    order = draws(len(pool.asks), arguments.batch, arguments.seed)
    for _, places in zip(clock, order, strict=False):
        media = pool.media(places, augment=True)
        tokens = visual(media["pixel_values_videos"], grid_thw=media["video_grid_thw"]).pooler_output
        clock.step(readers(tokens, pool.truth[torch.from_numpy(places).to(DEVICE)]))
    kept: list[torch.Tensor] = []
    visual.register_forward_hook(lambda _, __, out: kept.append(out.pooler_output))
    weights = [*model.parameters(), *readers.parameters()]
    clock = Clock(adamw(weights, arguments.lr), arguments.lr, arguments.minutes - first, warm_up=200)
    for _, places in zip(clock, order, strict=False):
        kept.clear()
        loss = target_loss(model, model.lm_head, pool.batch(places, rng))
        clock.step(loss + 0.1 * readers(kept[0], pool.truth[torch.from_numpy(places).to(DEVICE)]))
    kept.clear()
    model.save_pretrained(arguments.out, safe_serialization=True)
    record(
        arguments.out,
        clock,
        batch=arguments.batch,
        seed=arguments.seed,
        scenes=arguments.scenes,
        held_out=told(model, held_out, 4 * arguments.batch),
        playground=told(model, corpus, 4 * arguments.batch),
        never_seen={
            "colour_thing_pairs": sorted(" ".join(pair) for pair in av.BASE.unseen_pairs),
            "phrasings": "the corpus dialect",
            "pictures": "compression, the playground's backdrops and its random numbers",
        },
    )


if __name__ == "__main__":
    main()
