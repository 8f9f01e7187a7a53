"""The bundled model in real vLLM: the same folder, the same greedy text as transformers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

SCRIPT = """
import json
from vllm import LLM, SamplingParams
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import load_vlm
from flywheel.playground.tiny import bundled_model
from annotators import Sampling, build
from tests.annotators.test_annotate import requests

asked = requests(24)
vlm = load_vlm(bundled_model())
builder = InputBuilder(vlm.processor)
own = [r.text for r in build("transformers", vlm=vlm, builder=builder).generate(asked, Sampling(max_new_tokens=40))]
engine = LLM(str(bundled_model()), dtype="float32", enforce_eager=True, max_model_len=1024, max_num_seqs=8,
             max_num_batched_tokens=2048, kv_cache_memory_bytes=64 << 20, limit_mm_per_prompt={"video": 1, "image": 0})
inputs = [
    {"prompt": builder.chat(r.prompt),
     "multi_modal_data": {"video": (r.picture.frames_THWC, {**r.picture.metadata(), "video_backend": "opencv", "do_sample_frames": False})}}
    for r in asked
]
out = engine.generate(inputs, SamplingParams(temperature=0, max_tokens=40), use_tqdm=False)
print("RESULT" + json.dumps([own, [o.outputs[0].text.strip() for o in out]]))
import os, sys
sys.stdout.flush()
os._exit(0)
"""


def test_vllm_writes_what_transformers_writes() -> None:
    environment = {
        **os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }  # fmt: skip
    # A process of its own: after an engine's exception vLLM can hang, and then only a time limit ends it.
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=540, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-3000:]
    own, served = json.loads(lines[0].removeprefix("RESULT"))
    same = sum(a == b for a, b in zip(own, served, strict=True))
    assert same >= 23, list(zip(own, served, strict=True))
