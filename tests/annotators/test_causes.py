"""The one line about an engine that fails names the root cause and the option to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from annotators.causes import advice, root_cause
from annotators.engines._overheard import Overheard

#: As vLLM 0.32 logs it on a GPU whose memory is in use; the trace is shortened.
BUSY_GPU = """\
INFO 11-26 10:00:01 [core.py:77] Initializing a V1 LLM engine
(EngineCore pid=4711) ERROR 11-26 10:04:31 [core.py:1510] EngineCore failed to start.
(EngineCore pid=4711) ERROR 11-26 10:04:31 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=4711) ERROR 11-26 10:04:31 [core.py:1510]   File "v1/worker/utils.py", line 763, in request_memory
(EngineCore pid=4711) ERROR 11-26 10:04:31 [core.py:1510]     raise ValueError(
(EngineCore pid=4711) ERROR 11-26 10:04:31 [core.py:1510] ValueError: Free memory on device cuda:0 (9.8/79.1 GiB) on \
startup is less than desired GPU memory utilization (0.92, 72.8 GiB). Decrease GPU memory utilization or reduce GPU \
memory used by other processes.
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}
"""
OF_WORKERS = """\
(Worker_TP1 pid=12) ERROR 11-26 10:04:31 [multiproc_executor.py:953] torch.OutOfMemoryError: CUDA out of memory. Tried
(EngineCore pid=11) ERROR Exception: WorkerProc initialization failed due to an exception in a background process. See \
stack trace for root cause.
"""


def test_the_first_exception_is_the_cause_and_names_its_option() -> None:
    cause = root_cause(BUSY_GPU)
    assert cause.startswith("ValueError: Free memory on device cuda:0 (9.8/79.1 GiB) on startup is less than desired")
    assert advice(cause) == " Lower options.gpu_memory_utilization, or end what else uses the GPU."
    assert root_cause(OF_WORKERS) == "OutOfMemoryError: CUDA out of memory. Tried"
    assert "Lower options.max_num_seqs" in advice(root_cause(OF_WORKERS))
    assert (root_cause("all is well\n"), advice("nobody knows")) == ("", "")


@pytest.mark.slow
def test_what_processes_write_is_kept_and_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys, time; print('out'); print('RuntimeError: no luck', file=sys.stderr)"
    heard = Overheard()
    with heard:
        os.write(1, b"mine\n")
        later = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(1); {code}"])
        subprocess.run([sys.executable, "-c", code], check=True)
    print("result")
    later.wait()
    assert root_cause(heard.text()) == "RuntimeError: no luck"
    heard.close()
    said = capfd.readouterr()
    assert said.out == "result\n", "results alone go to stdout"
    assert (said.err.count("no luck"), said.err.count("mine")) == (2, 1), "what a process writes later is passed on too"


@pytest.mark.slow
def test_vllms_own_cause_stands_in_our_line(tmp_path: Path) -> None:
    """Real vLLM, whose engine has no room for a single block of its cache; it says so in a process of its own."""
    pytest.importorskip("vllm")
    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048, "kv_cache_memory_bytes": 1 << 16}
    program = (
        "import json, sys; from annotators import build; from flywheel.models.inputs import InputBuilder; "
        "from flywheel.models.load import load_processor; from flywheel.playground.tiny import bundled_model; "
        "from pathlib import Path; model = bundled_model(); "
        "build('vllm', model=model, adapter=None, builder=InputBuilder(load_processor(model)), "
        "options=json.loads(sys.argv[1]))"
    )
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1"}
    command = [sys.executable, "-c", program, json.dumps(options)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert "BorderError: vLLM: " in last, ended.stderr[-2000:]
    assert "can't be served (ValueError: No available memory for the cache blocks" in last
    assert last.endswith("Raise options.gpu_memory_utilization, or take a smaller model.")
    assert "root cause above" not in last
