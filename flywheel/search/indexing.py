"""Vectors of all clips, made once a model and kept: killed and run again, nothing is lost or made twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import polars as pl

from flywheel.core.errors import BorderError, UserError
from flywheel.core.progress import progress, say
from flywheel.core.reading import Reading
from flywheel.core.types import INDEX, Clip
from flywheel.curation.repair.standing import StandingSounds
from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Embedder, Modality
from flywheel.rounds.encoder_clips import ClipReader
from flywheel.rounds.progress import current_round
from flywheel.search.embedding import Wanted, content_of, embedded, read_clip
from flywheel.search.reading import ClipTexts
from flywheel.search.training import encoder_to_fill, folder_to_fill, needs_training, put_in_use
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.vector_graphs import can_make_graphs
from flywheel.store.vectors import LastVectors, VectorIndex, vector_id
from flywheel.store.writing import reject

#: Clips that are looked up at once.
_LOOKUP = 4096
#: Rows that are committed together: few shards, and little to make again after a kill.
_COMMIT_ROWS = 128
#: Fewer clips that can't be read tell nothing of a disk that is away.
_ENOUGH = 8


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """The encoder's name, id and width, how many clips there are, and how many got vectors now, by modality."""

    encoder: str
    model: str
    width: int
    clips: int
    video: int = 0
    sound: int = 0
    text: int = 0
    rejected: int = 0


def index(workspace: Workspace, *, retrain: bool = False, limit: int | None = None) -> Indexed:
    """Make the vectors of clips that have none, at most ``limit`` clips.

    The encoder is trained first where there is none; one that is trained anew is in use when all
    clips have its vectors. The caller holds the lock. What can't be read is a rejected row of the round, and is tried
    again by the next call. Raises UserError without clips, Unreadable where most can't be read.
    """
    clips = ClipIndex(workspace)
    if not clips:
        raise UserError(f"{workspace.root}: no clips yet. Add videos with 'flywheel ingest FOLDER'.")
    encoder, model = encoder_to_fill(workspace, clips, retrain=retrain)
    done = Indexed(encoder=encoder.built_from[0], model=model, width=encoder.width, clips=len(clips))
    reader, round = ClipReader(workspace, encoder, kept=False), current_round(workspace)
    reading, rejected = Reading(INDEX, workspace.config.corpus.most_unreadable), _rejected(workspace)
    every = _without_vectors(workspace, encoder, model, clips, reader.sounds.version)
    waiting = islice(every, limit)
    with progress("index", limit) as bar, ThreadPoolExecutor(workspace.config.index.decoders) as pool:
        rows, rejects = list[dict[str, Any]](), list[dict[str, Any]]()

        def commit() -> None:
            nonlocal done
            # Before the rejects: a disk that is away is no clip's fault.
            reading.check()
            workspace.add_vectors(rows)
            workspace.add_rejects(rejects, round)
            made = Counter(row["modality"] for row in rows if row["vector"])
            done = replace(
                done,
                video=done.video + made[VIDEO],
                sound=done.sound + made[SOUND],
                text=done.text + made[TEXT],
                rejected=done.rejected + len(rejects),
            )
            rows.clear()
            rejects.clear()

        while group := list(islice(waiting, encoder.together)):
            some, whys = embedded(encoder, model, group, list(pool.map(partial(read_clip, reader, encoder), group)))
            rows += some
            for wanted, why in zip(group, whys, strict=True):
                if why:
                    # What could not be read before tells nothing of a disk that is away now.
                    if wanted.clip.id not in rejected:
                        reading.bad(wanted.clip.uri, why)
                    rejects.append(reject(round, INDEX, wanted.clip.uri, wanted.clip.id, why))
                else:
                    reading.good()
            if len(rows) + len(rejects) >= _COMMIT_ROWS:
                commit()
            bar.advance(len(group))
        commit()
    if reading.tried >= _ENOUGH:
        # Of a few new clips all may be broken. They are rejected, and the next call tries them again.
        reading.check(ended=True)
    _update_files(workspace, model, encoder.width)
    if next(every, None) is None:
        put_in_use(workspace, model)
    return done


def _update_files(workspace: Workspace, model: str, width: int) -> None:
    """Bring what searches read up to date with the vectors. A disk that is full ends nothing: searches do without."""
    above = workspace.config.index.graph_above
    try:
        files = VectorIndex.open(workspace, model, width)
        if not any(moments.count > above for moments in files.state.moments.values()):
            return
        if not can_make_graphs():
            say(
                f"index: more than {above} clips, and no usearch: each search looks at all of them. "
                "Install it: pip install 'video-dataflywheel[search]'"
            )
            return
        for name, count in files.update_graphs(above, os.cpu_count() or 1).items():
            if count:
                say(f"index: {count} vectors of {name} were put into its graph")
    except BorderError as error:
        if error.code != "files":
            raise
        say(f"index: the vectors are on record; the files that searches read were not made. {error}")
    except OSError as error:
        say(f"index: the files that searches read were not made ({error}). Free space; searches look at all clips.")


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Whether an encoder would be trained first, and of how many clips something would be read."""

    trains: bool
    clips: int


def outlook(workspace: Workspace, *, retrain: bool = False) -> Outlook:
    """What :func:`index` would do."""
    clips = ClipIndex(workspace)
    if retrain or needs_training(workspace):
        return Outlook(trains=True, clips=len(clips))
    folder = folder_to_fill(workspace)
    sounds = StandingSounds(workspace)
    waiting = _without_vectors(
        workspace, load_encoder(folder), encoder_id(folder), clips, lambda clip: sounds.on_record(clip.id)
    )
    return Outlook(trains=False, clips=sum(1 for _ in waiting))


def _without_vectors(
    workspace: Workspace, encoder: Embedder, model: str, clips: ClipIndex, version: Callable[[Clip], str]
) -> Iterator[Wanted]:
    """The clips that have a picture without a vector, or a sound or text that is not what the last one is of.

    ``version`` gives the edited sound that is read for a clip, empty for its original.
    """
    texts, stream = ClipTexts(workspace), iter(clips.of("train", "test", "anchor"))
    last = LastVectors(workspace, model, TEXT) if TEXT in encoder.modalities else None
    # Where no sound was ever edited, each clip has one alone, and no vector need be looked through.
    edits = bool(workspace.count("sound_versions")) and SOUND in encoder.modalities
    heard = LastVectors(workspace, model, SOUND) if edits else None
    media = [name for name in (VIDEO, SOUND) if name in encoder.modalities and (name == VIDEO or not edits)]
    while some := list(islice(stream, _LOOKUP)):
        missing = _missing_media(workspace, media, model, some)
        # Also those that have none: where there was one, its vector must not stay.
        found = {} if last is None else dict.fromkeys((clip.id for clip in some), "") | dict(texts.of(some))
        counts = [] if last is None else last.numbers(list(found), [content_of(TEXT, text) for text in found.values()])
        known = zip(found.items(), counts, strict=True)
        numbers = {clip_id: count for (clip_id, text), count in known if count is not None and (text or count)}
        workspace.originals.expect(clip.content_hash for clip in some)
        others = _other_sounds(some, heard, version) if heard is not None else {}
        for clip in some:
            these = missing[clip.id] | ({TEXT} if clip.id in numbers else set())
            of, count = others.get(clip.id, ("", 0))
            if clip.id in others:
                these |= {SOUND}
            if these:
                text, number = found.get(clip.id, ""), numbers.get(clip.id, 0)
                yield Wanted(clip=clip, text=text, number=number, missing=frozenset(these), version=of, sounds=count)


def _other_sounds(
    clips: Sequence[Clip], last: LastVectors, version: Callable[[Clip], str]
) -> dict[str, tuple[str, int]]:
    """Clip id -> version of its sound and how many vectors it has, of clips with none or a last one of another."""
    audible = [clip for clip in clips if clip.has_audio]
    versions = [version(clip) for clip in audible]
    counts = last.numbers([clip.id for clip in audible], versions)
    known = zip(audible, versions, counts, strict=True)
    return {clip.id: (of, count) for clip, of, count in known if count is not None}


def _rejected(workspace: Workspace) -> frozenset[str]:
    """Clips that could not be read by an earlier call."""
    rows = workspace.records.read("rejected", columns=["clip_id"], where=pl.col("stage") == INDEX)
    return frozenset(rows["clip_id"])


def _missing_media(
    workspace: Workspace, media: Sequence[Modality], model: str, clips: Sequence[Clip]
) -> dict[str, set[Modality]]:
    """Clip id -> which of these, its picture and its sound, have no vector."""
    keys = {
        (clip.id, name): vector_id(model, name, clip.id)
        for clip in clips
        for name in media
        if name == VIDEO or clip.has_audio
    }
    known = workspace.records.known("vectors", keys.values())
    missing: dict[str, set[Modality]] = {clip.id: set() for clip in clips}
    for (clip_id, name), key in keys.items():
        if key not in known:
            missing[clip_id].add(name)
    return missing
