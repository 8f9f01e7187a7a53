"""Label Studio's tasks (``tasks.json``): people's texts as annotations, models' as predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flywheel.formats.export._files import as_json, write_list
from flywheel.formats.export._format import ExportFormat
from flywheel.formats.label_studio import task
from flywheel.formats.rows import ExportRow


def _write(rows: Iterable[ExportRow], out: Path) -> None:
    write_list(_tasks(rows), out / "tasks.json")


def _tasks(rows: Iterable[ExportRow]) -> Iterator[str]:
    for row in rows:
        item = ""
        with row.border():
            item = as_json(_task(row))
        if item:
            yield item


def _task(row: ExportRow) -> dict[str, Any]:
    predicted = task(
        annotation_id=row.annotation_id,
        video=row.address or row.uri,
        text=row.text,
        cues=row.cues,
        fps=row.fps,
        start_s=row.start_s,
        duration_s=row.end_s - row.start_s,
        model=f"round {row.round}",
    )
    if row.source != "human":
        return predicted
    result = predicted["predictions"][0]["result"]
    return {**predicted, "annotations": [{"result": result}], "predictions": []}


FORMAT = ExportFormat(
    write=_write,
    loading="import tasks.json; the labeling interface is flywheel.formats.label_studio.INTERFACE",
    cues=True,
)
