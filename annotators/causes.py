"""Why an engine failed: the root cause out of what it logged, and the option that mends it."""

from __future__ import annotations

import re

#: An exception's last line behind a log's prefixes, as in ``(EngineCore pid=7) ERROR [core.py:15] ValueError: …``.
_RAISED = re.compile(r"(?:^|\s)(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Interrupt)): +(\S.*)")
#: What one process says of another's failure.
_SECOND_HAND = re.compile(
    r"root cause|initialization failed|EngineDead|EngineCore encountered|background process", re.I
)
#: Addresses of help pages say less than the option that is named after the cause.
_SEE = re.compile(r"\s*(?:See|For more (?:details|information))[^.]*https?://\S+.*$")
_MOST = 400

_UTILIZATION = "options.gpu_memory_utilization"
_ADVICE = (
    (r"free memory on device|less than desired gpu memory", f"Lower {_UTILIZATION}, or end what else uses the GPU"),
    (r"no available memory for the cache blocks", f"Raise {_UTILIZATION}, or take a smaller model"),
    (
        r"larger than the available kv cache|max seq len|maximum number of tokens that can be stored",
        f"Lower options.max_model_len, or raise {_UTILIZATION}",
    ),
    (r"derived max_model_len|greater than the derived", "Lower options.max_model_len"),
    (r"out of memory|outofmemory|can't allocate memory", f"Lower options.max_num_seqs, or {_UTILIZATION}"),
    (r"max_lora_rank", "Set options.max_lora_rank to finetune.lora_rank or more"),
    (r"trust_remote_code|custom code", "Take a model that transformers knows by itself: code of models is not run"),
    (r"tensor.parallel|world size|number of gpus|attention heads", "Set options.tensor_parallel_size to fit the GPUs"),
    (r"nccl|cuda driver|no kernel image|invalid device|cuda error", "Check GPU and driver with 'flywheel doctor'"),
    (r"address already in use", "Name another port with --port"),
    (r"no space left", "Free space on the disk"),
)


def root_cause(log: str) -> str:
    """The exception that came first in a log, in one line, without what was said of it later; empty where none is."""
    exceptions = [match for line in log.splitlines() if (match := _RAISED.search(line)) is not None]
    first = next((match for match in exceptions if not _SECOND_HAND.search(match[0])), None)
    if first is None:
        return ""
    return _SEE.sub("", f"{first[1]}: {first[2]}".strip())[:_MOST].rstrip(" .")


def advice(cause: str) -> str:
    """The option to change for such a cause, as a sentence; empty where nobody knows."""
    for sign, what in _ADVICE:
        if re.search(sign, cause, re.I):
            return f" {what}."
    return ""
