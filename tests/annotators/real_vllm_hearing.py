"""What the tests ask of real vLLM about sound alone, in a process of its own: prints one JSON line.

    python -m tests.annotators.real_vllm_hearing FOLDER

FOLDER holds the bundled ears, as hubs have such models.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from annotators import Request, Result, Sampling, build, prompt_file
from annotators.ear_canaries import ear_canaries
from annotators.hearing import prove_hearing
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import load_vlm
from flywheel.models.prompt import Evidence, load_prompt
from flywheel.playground import av
from tests.annotators.real_vllm import OPTIONS, same

PROMPT = load_prompt(prompt_file("heard", Path()))


def questions(number: int) -> list[Request]:
    """Sounds of the playground's world, asked about as the product does."""
    sounds = [av.sound(av.sample(84_000 + n, av.CORPUS)) for n in range(number)]
    clips = [ClipInput(key=f"c{n}", duration_s=av.DURATION_S, fps=25.0, sound=s) for n, s in enumerate(sounds)]
    return [Request(key=clip.key, clip=clip, prompt=PROMPT.render(Evidence())) for clip in clips]


class Dropping:
    """An engine that drops the sound of what it is asked, without a word."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        return iter(self.inner.generate([replace(request, clip=None) for request in requests], sampling))


def main(folder: Path) -> None:
    asked, short, out = questions(8), Sampling(max_new_tokens=160), dict[str, Any]()
    vlm = load_vlm(folder, inputs=("sound",))
    builder = InputBuilder(vlm.processor)
    own = list(build("transformers", vlm=vlm, builder=builder).generate(asked, short))
    options = {**OPTIONS, "max_model_len": 1024}
    served = build("vllm", model=folder, adapter=None, builder=builder, options=options, inputs=("sound",))
    out["alike"] = same(own, list(served.generate(asked, short)))
    held = replace(short, schema=PROMPT.schema_text)
    own_held = list(build("transformers", vlm=vlm, builder=builder).generate(asked, held))
    out["guided"] = same(own_held, list(served.generate(asked, held)))
    out["hears"] = str(prove_hearing(served, ear_canaries(asked), short).ears)
    out["drops"] = str(prove_hearing(Dropping(served), ear_canaries(asked), short).ears)
    served.close()
    print("RESULT" + json.dumps(out))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
