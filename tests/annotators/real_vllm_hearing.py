"""What the tests ask of real vLLM about sound alone, in a process of its own: prints one JSON line.

    python -m tests.annotators.real_vllm_hearing FOLDER

FOLDER holds a tiny random model that hears, as hubs have them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotators import Request, Result, Sampling, build
from annotators.ear_canaries import ear_canaries
from annotators.hearing import prove_hearing
from flywheel.models.inputs import InputBuilder
from flywheel.models.load import load_vlm
from tests.annotators.real_vllm import OPTIONS, same
from tests.annotators.test_hearing import questions


class Dropping:
    """An engine that drops the sound of what it is asked, without a word."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        return iter(self.inner.generate([replace(request, clip=None) for request in requests], sampling))


def main(folder: Path) -> None:
    asked, short, out = questions(8), Sampling(max_new_tokens=24), dict[str, Any]()
    vlm = load_vlm(folder, inputs=("sound",))
    builder = InputBuilder(vlm.processor)
    own = list(build("transformers", vlm=vlm, builder=builder).generate(asked, short))
    served = build("vllm", model=folder, adapter=None, builder=builder, options=OPTIONS, inputs=("sound",))
    out["alike"] = same(own, list(served.generate(asked, short)))
    out["hears"] = str(prove_hearing(served, ear_canaries(asked), short).ears)
    out["drops"] = str(prove_hearing(Dropping(served), ear_canaries(asked), short).ears)
    served.close()
    print("RESULT" + json.dumps(out))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
