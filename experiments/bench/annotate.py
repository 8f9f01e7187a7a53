"""What our annotation costs beside the engine:
tokens a second against the engine's own, and time per row without a model.

    VLLM_ENABLE_V1_MULTIPROCESSING=0 OMP_NUM_THREADS=1 TORCHDYNAMO_DISABLE=1 \
        python experiments/bench/annotate.py [--clips 128]

One JSON line per figure, with versions and hardware. "vllm" is real vLLM in process with the bundled model on
pre-decoded frames: its own ``LLM.generate`` on all requests, ours streaming, ours row by row; equal texts are checked
first, the ways take turns. "overhead" is the whole pass over clips whose frames are cached, with an engine that answers
at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from annotators import Request, Sampling, build
from flywheel.core.config import template
from flywheel.core.types import content_id
from flywheel.ingest import ingest
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm
from flywheel.playground import scenes, write_playground
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
from flywheel.store import Workspace
from flywheel.store.view import clip_of

MACHINE = {"cpus": os.cpu_count(), "machine": platform.machine(), "torch": version("torch")}


def say(**values: Any) -> None:
    print(json.dumps({**values, **MACHINE}), flush=True)


def requests(count: int) -> list[Request]:
    times = tuple(0.2 + 0.4 * i for i in range(8))
    return [
        Request(
            key=str(i),
            prompt="Describe what is seen and heard.",
            clip=ClipInput(
                key=str(i),
                frames_THWC=scenes.draw(scenes.sample_scene(i), times),
                times_s=times,
                duration_s=3.2,
                fps=10.0,
            ),
        )
        for i in range(count)
    ]


def throughput(clips: int, repeats: int) -> None:
    from vllm import SamplingParams

    asked, sampling = requests(clips), Sampling(max_new_tokens=24)
    builder = InputBuilder(load_vlm(bundled_model()).processor)
    options = {
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 512,
        "max_num_seqs": 16,
        "max_num_batched_tokens": 2048,
        "kv_cache_memory_bytes": 64 << 20,
        "mm_processor_cache_gb": 0,
        "enable_prefix_caching": False,
    }
    engine = build("vllm", model=bundled_model(), adapter=None, builder=builder, options=options)
    inputs = [
        {
            "prompt": builder.chat(r.prompt),
            "multi_modal_data": {
                "video": (
                    r.clip.frames_THWC,
                    {**r.clip.metadata(), "video_backend": "opencv", "do_sample_frames": False},
                )
            },
        }
        for r in asked
    ]
    own = SamplingParams(temperature=0, max_tokens=24, logprobs=0)

    def engines_own() -> dict[str, tuple[int, ...]]:
        out = engine._llm.generate(inputs, own, use_tqdm=False)  # type: ignore[attr-defined]
        return {r.key: tuple(o.outputs[0].token_ids) for r, o in zip(asked, out, strict=True)}

    def ours() -> dict[str, tuple[int, ...]]:
        return {r.key: r.token_ids for r in engine.generate(asked, sampling)}

    def by_row() -> dict[str, tuple[int, ...]]:
        return {r.key: r.token_ids for request in asked for r in engine.generate([request], sampling)}

    ways: dict[str, Callable[[], dict[str, tuple[int, ...]]]] = {
        "engine's own": engines_own,
        "ours": ours,
        "row by row": by_row,
    }
    written = {name: way() for name, way in ways.items()}
    alike = sum(written["ours"][k] == v for k, v in written["engine's own"].items()) / clips
    if alike < 0.95:
        raise SystemExit(f"only {alike:.2f} of the texts are alike")
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            tokens = sum(map(len, way().values()))
            rates[name].append(tokens / (time.perf_counter() - began))
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates["engine's own"], strict=True)]
        say(
            what="output tokens per second",
            way=name,
            clips=clips,
            repeats=repeats,
            median=round(median(values), 1),
            ratio_to_engines_own=round(median(ratios), 3),
            ratios=[round(r, 3) for r in ratios],
            texts_alike=alike,
            vllm=version("vllm"),
        )
    engine.close()


def pool(clips: int, repeats: int) -> None:
    """Ours against a plain client with as many connections that sends the same requests, written out beforehand,
    to the same server."""
    import httpx

    from annotators import serving

    asked, sampling, at_once = requests(clips), Sampling(max_new_tokens=24), 16
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 512,
            "max_num_seqs": 16,
            "max_num_batched_tokens": 2048,
            "kv_cache_memory_bytes": 64 << 20,
            "mm_processor_cache_gb": 0,
            "enable_prefix_caching": False,
        }
        server = serving.start(bundled_model(), Path(folder), options=options)
        try:
            engine = build("openai", model=bundled_model(), adapter=None, servers=[server.url], concurrency=at_once)
            bodies = [json.dumps(engine._body(r, sampling)).encode() for r in asked]  # type: ignore[attr-defined]
            client = httpx.Client(timeout=120, limits=httpx.Limits(max_connections=at_once))

            def ask(body: bytes) -> int:
                answer = client.post(
                    f"{server.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"}
                )
                return int(answer.json()["usage"]["completion_tokens"])

            def plain() -> int:
                with ThreadPoolExecutor(at_once) as threads:
                    return sum(threads.map(ask, bodies))

            def ours() -> int:
                return sum(len(r.token_ids) for r in engine.generate(asked, sampling))

            assert plain() == ours()
            ratios, rates = [], []
            for _ in range(repeats):
                seconds = []
                for way in (plain, ours):
                    began = time.perf_counter()
                    tokens = way()
                    seconds.append(time.perf_counter() - began)
                ratios.append(seconds[0] / seconds[1])
                rates.append(tokens / seconds[1])
            say(
                what="output tokens per second through a server",
                way="ours",
                clips=clips,
                repeats=repeats,
                median=round(median(rates), 1),
                ratio_to_a_plain_client=round(median(ratios), 3),
                ratios=[round(r, 3) for r in ratios],
                vllm=version("vllm"),
            )
        finally:
            server.stop()


def overhead(clips: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_playground(root, num_clips=20, seed=5, noise_rate=0.3)
        Workspace.create(root / "w", template())
        workspace = Workspace.open(root / "w", ["annotate.engine=fake"])
        with workspace.lock():
            ingest(workspace, [str(root / "corpus")])
            videos = [clip_of(row) for row in workspace.clips().iter_rows(named=True)]
            made = [
                replace(clip, id=content_id(clip.id, i), start_s=clip.start_s + 1e-4 * i, split="train")
                for i in range(clips // len(videos))
                for clip in videos
            ]
            workspace.add_clips(made)
            context = RoundContext(workspace)
            seconds = []
            for number in range(repeats + 1):
                # Other tokens, so that nothing is found from before; the frames are, from the second pass on.
                context.config = workspace.config.model_copy(
                    update={"annotate": workspace.config.annotate.model_copy(update={"max_new_tokens": 10 + number})}
                )
                began = time.perf_counter()
                result = context.ask(made, by=0, round=number + 1)
                seconds.append((time.perf_counter() - began) / result.written)
                if number:
                    assert result.decodes == 0, result
            say(
                what="seconds per row without a model",
                rows=len(made),
                repeats=repeats,
                median=round(median(seconds[1:]), 6),
                least=round(min(seconds[1:]), 6),
                first_pass_with_decoding=round(seconds[0], 6),
                decodes_in_later_passes=0,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["overhead", "pool", "throughput"])
    options = parser.parse_args()
    if options.only in (None, "overhead"):
        overhead(options.rows, options.repeats)
    if options.only == "overhead":
        return
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        say(what="output tokens per second", not_measured=f"vLLM can't be imported ({error})")
        return
    if options.only in (None, "pool"):
        pool(options.clips, options.repeats)
    if options.only in (None, "throughput"):
        throughput(options.clips, options.repeats)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
