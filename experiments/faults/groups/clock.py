"""A clock that is set back by a day between two commands: the later one is still the later one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.store import Workspace
from flywheel.store.gold import gold_texts
from flywheel.store.people import excluded_names

_BACK_S = -86_400.0


def faults(bed: Bed) -> Iterator[Fault]:
    """Five commands."""
    attempts: dict[str, Callable[[Bed], str]] = {
        "ingest": _ingest,
        "annotate": _annotate,
        "corrections import": _corrections,
        "exclude --undo": _exclude,
        "gold": _gold,
    }
    for name, attempt in attempts.items():
        yield Fault("clock set back", name, _bound(attempt, bed))


def _bound(attempt: Callable[[Bed], str], bed: Bed) -> Callable[[], str]:
    return lambda: attempt(bed)


def _ingest(bed: Bed) -> str:
    root = bed.copy("empty")
    run("ingest", bed.corpus, "--config", root)
    run("ingest", bed.corpus, "--config", root, shift_s=_BACK_S)
    return "; ".join(problems(root))


def _annotate(bed: Bed) -> str:
    root = bed.copy("ingested")
    run("annotate", "--config", root, shift_s=_BACK_S)
    outcome = run("annotate", "--config", root)
    return "; ".join(problems(root)) if outcome.code == 0 else outcome.last()


def _said(root: Path, bed: Bed, text: str, name: str = "ann") -> Path:
    file = root / "said.jsonl"
    row = json.loads(bed.corrections.read_text().splitlines()[0])
    file.write_text(json.dumps({**row, "text": text, "refiner": name}) + "\n")
    return file


def _corrections(bed: Bed) -> str:
    root = bed.copy("annotated")
    run("corrections", "import", _said(root, bed, "first"), "--config", root)
    run("corrections", "import", _said(root, bed, "second"), "--config", root, shift_s=_BACK_S)
    workspace = Workspace.open(root)
    try:
        last = workspace.corrections()["text"].to_list()[-1]
    finally:
        workspace.database.close()
    return "" if last == "second" else f"'{last}' counts"


def _exclude(bed: Bed) -> str:
    root = bed.copy("annotated")
    run("corrections", "import", _said(root, bed, "first", "eve"), "--config", root)
    run("exclude", "eve", "--reason", "a try", "--config", root)
    run("exclude", "eve", "--reason", "a try", "--undo", "--config", root, shift_s=_BACK_S)
    workspace = Workspace.open(root)
    try:
        return "eve is still out" if "eve" in excluded_names(workspace) else ""
    finally:
        workspace.database.close()


def _gold(bed: Bed) -> str:
    root = bed.copy("annotated")
    workspace = Workspace.open(root)
    try:
        train = set(workspace.clips("train")["id"])
        texts = workspace.annotations(round=1, kind="caption")
        (chosen, *_) = [row["id"] for row in texts.iter_rows(named=True) if row["clip_id"] in train]
        for text, shift_s in (("first", 0.0), ("second", _BACK_S)):
            row = {"annotation_id": chosen, "verdict": "edit", "text": text}
            (root / "gold.jsonl").write_text(json.dumps(row) + "\n")
            run("gold", root / "gold.jsonl", "--config", root, shift_s=shift_s)
        texts_now = list(gold_texts(workspace).values())
        return "" if texts_now == ["second"] else f"{texts_now} count"
    finally:
        workspace.database.close()
