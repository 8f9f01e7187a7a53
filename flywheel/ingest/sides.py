"""On which side of the corpus a video is: train, test or anchor, decided once for all of its clips.

Videos stay together that have the same content, the same coded pictures in another container, or pictures that look
alike, and those of which the source says the same (``corpus.split_key``). Such videos are a family, and the family's
name draws its side. Who comes later joins: nothing that is on record changes its side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flywheel.core.border import one_item
from flywheel.core.config import Corpus
from flywheel.core.errors import MediaError
from flywheel.core.types import Split, content_id
from flywheel.ingest.clips import clip_id, split_of
from flywheel.ingest.files import File
from flywheel.ingest.items import Item
from flywheel.media.fingerprint import Fingerprint, is_alike
from flywheel.store import Workspace
from flywheel.store.videos import Video, Videos, WaitingVideos

#: Where the clips of a video go that older versions put on several sides: it must not measure any more than it does.
_OF_DIVIDED: Split = "train"


@dataclass(frozen=True, kw_only=True)
class Newcomer:
    """A video as it comes in: its content's hash, how long it is, and what tells its copies."""

    content_hash: str
    duration_s: float
    shared: str = ""
    streams: str = ""
    looks: Fingerprint = field(default_factory=Fingerprint)

    @property
    def family(self) -> str:
        """The family of a video without relatives; of a file that is one clip, that clip's id."""
        return self.shared or clip_id(self.content_hash, 0.0, self.duration_s)


def newcomer(item: Item, file: File, corpus: Corpus) -> Newcomer:
    """An item's video, looked at. Raises MediaError where the file holds none."""
    info = file.info()
    return Newcomer(
        content_hash=file.content_hash(),
        duration_s=info.duration_s,
        shared=content_id("shared", corpus.split_key, item.shared) if item.shared else "",
        streams=info.streams,
        looks=file.looks() if corpus.near_duplicates else Fingerprint(),
    )


def unlisted(content_hash: str, streams: str = "") -> Video:
    """A video of which nothing but its hashes is known."""
    return Video(content_hash=content_hash, family="", side="", streams=streams)


def side_of(video: Video) -> Split:
    """The side that new clips of a video go to."""
    side: Split = video.side or _OF_DIVIDED  # type: ignore[assignment]
    return side


def describe(workspace: Workspace, content_hash: str, path: Path) -> Video:
    """The listed video of a content, looked at where versions before did not; as it is where its file is not there."""
    video = workspace.videos.known([content_hash]).get(content_hash) or unlisted(content_hash)
    return _described(workspace, video, path)[0] if video.family else video


def unite_copies(workspace: Workspace, video: Video, path: Path) -> bool:
    """Make the families of a video and its copies one; returns whether the video could be looked at.

    Versions before did not look at videos. What came later was compared when it came.
    """
    if video.streams:
        return True
    described, looks = _described(workspace, video, path)
    copies = [*workspace.videos.with_streams(described.streams), *_alike(workspace.videos, looks)]
    families = {video.family, *(copy.family for copy in copies)}
    workspace.videos.unite(families, min(families))
    return bool(described.streams)


def _described(workspace: Workspace, video: Video, path: Path) -> tuple[Video, Fingerprint]:
    if video.streams:
        return video, Fingerprint()
    try:
        with one_item():
            workspace.originals.check(str(path), video.content_hash)
            file = File(path)
            streams = file.info().streams
            looks = file.looks() if workspace.config.corpus.near_duplicates else Fingerprint()
    except MediaError:
        return video, Fingerprint()
    described = replace(video, streams=streams, **_kept(looks))
    workspace.videos.describe(described)
    return described, looks


def _alike(videos: Videos | WaitingVideos, looks: Fingerprint) -> list[Video]:
    """Videos that show the same pictures."""
    bands = {band for picture in looks.seen for band in picture.bands}
    return [video for video in videos.showing(bands) if is_alike(looks.seen, video.pictures)]


def _kept(looks: Fingerprint) -> dict[str, Any]:
    """What is kept of a video's looks: fields of :class:`Video`."""
    return {"pictures": looks.to_bytes(), "bands": tuple(picture.bands for picture in looks.kept)}


class Sides:
    """The sides of the workspace's videos; what it decides is on record with :meth:`write`."""

    def __init__(self, workspace: Workspace, *, lists: bool = True) -> None:
        """Without ``lists``, videos that versions before did not list stay so: nothing is written."""
        self._corpus, self._takedowns = workspace.config.corpus, workspace.takedowns
        if lists:
            workspace.videos.list_older()
        self.videos = WaitingVideos(workspace.videos)

    def place(self, new: Newcomer) -> Video:
        """The video as it is listed from now on.

        Raises MediaError for one that looks like what was taken down, and for one that joins videos on two sides: on
        either it would be measured by what was learned, or learned from what is measured.
        """
        if (listed := self.videos.known([new.content_hash]).get(new.content_hash)) is not None:
            return listed
        copies = self.videos.with_streams(new.streams)
        of_copies = {copy.content_hash for copy in copies}
        alike = [video for video in _alike(self.videos, new.looks) if video.content_hash not in of_copies]
        self._refuse_taken_down(alike)
        relatives = [*copies, *alike, *self.videos.sharing(new.shared)]
        video = Video(
            content_hash=new.content_hash,
            family=min((r.family for r in relatives), default=new.family),
            side=self._common_side(relatives) or split_of(new.family, self._corpus),
            shared=new.shared,
            streams=new.streams,
            **_kept(new.looks),
        )
        self.videos.unite({r.family for r in relatives}, video.family)
        self.videos.add(video)
        return video

    def write(self) -> None:
        """Put on record what was decided."""
        self.videos.write()

    def _refuse_taken_down(self, alike: Sequence[Video]) -> None:
        reasons = [refusal.reason for of in self._takedowns.refusals(alike).values() for refusal in of]
        if reasons:
            raise MediaError(f"looks like a video that was taken down: {reasons[0]}")

    def _common_side(self, relatives: Sequence[Video]) -> Split | None:
        """The side that all relatives are on; None without any."""
        sides = {side_of(video): video.family for video in relatives}
        if len(sides) > 1:
            self.videos.write()
            self.videos.note_joined({video.family for video in relatives})
            names = " and ".join(f"the {side} split" for side in sorted(sides))
            raise MediaError(f"looks like, or belongs to, videos of {names}; 'flywheel resplit' puts them on one side")
        return next(iter(sides), None)
