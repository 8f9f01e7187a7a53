"""What the tests ask of real vLLM, in a process of its own (after an engine's exception vLLM can hang):
prints one JSON line.

    python -m tests.annotators.real_vllm FOLDER

FOLDER holds two adapters, ``new`` and ``old``.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from annotators import Result, Sampling, build
from annotators.canaries import canaries
from annotators.proof import prove
from flywheel.core.errors import UserError
from flywheel.kinds import read
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import load_vlm
from flywheel.playground.tiny import bundled_model
from tests.annotators.test_annotate import requests

OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 2048,
    "kv_cache_memory_bytes": 64 << 20,
    "disable_log_stats": True,
}


#: A form that a model which knows no JSON fills within some hundred tokens.
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "cues": {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {
                        "start_s": {"enum": [0, 0.5, 1]},
                        "end_s": {"enum": [2, 2.5]},
                        "text": {"type": "string", "minLength": 4, "maxLength": 16},
                    },
                    "required": ["start_s", "end_s", "text"],
                    "additionalProperties": False,
                },
            }
        },
        "required": ["cues"],
        "additionalProperties": False,
    }
)


def fits(text: str) -> bool:
    return bool(read("dense_caption", text, schema=SCHEMA, duration_s=3.2).payload)


def same(own: list[Result], served: list[Result]) -> tuple[float, float]:
    """Share of texts alike, and the largest difference of their log-probs (nats)."""
    theirs = {r.key: r for r in served}
    alike = [(r, theirs[r.key]) for r in own if r.token_ids == theirs[r.key].token_ids]
    far = max(abs(a - b) for r, other in alike for a, b in zip(r.logprobs, other.logprobs, strict=True))
    return len(alike) / len(own), far


def main(folder: Path) -> None:
    asked, greedy = requests(64), Sampling(max_new_tokens=40)
    out: dict[str, Any] = {}
    own, known = {}, {}
    for name in ("base", "new"):
        vlm = load_vlm(bundled_model(), None if name == "base" else folder / name)
        builder = InputBuilder(vlm.processor)
        engine = build("transformers", vlm=vlm, builder=builder)
        own[name] = list(engine.generate(asked, greedy))
        if name != "base":
            known[name] = canaries(vlm, builder, asked[:4], engine)
    served = build(
        "vllm", model=bundled_model(), adapter=folder / "new", builder=builder, name="round-2", options=OPTIONS
    )
    out["adapter"] = same(own["new"], list(served.generate(asked, greedy)))
    out["proof"] = asdict(prove(served, known["new"]))
    warm = Sampling(max_new_tokens=20, temperature=1.0, seed=3)
    together = {r.key: r.text for r in served.generate(asked[:12], warm)}
    alone = {r.key: r.text for request in asked[:12] for r in served.generate([request], warm)}
    out["sampled alike"] = sum(together[k] == alone[k] for k in together) / 12
    long = replace(asked[0], key="long", prompt="word " * 2000)
    mixed = {r.key: r for r in served.generate([asked[1], long, asked[2]], greedy)}
    out["too long"] = [mixed["long"].finish, mixed["long"].text, mixed["1"].finish, mixed["2"].finish]
    shape = Sampling(max_new_tokens=160, schema=SCHEMA)
    held = {
        r.key: r
        for r in build("transformers", vlm=load_vlm(bundled_model(), folder / "new"), builder=builder).generate(
            asked[:16], shape
        )
    }
    guided = list(served.generate(asked[:16], shape))
    out["guided"] = [*same(list(held.values()), guided), sum(fits(r.text) for r in guided)]
    impossible = {
        "type": "object",
        "properties": {"tags": {"type": "string", "pattern": "(?<=x)y"}},
        "required": ["tags"],
    }
    try:
        out["impossible"] = str(list(served.generate(asked[:4], replace(shape, schema=json.dumps(impossible)))))
    except UserError as error:
        out["impossible"] = str(error)
    out["after it"] = [r.finish for r in served.generate(asked[:2], greedy)]
    served.close()
    for name in ("base", "old"):
        adapter = None if name == "base" else folder / name
        served = build("vllm", model=bundled_model(), adapter=adapter, builder=builder, name="round-2", options=OPTIONS)
        if name == "base":
            out["base"] = same(own["base"], list(served.generate(asked, greedy)))
        out[f"{name} as new"] = asdict(prove(served, known["new"]))
        served.close()
    print("RESULT" + json.dumps(out))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
