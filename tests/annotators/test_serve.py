"""``flywheel serve`` with real vLLM on loopback: the pool writes what transformers writes, with a proven adapter;
nothing outlives it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from annotators import Sampling, build
from annotators.canaries import canaries
from annotators.proof import Verdict, prove
from flywheel.core.config import template
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import load_vlm
from flywheel.playground.tiny import bundled_model
from flywheel.store import Workspace
from tests.annotators.test_annotate import requests
from tests.annotators.test_openai import _alive
from tests.annotators.test_proof import adapter_of

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 2048,
    "kv_cache_memory_bytes": 64 << 20,
}


def test_serve_end_to_end(tmp_path: Path) -> None:
    new, old = adapter_of(tmp_path / "new", 1), adapter_of(tmp_path / "old", 2)
    root = tmp_path / "w"
    Workspace.create(root, template())
    options = [f"--set=annotate.options.{name}={json.dumps(value)}" for name, value in OPTIONS.items()]
    environment = {
        **os.environ,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    serve = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "serve", "--config", str(root), *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert serve.stdout is not None
    said = serve.stdout.readline()
    logs = [log.read_text()[-3000:] for log in root.glob("serve-*.log")]
    assert said.startswith("http://127.0.0.1:"), logs or said
    url = said.split()[0]
    [note] = root.glob("serve-*.json")
    leader = json.loads(note.read_text())["pid"]
    try:
        vlm = load_vlm(bundled_model(), new)
        builder = InputBuilder(vlm.processor)
        own = build("transformers", vlm=vlm, builder=builder)
        asked, greedy = requests(64), Sampling(max_new_tokens=40)
        texts = {r.key: r for r in own.generate(asked, greedy)}
        known = canaries(vlm, builder, asked[:4], own)
        engine = build("openai", model=bundled_model(), adapter=new, name="round-2", servers=[url])
        served = list(engine.generate(asked, greedy))
        assert sorted(r.key for r in served) == sorted(texts)
        alike = [r for r in served if r.token_ids == texts[r.key].token_ids]
        assert len(alike) >= 0.95 * 64
        assert max(abs(a - b) for r in alike for a, b in zip(r.logprobs, texts[r.key].logprobs, strict=True)) < 1e-3
        proof = prove(engine.parts()[0], known)
        assert proof.verdict is Verdict.PROVEN
        assert proof.to_adapter is not None
        assert proof.to_adapter < 1e-3
        for wrong in (old, None):
            other = build("openai", model=bundled_model(), adapter=wrong, name="round-2", servers=[url])
            assert prove(other, known).verdict is Verdict.REFUTED
        # Killed, it takes its server with it.
        serve.send_signal(signal.SIGKILL)
        serve.wait()
        gives_up = time.monotonic() + 30
        while _alive(leader) and time.monotonic() < gives_up:
            time.sleep(0.1)
        assert not _alive(leader)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/health", timeout=2.0)
    finally:
        serve.kill()
        serve.stdout.close()
