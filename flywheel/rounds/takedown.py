"""Taking clips down: removes all that a workspace holds of them, says where they were used, and lets none come back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.errors import UserError
from flywheel.curation.repair.repairing import tidy
from flywheel.curation.repair.side_by_side import FILMS
from flywheel.formats import timed_text
from flywheel.ingest.beside import Listings
from flywheel.ingest.folders import CONTAINERS
from flywheel.ingest.kept import kept
from flywheel.ingest.passed import ending, is_hidden
from flywheel.ingest.remote import FETCHED
from flywheel.ingest.sides import describe
from flywheel.rounds.export_store import remove_dataset
from flywheel.rounds.takedown_notes import Begun, begin, finish, merged, unfinished
from flywheel.store import Workspace
from flywheel.store.copies import remove_halves
from flywheel.store.mirror import names_below
from flywheel.store.objects import url_of
from flywheel.store.takedowns import Span
from flywheel.store.vectors import forget_files
from flywheel.store.videos import Video


@dataclass(frozen=True, kw_only=True)
class Takedown:
    """What was taken down, or would be, and where it had been used."""

    #: Ids of the clips.
    clips: list[str]
    #: Those of them that were not named, and show something of what was: the same video in another cut or container.
    overlapping: list[str]
    #: Rows removed, by kind of record and for ``corrections``.
    removed: dict[str, int]
    #: Where rounds learned from them: ``clip_id``, ``round``, ``stage`` and ``use``.
    learned: list[dict[str, Any]]
    #: Rounds whose models were measured by them.
    anchors_of: list[int]
    #: Folders of the datasets that held them.
    exports: list[str]
    exports_deleted: bool
    #: Their files outside the workspace, which are not the house's to delete.
    files: list[str]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The clips that go, and the parts of their videos that are refused from now on."""

    #: Names as they were given -> ids of the clips that each means.
    by_name: dict[str, set[str]]
    clips: set[str]
    spans: list[Span] = field(default_factory=list)
    #: Takedowns of some of these clips that were interrupted: this one finishes them.
    begun: list[Begun] = field(default_factory=list)

    @property
    def named(self) -> set[str]:
        """Ids of the clips that any name means."""
        return set[str]().union(*self.by_name.values())


def planned(workspace: Workspace, names: Sequence[str], reason: str) -> Plan:
    """What a takedown of these names is about.

    A file's path means the whole of its video, a clip's id the span of that clip: every clip that shows something of
    it, in whatever container. What an interrupted takedown of one of them was about is part of it. Raises UserError
    for a name that is no clip's.
    """
    workspace.videos.list_older()
    interrupted = unfinished(workspace)
    by_name, spans = {name: _ids(workspace, name, interrupted) for name in names}, list[Span]()
    for name, ids in by_name.items():
        by_path = not any(clip_id.startswith(name) for clip_id in ids)
        rows = workspace.clips_by_id(ids)
        videos = _described(workspace, rows)
        for clip in rows.iter_rows(named=True):
            times = {} if by_path else {"start_s": clip["start_s"], "end_s": clip["end_s"]}
            video = videos[clip["content_hash"]]
            spans.append(Span(content_hash=video.content_hash, streams=video.streams, reason=reason, **times))
    spans = list(dict.fromkeys(spans))
    clips = set[str]().union(*by_name.values(), _showing(workspace, spans))
    begun = [b for b in interrupted if not clips.isdisjoint(b.clips)]
    return Plan(by_name=by_name, clips=clips.union(*(b.clips for b in begun)), spans=spans, begun=begun)


def would_take_down(workspace: Workspace, plan: Plan) -> Takedown:
    """What :func:`take_down` would remove; nothing is changed."""
    clips = workspace.clips_by_id(plan.clips)
    usage = _usage(workspace, plan, clips)
    kinds = ("annotations", "generations", "examples", "rejected")
    removed = {kind: workspace.records.of_clips(kind, plan.clips, ["clip_id"]).height for kind in kinds}
    corrections = workspace.corrections().filter(pl.col("clip_id").is_in(sorted(plan.clips))).height
    return Takedown(
        clips=sorted(plan.clips),
        overlapping=sorted(plan.clips - plan.named),
        removed={**removed, "corrections": corrections, "clips": clips.height},
        exports_deleted=False,
        **usage,
    )


def take_down(
    workspace: Workspace,
    names: Sequence[str],
    reason: str,
    *,
    rewrite: Callable[[], None],
    keep_exports: bool = False,
) -> Takedown:
    """Remove clips from records, corrections, snapshots, caches, reports and exports; the caller holds the lock.

    ``names`` are ids, their first digits, or paths of files. ``rewrite`` writes the reports again from what is left.
    What was named is refused when it comes again, under whatever name, cut and container. The same command again
    finishes what was interrupted. Raises UserError for a name that is no clip's.
    """
    plan = planned(workspace, names, reason)
    ids = plan.clips
    clips = workspace.clips_by_id(ids)
    usage = _usage(workspace, plan, clips)
    # First, so that an interrupted takedown is on record, and nothing of it is taken in again.
    begin(workspace, plan.by_name, ids, usage)
    if clips.height:
        workspace.takedowns.note(ids, reason, usage, plan.spans)
    removed = workspace.takedowns.remove_records(ids)
    removed["corrections"] = workspace.takedowns.forget_people(ids)
    _empty_caches(workspace, clips)
    _forget_unfinished(workspace, ids)
    # Out of the object store too, while the clips still say which files these were: a copy there would come back.
    workspace.publish()
    # Without records nothing names them.
    tidy(workspace)
    holding = set(workspace.ledger.exports_with(ids))
    for export in usage["exports"]:
        # Another may have come to the place of one that went before an interruption.
        if export not in holding:
            continue
        if not keep_exports and (url := url_of(export)) is not None:
            remove_dataset(url)
            workspace.ledger.forget_export(export)
            # Once more: what was put between, by an export that found itself on record still.
            remove_dataset(url)
        elif not keep_exports and Path(export).is_dir():
            shutil.rmtree(export)
            workspace.ledger.forget_export(export)
    # After all that is found by them: a file's path names nothing from here on, but what was noted at the beginning.
    removed |= workspace.takedowns.remove_clips(ids)
    # Reports show pictures and texts.
    rewrite()
    finish(workspace, ids)
    # Last: the log holds what was noted too.
    workspace.database.scrub()
    return Takedown(
        clips=sorted(ids),
        overlapping=sorted(ids - plan.named),
        removed=removed,
        exports_deleted=not keep_exports,
        **usage,
    )


def _described(workspace: Workspace, clips: pl.DataFrame) -> dict[str, Video]:
    """The videos of these clips by content, with what tells their copies: versions before did not look at it."""
    places: dict[str, str] = dict(clips.select("content_hash", "uri").unique("content_hash").iter_rows())
    return {h: describe(workspace, h, Path(uri)) for h, uri in places.items()}


def _showing(workspace: Workspace, spans: Sequence[Span]) -> set[str]:
    """Clips of the same videos, in this container or another, that show something of these spans."""
    by_content: dict[str, list[Span]] = {}
    for span in spans:
        copies = [video.content_hash for video in workspace.videos.with_streams(span.streams)]
        for content_hash in {span.content_hash, *copies}:
            by_content.setdefault(content_hash, []).append(span)
    if not by_content:
        return set()
    columns = ["id", "content_hash", "start_s", "end_s"]
    rows = workspace.records.read("clips", columns=columns, where=pl.col("content_hash").is_in(sorted(by_content)))
    return {i for i, h, start_s, end_s in rows.iter_rows() if any(s.overlaps(start_s, end_s) for s in by_content[h])}


def _ids(workspace: Workspace, name: str, interrupted: Sequence[Begun]) -> set[str]:
    """Ids of the clips that a name means, or meant when its takedown began: of a file all, of first digits one."""
    ids = set(workspace.find_clips(name)["id"]).union(*(begun.of(name) for begun in interrupted))
    ids = ids or {i for i in workspace.taken_down() if i.startswith(name)}
    by_id = [i for i in ids if i.startswith(name)]
    if not ids or len(by_id) > 1:
        raise UserError(
            f"takedown {name}: names {len(by_id) or 'no'} clip{'s' * (len(by_id) != 1)}. "
            "Give the id as 'flywheel show' prints it, or the file's path."
        )
    return ids


def _usage(workspace: Workspace, plan: Plan, clips: pl.DataFrame) -> dict[str, Any]:
    """Where the clips were used, fields of :class:`Takedown`: by what is on record now, and was when it began."""
    began = [begun.usage for begun in plan.begun]
    if not clips.height:
        return merged(began or [workspace.takedowns.usage(plan.clips) or {}])
    columns = ["clip_id", "round", "stage", "use"]
    learned = workspace.records.of_clips("examples", plan.clips, columns)
    is_anchor = "anchor" in set(clips["split"])
    inside = workspace.root.resolve()
    outs = workspace.ledger.exports_with(plan.clips)
    usage: dict[str, list[Any]] = {
        "learned": learned.sort("round", "stage", "clip_id").to_dicts(),
        "anchors_of": [round for round in workspace.rounds() if round] if is_anchor else [],
        "exports": [out for out in outs if url_of(out) is not None or Path(out).is_dir()],
        "files": sorted({uri for uri in clips["uri"].unique() if not Path(uri).resolve().is_relative_to(inside)}),
    }
    return merged([*began, usage])


def _forget_unfinished(workspace: Workspace, ids: set[str]) -> None:
    """Remove what unfinished trainings keep of these clips' texts, with their checkpoints: they begin anew."""
    for folder in sorted((workspace.root / "models").glob("round=*/*")):
        if folder.suffix not in (".work", ".ranks"):
            continue
        from trainers.examples import ExampleTable

        tables = (ExampleTable(file) for file in sorted(folder.glob("*.arrow")))
        if list(folder.glob("*.tmp")) or any(i in ids for table in tables for i, _ in table.clips_and_groups()):
            shutil.rmtree(folder)


def _empty_caches(workspace: Workspace, clips: pl.DataFrame) -> None:
    """Remove the clips' pictures and vectors, and their files where they lie in the workspace.

    Frames are found by hashes of content and times, under whatever settings they were decoded: the whole cache goes,
    and is made again as it is needed.
    """
    shutil.rmtree(workspace.cache.folder, ignore_errors=True)
    shutil.rmtree(workspace.root / FILMS, ignore_errors=True)
    forget_files(workspace.root)
    contents = clips["content_hash"].unique().to_list()
    for content_hash in contents:
        # Also those that are being made, or were when a server was killed.
        for copy in (workspace.root / "cache" / "proxies" / content_hash[:2]).glob(f"{content_hash}.*"):
            copy.unlink(missing_ok=True)
    _remove_media(workspace, clips, contents)


def _remove_media(workspace: Workspace, clips: pl.DataFrame, contents: Sequence[str]) -> None:
    """Remove files that were taken out of tars, or fetched, with the words beside them; not where other clips stay."""
    media = (workspace.root / "media").resolve()
    of_these = pl.col("content_hash").is_in(contents) & ~pl.col("id").is_in(clips["id"].to_list())
    others = set(workspace.records.read("clips", columns=["id", "content_hash"], where=of_these)["content_hash"])
    places = clips.select("content_hash", "uri").unique().iter_rows()
    inside = [Path(uri) for h, uri in places if h not in others and Path(uri).resolve().is_relative_to(media)]
    beside, words = Listings(), list[Path]()
    for file in inside:
        # By their names too: of an object store's they need not be here.
        names = {*beside.beside(file), *(file.stem + ending for ending in timed_text.endings())}
        words += [file.with_name(name) for name in sorted(names)]
    # A copy may lie there of what was taken in from elsewhere.
    folder = workspace.root / "media"
    copies = [copy for content_hash in contents if content_hash not in others for copy in kept(content_hash, folder)]
    # Tars and tables that were fetched hold the video, or its words, and are fetched again where they are named.
    fetched = [workspace.root / name for name in names_below(workspace.root, FETCHED)]
    containers = [file for file in fetched if ending(file.name) in CONTAINERS and not is_hidden(file.name)]
    for file in dict.fromkeys((*inside, *words, *copies, *containers)):
        workspace.discard(file)
    remove_halves(media)
