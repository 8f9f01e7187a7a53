"""Our exported tasks in lmms-eval itself: do they load without a network, and is each item scored as here?

    python -m venv ENV && ENV/bin/pip install lmms-eval==0.7.3 decord==0.6.0 "filelock<4"
    python experiments/benchmark/harness.py --env ENV --out OUT

A tiny model is asked by lmms-eval's own ``qwen3_vl``. It names no option, so replies that say answers in many ways are
scored too, by lmms-eval's own ``from_log``. Writes a JSON line for each task.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.benchmark.answers import UNPARSED, chosen
from flywheel.benchmark.building import build
from flywheel.benchmark.exporting import export
from flywheel.playground.tiny import bundled_model

_TASKS = ("bench", "bench_no_visual", "bench_no_audio", "bench_text_only", "bench_swapped_audio", "bench_gt_none")
#: For a model without ears: a sound alone is nothing that it could be asked by.
_SEEING = ("bench", "bench_no_audio", "bench_text_only", "bench_swapped_audio", "bench_gt_none")
#: Replies with a place for a letter and for the option's words.
_FORMS = (
    "{letter}",
    "({letter})",
    "The answer is {letter}.",
    "{words}",
    "**{letter}.** {words}",
    "<think>A</think>{letter}",
)
_NO_ANSWERS = ("A or B", "I can't tell.", "", "As an AI, I see none.", "The answer is A. The answer is B.")


def main() -> None:
    """Build, export, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--model", type=Path, default=bundled_model())
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    build(out / "bench", seed=1, num_videos=arguments.videos, num_blocks=2)
    tasks = out / "tasks"
    export(out / "bench", "flywheel", out / "bench" / "videos", tasks, format="lmms-eval", name="bench")
    size = "device=cpu,device_map=cpu,min_pixels=8192,max_pixels=8192,max_num_frames=8"
    _write_log(out / "log", tasks / "bench")
    for model, options, names in (
        ("qwen3_vl", f"pretrained={arguments.model},{size}", _SEEING),
        ("from_log", f"logs={out / 'log'}", _TASKS),
    ):
        for line in _run(arguments.env, out, model, options, names):
            print(json.dumps({"model": model, **line}), flush=True)


def _write_log(folder: Path, tasks: Path) -> None:
    """Replies in the form of lmms-eval's logs, by task: right ones, wrong ones, and such that are no answer."""
    folder.mkdir(exist_ok=True)
    for task in _TASKS:
        logs = []
        for number, line in enumerate((tasks / f"{task}.jsonl").read_text().splitlines()):
            row = json.loads(line)
            place = (row["key"] + number % 3) % len(row["options"])
            form = [*_FORMS, *_NO_ANSWERS][number % (len(_FORMS) + len(_NO_ANSWERS))]
            reply = form.format(letter="ABCD"[place], words=row["options"][place])
            logs.append({"doc_id": number, "resps": [[reply]]})
        log = {"args": {"model": "x", "model_args": "", "limit": None}, "model_configs": {"task": task}, "logs": logs}
        (folder / f"{task}.json").write_text(json.dumps(log))


def _run(env: Path, out: Path, model: str, options: str, tasks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Run tasks and yield of each what lmms-eval says and what our reading of the same replies says."""
    results = out / f"results-{model}"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    # Nothing of ours is on its path, and nothing that was downloaded before is there.
    environment = {**os.environ, **offline, "HF_HOME": str(out / "hf"), "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""}
    command = [env.absolute() / "bin" / "python", "-m", "lmms_eval", "--model", model, "--model_args", options]
    command += ["--tasks", ",".join(tasks), "--include_path", out / "tasks", "--batch_size", "1"]
    command += ["--log_samples", "--output_path", results]
    subprocess.run([str(part) for part in command], env=environment, check=True, cwd=out, capture_output=True)
    yield from _compared(results, out, tasks)


def _compared(results: Path, out: Path, tasks: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    # A run that failed ends with 0: its files are not there.
    summary = json.loads(max(results.rglob("*_results.json")).read_text())["results"]
    for task in tasks:
        samples = [json.loads(line) for line in max(results.rglob(f"*_samples_{task}.jsonl")).read_text().splitlines()]
        rows = [json.loads(line) for line in (out / "tasks" / "bench" / f"{task}.jsonl").read_text().splitlines()]
        equal = right = unparsed = 0
        for sample in samples:
            row, reply = rows[sample["doc_id"]], sample["filtered_resps"]
            # One reply stands alone, several in a list.
            reply = reply if isinstance(reply, str) else reply[0]
            place = chosen(reply, row["options"])
            equal += sample["accuracy"] == float(place == row["key"]) and sample["unparsed"] == float(place == UNPARSED)
            right += place == row["key"]
            unparsed += place == UNPARSED
        found = next(value for name, value in summary[task].items() if name.startswith("accuracy,"))
        yield {
            "task": task,
            "items": len(samples),
            "equal": equal,
            "lmms_eval": found,
            "ours": right / len(samples),
            "unparsed": unparsed,
        }


if __name__ == "__main__":
    main()
