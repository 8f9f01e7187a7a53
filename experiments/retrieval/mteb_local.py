"""Whether MTEB's own runner takes our encoder, and finds what we find: texts ask for rendered sounds and videos.

``python -m experiments.retrieval.mteb_local --out FILE`` needs ``mteb`` (2.26), which no part of this project installs.
An encoder with random weights is trained for ``--steps`` on clips of the playground's audio-visual world; a task of
MTEB's own class asks for others. A JSON line a task: MTEB's nDCG@10 and ours of the same vectors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.retrieval.playground import Rendered, timelines
from flywheel.metrics.retrieval import ndcg_at
from flywheel.models import encoders
from flywheel.models.encoder_files import save_encoder
from flywheel.models.mteb_encoder import MtebEncoder
from flywheel.playground import av
from trainers.contrastive import ContrastiveSettings, train_encoder

_SIZES = {"width": 32, "heads": 2, "layers": 1, "decoder_width": 16, "frames": 2, "frame_size": 32, "patch": 8}
_SIZES |= {"bands": 32, "times": 32, "sound_patch": 8, "words": 16, "local_weight": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--train", type=int, default=96)
    parser.add_argument("--asked", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    encoder = encoders.build("trimodal", **_SIZES)
    data = [Rendered(encoder, timelines(first, n, held_out=False)) for first, n in ((0, arguments.train), (10**6, 16))]
    plan = ContrastiveSettings(steps=arguments.steps, batch=16, chunk=16, rate=3e-3)
    asked = timelines(2 * 10**6, arguments.asked, held_out=False)
    with tempfile.TemporaryDirectory() as folder:
        train_encoder(encoder, *data, Path(folder) / "e", plan)
        save_encoder(encoder, Path(folder) / "encoder")
        ours = MtebEncoder(Path(folder) / "encoder")
    for column in ("audio", "video"):
        facts: dict[str, Any] = {"asked": len(asked), "steps": arguments.steps, "task": f"text to {column}"}
        facts |= scored(ours, asked, column)
        facts["mteb"] = version("mteb")
        print(json.dumps(facts), flush=True)
        with arguments.out.open("a") as out:
            out.write(json.dumps(facts) + "\n")


def scored(ours: MtebEncoder, asked: list[av.Timeline], column: str) -> dict[str, Any]:
    """nDCG@10 by MTEB's runner, and by us from the same vectors; texts that describe two clips are asked once."""
    import mteb
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    unique = list({av.caption(timeline): timeline for timeline in asked}.items())
    texts = [text for text, _ in unique]
    media = [_medium(ours, timeline, column) for _, timeline in unique]

    class Local(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=f"Playground{column.title()}",
            description="Rendered clips",
            reference=None,
            dataset={"path": "local/none", "revision": "1"},
            type="Any2AnyRetrieval",
            category=f"t2{column[0]}",
            modalities=["text", column],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation=None,
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            names = [str(n) for n in range(len(texts))]
            split = {
                "corpus": Dataset.from_dict({"id": names, column: media}),
                "queries": Dataset.from_dict({"id": names, "text": texts}),
                "relevant_docs": {name: {name: 1} for name in names},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    result = mteb.evaluate(ours, tasks=[Local()], cache=None)
    [score] = result.task_results[0].scores["test"]
    similarity = ours.encode([{"text": texts}]) @ ours.encode([{column: media}]).T
    return {"ndcg@10 by mteb": score["ndcg_at_10"], "ndcg@10 by us": ndcg_at(similarity, np.arange(len(texts)))}


def _medium(ours: MtebEncoder, timeline: av.Timeline, column: str) -> Any:
    if column == "audio":
        rate_hz = ours.encoder.rate_hz
        return {"array": av.sound(timeline).astype(np.float32).tolist(), "sampling_rate": rate_hz}
    side, times_s = ours.encoder.frame_size, [(i + 0.5) * av.DURATION_S / 2 for i in range(2)]
    return av.frames(timeline, times_s, side, side).tolist()


if __name__ == "__main__":
    main()
