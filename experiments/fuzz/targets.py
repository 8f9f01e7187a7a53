"""What is fuzzed: each target takes mutated inputs as users' commands do, and says what it should not have done."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from annotators import Result
from annotators.health import Unhealthy, check
from annotators.interface import storable
from experiments.fuzz.mutate import mutated
from flywheel import kinds
from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.core.types import Correction
from flywheel.formats.corrections import read_corrections
from flywheel.formats.subtitles import parse_subtitles
from flywheel.ingest import ingest
from flywheel.ingest.sources import items
from flywheel.store import Workspace
from human_refine.corrections import _read, _Rules, _Target

#: Reasons that nobody foresaw: they name a line of code.
_UNFORESEEN = re.compile(r"\((\w+): .*, (\w+\.py:\d+)\)")
GOOD = Path(__file__).parents[2] / "tests" / "ingest" / "before" / "still.mp4"
Inputs = Mapping[str, Sequence[tuple[str, bytes]]]


class Wrong(Exception):
    """A target did what it should not have done."""


def unforeseen(reason: str) -> str:
    """Class and place of a reason that nobody foresaw; empty for others."""
    found = _UNFORESEEN.search(reason)
    return f"{found[1]} {found[2]}" if found else ""


def _one(inputs: Inputs, what: str, rng: random.Random) -> tuple[str, bytes]:
    """Ending and bytes of a mutated input of this sort; one of eight is of another one's ending."""
    ending, content = rng.choice(inputs[what])
    if rng.random() < 0.125:
        ending = rng.choice(inputs[what])[0]
    return ending, mutated(content, [other for _, other in inputs[what]], rng)


def of_ingest(inputs: Inputs, work: Path, rng: random.Random) -> Iterator[str]:
    """Three mutated videos and a good one, words beside them, taken in twice."""
    source = work / "in"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for number in range(3):
        ending, content = _one(inputs, "video", rng)
        (source / f"{number}{ending}").write_bytes(content)
        side, words = _one(inputs, "subtitles", rng)
        (source / f"{number}{side}").write_bytes(words)
    shutil.copy(GOOD, source / "good.mp4")
    shutil.rmtree(work / "w", ignore_errors=True)
    Workspace.create(work / "w", template())
    workspace = Workspace.open(work / "w", ["corpus.max_seconds=10", "tracking.enabled=false"])
    try:
        for _ in range(2):
            with workspace.lock():
                result = ingest(workspace, [str(source)])
            if result.clips + result.known + result.rejected < 4:
                raise Wrong(f"of 4 files {result.clips} clips, {result.known} known and {result.rejected} rejected")
        if not any(uri.endswith("good.mp4") for uri in workspace.clips()["uri"]):
            raise Wrong("the good file was not taken in")
        for reason in workspace.rejected()["reason"]:
            yield unforeseen(reason)
    finally:
        workspace.database.close()


def of_subtitles(inputs: Inputs, work: Path, rng: random.Random) -> Iterator[str]:
    """Cues of mutated subtitles."""
    _, content = _one(inputs, "subtitles", rng)
    for cue in parse_subtitles(content.decode("utf-8", errors="replace")):
        cue.text.encode("utf-8")
        if not (math.isfinite(cue.start_s) and cue.end_s > cue.start_s):
            raise Wrong(f"a cue from {cue.start_s} to {cue.end_s}")
    yield ""


def of_tables(inputs: Inputs, work: Path, rng: random.Random) -> Iterator[str]:
    """Items of a mutated table, or shard."""
    ending, content = _one(inputs, "table", rng)
    file = work / f"t{ending}"
    work.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        for item in items(str(file), work / "media"):
            yield unforeseen(item.problem)


def of_replies(inputs: Inputs, work: Path, rng: random.Random) -> Iterator[str]:
    """A mutated reply, read as each kind."""
    _, content = _one(inputs, "reply", rng)
    text = content.decode("utf-8", errors=rng.choice(("replace", "surrogateescape", "backslashreplace", "ignore")))
    for kind in kinds.names():
        key = kinds.get(kind).schema_key
        schema = json.dumps({"type": "object", "required": [key]}) if key else ""
        finish = rng.choice(("stop", "length"))
        result = storable(Result(key="", text=text, token_ids=(), logprobs=(), tokens_in=0, finish=finish, seconds=0.0))
        try:
            reply = check(result, kind=kind, schema=schema, duration_s=8.0, script="LATIN", instruction="Describe it.")
            (reply.text + reply.payload).encode("utf-8")
        except Unhealthy as error:
            yield unforeseen(str(error))


def of_corrections(inputs: Inputs, work: Path, rng: random.Random) -> Iterator[str]:
    """A mutated file of corrections, of texts of each kind."""
    ending, content = _one(inputs, "corrections", rng)
    work.mkdir(parents=True, exist_ok=True)
    file = work / f"c{ending}"
    file.write_bytes(content)
    kind = rng.choice(kinds.names())
    target = _Target(clip_id="c", text="shown", payload="", kind=kind, duration_s=8.0)
    with contextlib.suppress(UserError):
        for row in read_corrections(file):
            read = _read(row, {"t": target, row.values.get("annotation_id", ""): target}, _Rules(max_chars=2000))
            if isinstance(read, Correction):
                (read.text + read.payload + read.refiner + read.reason).encode("utf-8")
            yield unforeseen(read if isinstance(read, str) else row.problem)


TARGETS: Mapping[str, Callable[[Inputs, Path, random.Random], Iterator[str]]] = {
    "ingest": of_ingest,
    "subtitles": of_subtitles,
    "tables": of_tables,
    "replies": of_replies,
    "corrections": of_corrections,
}
_SORTS = {
    "video": (".mp4", ".mkv", ".webm", ".mov", ".avi", ".ts", ".gif", ".m4v", ".mpg", ".3gp", ".flv", ".ogv"),
    "subtitles": (".vtt", ".srt", ".txt", ".ass"),
    "table": (".jsonl", ".json", ".csv", ".parquet", ".tar", ".tsv", ".arrow"),
    "corrections": (".jsonl", ".json", ".csv", ".parquet", ".vtt", ".srt"),
}
_MOST_BYTES = 1 << 20


def inputs_of(folders: Sequence[Path]) -> Inputs:
    """The inputs by sort: files of these folders, of at most 1 MiB, and some of our own making."""
    found: dict[str, list[tuple[str, bytes]]] = {sort: list(given) for sort, given in _own().items()}
    for file in sorted(path for folder in folders for path in folder.rglob("*")):
        if file.is_file() and 0 < file.stat().st_size <= _MOST_BYTES:
            for sort, endings in _SORTS.items():
                if file.suffix.lower() in endings:
                    found.setdefault(sort, []).append((file.suffix.lower(), file.read_bytes()))
    return found


def _own() -> dict[str, list[tuple[str, bytes]]]:
    import polars as pl

    cue = {"start_s": 0.5, "end_s": 2.0, "text": "A ball rolls."}
    replies = [
        "A ball rolls down the hill; a bell rings.",
        "I'm sorry, I can't help with that.",
        "<think>It moves.</think>\nHere is a caption: **A ball** rolls.",
        '```json\n{"cues": ' + json.dumps([cue]) + "}\n```",
        json.dumps({"pairs": [{"question": "What rolls?", "answer": "A ball."}]}),
        json.dumps({"tags": ["ball", "hill"]}),
        "a red ball " * 40,
    ]
    row = {"annotation_id": "t", "verdict": "edit", "text": "A ball.", "payload": "", "refiner": "Ann", "seconds": "3"}
    rows = pl.DataFrame([row, {**row, "verdict": "accept", "text": ""}])
    sheet, table = io.BytesIO(), io.BytesIO()
    rows.write_parquet(sheet)
    pl.DataFrame({"video": ["a.mp4", "b.mp4"], "caption": ["one", "two"], "start": [0.0, 1.0]}).write_parquet(table)
    result = {"value": {"text": ["A ball."]}, "from_name": "caption", "id": "x", "to_name": "video", "type": "textarea"}
    task = {
        "data": {"annotation_id": "t", "fps": 10, "start_s": 0, "model_text": "shown"},
        "annotations": [{"result": [result], "completed_by": {"email": "a@b"}, "created_at": "2025-01-01T00:00:00Z"}],
    }
    vtt = b"WEBVTT\n\nNOTE annotation t\n\n00:00.500 --> 00:02.000\nA <b>ball</b> rolls &amp; stops.\n"
    return {
        "reply": [(".txt", reply.encode()) for reply in replies],
        "corrections": [
            (".csv", rows.write_csv().encode()),
            (".jsonl", "\n".join(json.dumps(row) for row in rows.to_dicts()).encode()),
            (".parquet", sheet.getvalue()),
            (".json", json.dumps([task]).encode()),
            (".vtt", vtt),
            (".srt", b"1\n00:00:00,500 --> 00:00:02,000\nA ball rolls.\n"),
        ],
        "table": [
            (".jsonl", b'{"video": "a.mp4", "text": "one", "start": 0, "end": 1}\n{"path": "b.mp4"}\n'),
            (".csv", b"video,text,start_s,end_s\na.mp4,one,0,1\nb.mp4,,,\n"),
            (".parquet", table.getvalue()),
        ],
        "subtitles": [(".vtt", vtt)],
    }
