"""lmms-eval: a folder of tasks (YAML, ``utils.py``, JSON lines, media) that needs no network and no package of ours."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from flywheel.benchmark import answers
from flywheel.benchmark.answers import is_comparable
from flywheel.benchmark.exporters import _lmms_eval_utils
from flywheel.benchmark.exporters._bundled import write_bundle
from flywheel.benchmark.exporters._exporter import Exported, Exporter
from flywheel.benchmark.exporters._media import NONE
from flywheel.benchmark.exporters._variants import VARIANTS, Kept, Variant
from flywheel.benchmark.items import LETTERS, Item, Rejected
from flywheel.benchmark.prompting import asked
from flywheel.core.errors import MediaError
from flywheel.core.files import written_whole

#: ``datasets`` finds a file by a path from the current folder alone, so it is written whole.
_TASK = """\
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: generate_until
doc_to_messages: !function utils.messages
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: !function utils.target
process_results: !function utils.results
generation_kwargs:
  max_new_tokens: 64
  temperature: 0
  do_sample: false
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
  - metric: unparsed
    aggregation: mean
    higher_is_better: false
cluster_key: video_id
metadata:
  version: 1
"""


def _write(exported: Exported, out: Path) -> tuple[dict[str, int], list[Rejected]]:
    folder = out / exported.name
    folder.mkdir(exist_ok=True)
    (folder / "utils.py").write_text(inspect.getsource(_lmms_eval_utils), encoding="utf-8")
    write_bundle([answers], folder / "reading")
    kept, counts = Kept(), dict[str, int]()

    def row(item: Item, variant: Variant) -> dict[str, Any]:
        return _row(item, variant, exported, folder)

    for variant in VARIANTS:
        task = variant.named(exported.name)
        file = folder / f"{task}.jsonl"
        with written_whole(file) as part, open(part, "w", encoding="utf-8") as lines:
            counts[task] = 0
            for values in kept.rows(exported.items, variant, row):
                lines.write(json.dumps(values, ensure_ascii=False) + "\n")
                counts[task] += 1
        # A task without rows can't be loaded.
        place = folder / f"{task}.yaml"
        if counts[task]:
            with written_whole(place) as part:
                part.write_text(_TASK.format(task=task, file=json.dumps(str(file.resolve()))), encoding="utf-8")
        else:
            place.unlink(missing_ok=True)
            file.unlink()
    return counts, kept.rejected


def _row(item: Item, variant: Variant, exported: Exported, folder: Path) -> dict[str, Any]:
    if item.is_open and not is_comparable(item.references):
        raise MediaError("its answer is a whole text, which none but a judge can compare")
    media, video, audio = exported.media, "", ""
    if variant.picture != NONE:
        video = media.video(folder, item, sound=variant.sound)
    elif variant.sound != NONE:
        audio = media.sound(folder, item)
    return {
        "id": item.id,
        "video_id": item.medium,
        "video": video,
        "audio": audio,
        "prompt": asked(item),
        "question": item.question,
        "options": list(item.options),
        "key": item.key,
        "answer": LETTERS[item.key] if item.options else item.references[0],
        "references": list(item.references),
        "type": item.type,
        "length": item.length,
        "licence": item.licence,
    }


EXPORTER = Exporter(
    title="lmms-eval",
    source="EvolvingLMMs-Lab/lmms-eval 0.7.3: docs/task_guide.md",
    loading="python -m lmms_eval --include_path {out} --tasks {name} --model qwen3_vl --model_args pretrained=FOLDER",
    write=_write,
)
