"""Edited sounds taken away as WAV files, with what was done to each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.curation.repair.standing import StandingSounds
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex

_LIST = "sounds.jsonl"
_TOLD = ("clip_id", "version", "content_hash", "num_bytes", "parent", "original", "code", "planner", "reason", "at")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """How many sounds were written, and how many could not be."""

    written: int = 0
    lost: int = 0


def export_sounds(workspace: Workspace, out: Path, only: Collection[str] | None = None) -> Exported:
    """Write the edited sounds that stand as ``out/CLIP.wav``, and ``out/sounds.jsonl`` with the lineage of each.

    Each file appears whole, the list last. The folder is on record, so that a takedown finds it. Raises UserError for a
    folder that holds something else. Sounds of an earlier export that are not written now are removed: a takedown would
    not find them.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _LIST).exists())):
        raise UserError(f"{out}: holds something else. Name a new folder, or one with an earlier export of sounds.")
    out.mkdir(parents=True, exist_ok=True)
    sounds, index, written, lost = StandingSounds(workspace), ClipIndex(workspace), 0, 0
    rows = workspace.standing_sounds().select("id", "clip_id")
    if only is not None:
        rows = rows.filter(pl.col("clip_id").is_in(sorted(only)))
    _remove_others(out, index, set(rows["clip_id"]))
    workspace.add_export(out.resolve(), 0, rows["clip_id"])
    with written_whole(out / _LIST) as listed, open(listed, "w", encoding="utf-8") as lines_out:
        for part in rows.iter_slices(1024):
            for row in workspace.records.rows("sound_versions", part["id"]).iter_rows(named=True):
                source = sounds.of(index[row["clip_id"]])
                file = out / f"{row['clip_id']}.wav"
                if not source.version:
                    file.unlink(missing_ok=True)
                    lost += 1
                    continue
                with written_whole(file) as place:
                    shutil.copyfile(source.path, place)
                told = {name: row[name] for name in _TOLD}
                told |= {name: json.loads(row[name]) for name in ("plan", "before", "after")}
                lines_out.write(json.dumps(told) + "\n")
                written += 1
    return Exported(written=written, lost=lost)


def _remove_others(out: Path, index: ClipIndex, wanted: Collection[str]) -> None:
    """Remove the WAV files that earlier exports wrote for other clips; what is not named by one stays."""
    listed = out / _LIST
    lines = listed.read_text("utf-8").splitlines() if listed.exists() else []
    earlier = {str(json.loads(line).get("clip_id")) for line in lines}
    for file in out.glob("*.wav"):
        # A killed export has no list yet of what it wrote.
        if file.stem not in wanted and (file.stem in earlier or file.stem in index):
            file.unlink()
