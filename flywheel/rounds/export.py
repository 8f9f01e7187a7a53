"""Datasets written from a champion's data: the text of each clip as it was when the champion came to the gate."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from flywheel.core.errors import BorderError, UserError
from flywheel.formats import export as formats
from flywheel.formats.card import Card, write_card
from flywheel.formats.rows import ExportRow
from flywheel.rounds.champion import unit
from flywheel.rounds.context import RoundContext
from flywheel.rounds.export_rows import DatasetRows, ExportCounts
from flywheel.rounds.export_store import address_of, part_at
from flywheel.store import View, Workspace
from flywheel.store.objects import url_of

_SPLITS = ("train", "test", "anchor")


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export wrote: clips in all, clips by the source of their text, and clips left out by reason."""

    round: int
    format: str
    clips: int
    sources: dict[str, int]
    left_out: dict[str, int]
    out: str


def export(
    context: RoundContext, out: Path, form: str, *, round: int | None = None, splits: tuple[str, ...] = ("train",)
) -> ExportResult:
    """Write a round's dataset (the champion's if left out) into a new folder, or to the URL of an object store.

    The folder appears whole or not at all, the card at the URL last; the same round gives the same bytes.
    Raises UserError for an unknown format, split or round, and for a place that holds something already.
    """
    try:
        str(out.resolve()).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError("export: the path of --out is no UTF-8. Name another folder.") from None
    chosen = formats.get(form)
    if unknown := sorted(set(splits) - set(_SPLITS)):
        raise UserError(f"export: split '{unknown[0]}' is unknown. There are train, test and anchor.")
    view, round = _frozen(context.workspace, round)
    counts, url = ExportCounts(), url_of(out)
    what = f"{context.workspace.database.state()[0]} round {round} {form} {','.join(splits)}"
    stands = partial(context.workspace.ledger.has_export, url or "")
    with _part_of(out) if url is None else part_at(url, what, stands) as temporary:
        # A file and not a list: a dataset may have more clips than memory has room for.
        with tempfile.TemporaryFile("w+", dir=temporary.parent, encoding="utf-8") as ids:
            rows = DatasetRows(
                view, context.config, round, splits, counts, with_cues=chosen.cues, with_turns=chosen.turns
            )
            if url is not None:
                rows.address = partial(address_of, context.workspace.root)
            chosen.write(_noting(rows, ids), temporary)
            write_card(_card(context, view, round, form, counts), temporary, loading=chosen.loading)
            if url is None and out.exists():
                out.rmdir()
            # Recorded before it appears: when a clip must go, every dataset that holds it must be on record.
            ids.seek(0)
            place = str(out.resolve()) if url is None else url
            context.workspace.add_export(place, round, (line.rstrip("\n") for line in ids))
        if url is None:
            temporary.replace(out)
    return ExportResult(
        round=round,
        format=form,
        clips=counts.clips,
        sources=dict(counts.sources),
        left_out=dict(counts.left_out),
        out=str(out) if url is None else url,
    )


@contextlib.contextmanager
def _part_of(out: Path) -> Iterator[Path]:
    """The empty folder in which a dataset is written before it takes its place; of two exports one has it.

    Raises UserError while another one has it, and where ``out`` holds something; BorderError where it can't be written.
    """
    temporary = out.with_name(f".{out.name}.part")
    with _writing(out):
        temporary.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, temporary, out)
        try:
            with _writing(out):
                if out.exists() and (not out.is_dir() or any(out.iterdir())):
                    raise UserError(f"{out}: holds something already. Name a new folder with --out.")
                _empty(temporary)
                yield temporary
        finally:
            # It is gone where it took its place.
            shutil.rmtree(temporary, ignore_errors=True)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BorderError(f"{out}: can't be written ({error.strerror or error}).") from error


def _empty(folder: Path) -> None:
    """Remove what a killed export left."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _lock(descriptor: int, temporary: Path, out: Path) -> None:
    """Take the folder's lock. Raises UserError where another export has it, or has just taken it to its place."""
    busy = UserError(f"{out}: another export writes into it. Wait for it to end, or name another folder.", code="busy")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise busy from error
    if not temporary.exists() or not os.path.samestat(os.fstat(descriptor), temporary.stat()):
        raise busy


def _frozen(workspace: Workspace, round: int | None) -> tuple[View, int]:
    """A round's data as it was at the round's gate, and the round.

    Round 0 has no gate: its data is today's.
    """
    chosen = workspace.champion() if round is None else round
    if chosen and workspace.frozen(chosen) is not None:
        return workspace.as_of(chosen), chosen
    if round:
        raise UserError(f"export: round {round} never came to its gate, so there is no data of it as it was.")
    return workspace, chosen


def _noting(rows: Iterable[ExportRow], ids: IO[str]) -> Iterator[ExportRow]:
    """The rows, each one's id written down before a format gets it."""
    for row in rows:
        ids.write(row.id + "\n")
        yield row


def _card(context: RoundContext, view: View, round: int, form: str, counts: ExportCounts) -> Card:
    workspace = context.workspace
    since = next((row["at"] for row in workspace.champions() if row["round"] == round), "")
    hashes = unit(context, round)
    refiners = view.corrections()["refiner"]
    return Card(
        name=(workspace.url or str(workspace.root)).rsplit("/", 1)[-1],
        form=form,
        round=round,
        champion_since=since,
        num_clips=counts.clips,
        hours=counts.hours,
        counts=dict(counts.sources),
        left_out=dict(counts.left_out),
        model={
            "base": context.config.main.folder,
            "weights": hashes["model"],
            "adapter": hashes["adapter"] or "none",
            **_prompts(workspace, round),
        },
        rounds=tuple(_figures(workspace, r) for r in workspace.rounds() if r <= round),
        licence=context.config.corpus.licence,
        num_refiners=refiners.n_unique(),
    )


def _prompts(workspace: Workspace, round: int) -> dict[str, str]:
    """The prompts of the rounds up to this one with their versions, as the rounds had them."""
    versions: dict[str, set[str]] = {}
    for earlier in workspace.rounds():
        if earlier <= round:
            for name, version in workspace.stage(earlier, "annotate")[1].get("prompts", {}).items():
                versions.setdefault(name, set()).add(version)
    return {f"prompt {name}": ", ".join(sorted(versions[name])) for name in sorted(versions)}


def _figures(workspace: Workspace, round: int) -> dict[str, Any]:
    """A round's row in the card's table."""
    measured, gate = workspace.stage(round, "evaluate")[1], workspace.stage(round, "gate")[1]
    quality = measured.get("quality", {})
    return {
        "round": "base" if round == 0 else round,
        "verdict": gate.get("verdict", ""),
        "anchor token F1": _figure(quality.get("anchor_token_f1")),
        "agreement": _figure(quality.get("agreement")),
        "distinct-3": _figure(measured.get("diversity", {}).get("distinct_3")),
    }


def _figure(estimate: Any) -> str:
    """A figure as the table has it, empty where it was not measured."""
    value = estimate.get("value") if isinstance(estimate, dict) else None
    return "" if value is None or value != value else f"{value:.3f}"
