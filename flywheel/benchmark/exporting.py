"""A benchmark's file is written for another harness, with its media."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flywheel.benchmark import exporters
from flywheel.benchmark.exporters._media import Media
from flywheel.benchmark.items import Rejected
from flywheel.benchmark.reading import read
from flywheel.benchmark.videos import Videos
from flywheel.core.errors import UserError

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What was written: items by task, and what could not be. ``loading`` is how the harness is started."""

    folder: str
    tasks: Mapping[str, int]
    rejected: Sequence[Rejected]
    loading: str

    def lines(self) -> list[str]:
        """The result in lines."""
        lines = [f"{self.folder}:", *(f"  {name}: {count} items" for name, count in self.tasks.items())]
        if self.rejected:
            lines.append(f"{len(self.rejected)} were not written, such as:")
            lines += [f"  {reject.place}: {reject.reason}" for reject in self.rejected[:_SHOWN]]
        return lines


def export(source: Path, items: str, videos: Path, out: Path, *, format: str, name: str = "") -> ExportResult:
    """Write the questions of ``source`` (in the format ``items``) for a harness into the folder ``out``.

    Media that are there already are kept, so that an export that was stopped goes on. Raises UserError where nothing
    can be written, as :func:`flywheel.benchmark.read` does, and for an unknown harness.
    """
    exporter = exporters.get(format)
    name = name or re.sub(r"\W+", "_", source.resolve().stem).strip("_").lower()
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise UserError(f"--name '{name}': need a word of letters, digits and _, such as my_benchmark.")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is no folder.")
    questions, folder = read(source, items), Videos(videos)
    out.mkdir(parents=True, exist_ok=True)
    exported = exporters.Exported(name=name, items=questions.items, media=Media(folder, questions.items))
    tasks, rejected = exporter.write(exported, out)
    rejected = [*questions.rejected, *rejected]
    if not any(tasks.values()):
        first = rejected[0]
        raise UserError(f"{source}: none of {questions.count} items can be written ({first.place}: {first.reason}).")
    loading = exporter.loading.format(name=name, out=out)
    return ExportResult(folder=str(out), tasks=tasks, rejected=rejected, loading=loading)
