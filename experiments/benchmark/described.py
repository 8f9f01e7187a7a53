"""Certificates by models on rendered timelines, against what each question needs: the bundled describers' words.

    python experiments/benchmark/described.py --out OUT [--videos 4] [--seed 1]

The bundled models can't answer questions, and hear 8 s at a time. So each shot is described: what is seen by the eyes
from frames alone, what is heard by the ears from the sound alone. A question's steps are then taken on what the words
name, in each way with the media that it shows. Writes one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from annotators.engines import builder_of
from annotators.interface import Request, Sampling
from flywheel.benchmark.building import build, read_rows, tracks
from flywheel.benchmark.certifying import BOTH, SWAPPED, certify
from flywheel.benchmark.items import FRAMES, SOUND, Item
from flywheel.benchmark.oracle import _guess, _other
from flywheel.benchmark.programs import Program, answer
from flywheel.benchmark.reading import read
from flywheel.benchmark.videos import Shown
from flywheel.core.config.sections import Corpus
from flywheel.models.loader import Loader
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground.av.facts import heard_facts, seen_facts
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.timeline import LongVideo, read_timelines
from flywheel.playground.tiny import bundled_model
from flywheel.prompts import found
from flywheel.store.cache import FrameCache

#: What the bundled eyes learned from.
_FRAMES = 24
_BY_THING = {kind.thing: name for name, kind in KINDS.items()}


def main() -> None:
    """Build, describe, certify."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = arguments.out / "bench"
    build(folder, seed=arguments.seed, num_videos=arguments.videos, num_blocks=2)
    videos, rows = read_timelines(folder), read_rows(folder)
    seen = _described(folder, videos, "seen", "bundled-eyes", FRAMES)
    heard = _described(folder, videos, "heard", "bundled-ears", SOUND)
    items = read(folder, "flywheel").items
    twins = {row["id"]: row["twin"] for row in rows}
    certified = certify(items, [_solver(rows, videos, seen, heard)], twins, turns=2, seed=arguments.seed)
    needed = {row["id"]: len(Program(**row["program"]).needs) == 2 for row in rows}
    truth = {video.name: tracks(video) for video in videos}
    right = [
        np.mean([a == b for name in truth for a, b in zip(said[name], truth[name][place], strict=True)])
        for place, said in enumerate((seen, heard))
    ]
    print(
        json.dumps(
            {
                "videos": len(videos),
                "items": len(items),
                "shots_seen": float(right[0]),
                "shots_heard": float(right[1]),
                "agree": float(np.mean([c.kept == needed[c.item] for c in certified.certificates])),
                "kept": asdict(certified.kept),
                "twins": asdict(certified.twins),
                **{way: part.value for way, part in certified.by_way.items()},
            }
        )
    )


def _described(folder: Path, videos: Sequence[LongVideo], prompt: str, model: str, medium: str) -> dict[str, list[str]]:
    """The kind that a model names of each shot, by video; empty where it names none."""
    loader, place, asked = Loader(), bundled_model(model), load_prompt(found(prompt, folder))
    vlm = loader.load(place, inputs=(medium,))
    engine = builder_of("transformers")(vlm=vlm, builder=loader.builder(vlm.processor, model), batch_size=16)
    shown = Shown(
        inputs=frozenset({medium}), corpus=Corpus(frames=_FRAMES), cache=FrameCache(folder.parent / "cache", 1 << 30)
    )
    words = asked.render(Evidence())
    requests = [
        Request(
            key=f"{video.name}:{number}",
            clip=shown.input(
                folder / "videos" / f"{video.name}.mp4", Item(id="", question="", span_s=(shot.start_s, shot.end_s))
            ),
            prompt=words,
        )
        for video in videos
        for number, shot in enumerate(video.shots)
    ]
    sampling = Sampling(max_new_tokens=256, schema=asked.schema_text)
    texts = {result.key: result.text for result in engine.generate(requests, sampling)}
    return {
        video.name: [_kind(texts[f"{video.name}:{number}"], medium) for number in range(len(video.shots))]
        for video in videos
    }


def _kind(text: str, medium: str) -> str:
    facts = seen_facts(text, "base") if medium == FRAMES else heard_facts(text, "base")
    wanted = "0.thing=" if medium == FRAMES else "0.kind="
    named = next((fact.removeprefix(wanted) for fact in facts if fact.startswith(wanted)), "")
    return _BY_THING.get(named, "") if medium == FRAMES else named


def _solver(
    rows: Sequence[dict[str, Any]],
    videos: Sequence[LongVideo],
    seen: dict[str, list[str]],
    heard: dict[str, list[str]],
) -> Any:
    known, twins = {row["id"]: row for row in rows}, {f"{v.name}.mp4": f"{v.twin}.mp4" for v in videos}
    names = sorted(twins)

    def solve(item: Item, way: str, order: Sequence[int]) -> int:
        row, own = known[item.id], item.video.removesuffix(".mp4")
        other = _other(names, item.video, twins[item.video]).removesuffix(".mp4")
        said = answer(
            Program(**row["program"]),
            seen[own] if way in ("picture", SWAPPED, BOTH) else None,
            heard[other if way == SWAPPED else own] if way in ("sound", SWAPPED, BOTH) else None,
        )
        shown = [row["values"][place] for place in order]
        return shown.index(said) if said in shown else _guess(item, way, len(order))

    return solve


if __name__ == "__main__":
    main()
