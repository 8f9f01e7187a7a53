"""What a training learned from, on record:
each example with the corrections behind it, and the texts it must not say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from flywheel.core.types import HUMAN, Example, content_id
from flywheel.rounds.text_pairs import TextPair
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from flywheel.store.columns import SCHEMAS

#: Rows that are written, and recorded, at a time.
_BATCH = 16_384


def learned_rows(
    stage: str, examples: Iterable[Example], texts: CurrentTexts, pairs: Iterable[TextPair] = ()
) -> Iterator[dict[str, Any]]:
    """A row for each example with the corrections behind it, then one for each train text that people rejected.

    Then two for each pair, of which the first was preferred to the second, with the corrections or choices behind it.
    """
    for example in examples:
        by_people = texts.corrections(example.annotation_id) if example.group == HUMAN else ()
        yield _row(
            stage,
            clip_id=example.clip_id,
            annotation_id=example.annotation_id,
            source=example.group,
            use="learned",
            weight=example.weight * example.share,
            # The same answer to another question is another example.
            text=f"{example.question}\n{example.text}" if example.question else example.text,
            corrections=by_people,
        )
    for rejected in texts.rejected():
        annotation = rejected.annotation
        if texts.split(annotation.clip_id) == "train":
            yield _row(
                stage,
                clip_id=annotation.clip_id,
                annotation_id=annotation.id,
                source=f"{annotation.source}:{annotation.round}:{annotation.kind}",
                use="rejected",
                weight=0.0,
                text=annotation.text,
                corrections=rejected.corrections,
            )
    for pair in pairs:
        sides = (("preferred", pair.chosen, pair.chosen_id), ("rejected", pair.rejected, pair.rejected_id))
        for use, text, annotation_id in sides:
            yield _row(
                stage,
                clip_id=pair.clip_id,
                annotation_id=annotation_id,
                source=f"pair:{pair.source}",
                use=use,
                weight=pair.weight,
                text=text,
                corrections=pair.by,
            )


def _row(stage: str, *, text: str, corrections: Sequence[str], **values: Any) -> dict[str, Any]:
    return {"stage": stage, **values, "text_hash": content_id(text), "corrections": list(corrections)}


def finished(workspace: Workspace, out: Path, round: int) -> dict[str, Any] | None:
    """The record of a training whose model is whole in ``out``; killed after that, it need not train again."""
    note = out / "training.json"
    if not note.exists():
        return None
    _record_examples(workspace, out, round)
    return json.loads(note.read_text())  # type: ignore[no-any-return]


def finish(
    workspace: Workspace, out: Path, round: int, record: dict[str, Any], learned: Iterator[dict[str, Any]]
) -> None:
    """Keep beside the weights what they learned from, then that they are whole; then the records, if need be again."""
    temporary = out / "note.tmp"
    write_rows(temporary, learned)
    temporary.replace(out / "examples.parquet")
    temporary.write_text(json.dumps(record))
    temporary.replace(out / "training.json")
    _record_examples(workspace, out, round)
    shutil.rmtree(out.with_name(out.name + ".work"), ignore_errors=True)


def write_rows(file: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Write rows of examples as Parquet, some in memory at a time."""
    schema = {c: t for c, t in SCHEMAS["examples"].items() if c not in ("id", "round")}
    table = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest())
    with pq.ParquetWriter(file, table.schema) as writer:
        while some := list(islice(rows, _BATCH)):
            part = pl.DataFrame(some, schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest())
            writer.write_table(part)


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows that :func:`write_rows` wrote, some in memory at a time."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()


def _record_examples(workspace: Workspace, out: Path, round: int) -> None:
    file = out / "examples.parquet"
    if file.exists():
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH):
                workspace.add_examples(batch.to_pylist(), round)
