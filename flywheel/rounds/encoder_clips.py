"""Clips as small encoders read them, and train clips with texts that they learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.config.sections import Index
from flywheel.core.errors import MediaError
from flywheel.core.reading import Reading
from flywheel.core.types import Clip, content_id
from flywheel.curation.repair.standing import StandingSounds
from flywheel.media.audio import read_audio
from flywheel.media.frames import read_frames
from flywheel.models.encoder_spans import READ_SIDE, sound_span, times_of
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Batch, Embedder, Encoder, Modality
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipView
from trainers.contrastive import ContrastiveSettings

T = TypeVar("T")
#: The texts of some clips, by clip id; those that have none are not in it.
TextsOf = Callable[[Sequence[Clip]], Mapping[str, str]]
#: Clips whose texts are looked up at once.
_TOGETHER = 4096
#: One of so many videos validates.
_VALIDATES = 10


def training_plan(settings: Index, steps: int) -> ContrastiveSettings:
    """The training of an encoder by the configuration, for so many steps: a tenth warms up, eight looks validate."""
    return ContrastiveSettings(
        steps=steps,
        batch=settings.batch,
        chunk=settings.chunk,
        rate=settings.rate,
        warm_up=max(1, steps // 10),
        validate_every=max(1, steps // 8),
        seed=settings.seed,
    )


class ClipReader:
    """Reads clips' frames (T, H, W, 3) and samples (S,). Both raise MediaError where the clip can't be read.

    ``kept`` goes through the workspace's cache, for clips that are read again and again.
    """

    def __init__(self, workspace: Workspace, encoder: Embedder, *, kept: bool) -> None:
        self._encoder, self._check, self._cache = encoder, workspace.originals.check, workspace.cache if kept else None
        self._features = workspace.cache
        #: Which sound of a clip is read.
        self.sounds = StandingSounds(workspace)

    def frames(self, clip: Clip) -> NDArray[np.uint8]:
        """Frames on screen at the middles of the clip's parts."""
        times_s, side = times_of(self._encoder, clip.start_s, clip.end_s), READ_SIDE * self._encoder.frame_size
        if self._cache is not None:
            return self._cache.frames(clip.uri, clip.content_hash, times_s, side)
        read = partial(read_frames, Path(clip.uri), times_s, max_side=side)
        return self._checked(clip.uri, clip.content_hash, read)

    def samples(self, clip: Clip) -> NDArray[np.float32]:
        """The clip's sound, edited where such a one stands; of a long clip that of its middle."""
        source, rate = self.sounds.of(clip), self._encoder.rate_hz
        path, content_hash = str(source.path), source.content_hash
        start_s, end_s = sound_span(source.start_s, source.end_s)
        if self._cache is not None:
            return self._cache.sound(path, content_hash, start_s, end_s, rate)
        return self._checked(path, content_hash, partial(read_audio, source.path, start_s, end_s, rate_hz=rate))

    def video(self, clip: Clip) -> torch.Tensor:
        """What the encoder reads of the clip's frames; where that is dear, it is kept by the clip's content."""

        def read() -> torch.Tensor:
            return self._encoder.read_video(self.frames(clip)[None])[0]

        times_s = times_of(self._encoder, clip.start_s, clip.end_s)
        return self._kept(VIDEO, clip.content_hash, [round(time_s, 6) for time_s in times_s], read)

    def sound(self, clip: Clip) -> torch.Tensor:
        """The same of its sound."""

        def read() -> torch.Tensor:
            return self._encoder.read_sound(self.samples(clip)[None])[0]

        source = self.sounds.of(clip)
        span_s = [round(time_s, 6) for time_s in sound_span(source.start_s, source.end_s)]
        return self._kept(SOUND, source.content_hash, span_s, read)

    def _kept(
        self, modality: Modality, content_hash: str, times_s: list[float], read: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        front_end = self._encoder.kept_by.get(modality)
        if front_end is None:
            return read()
        key = content_id(content_hash, "features", front_end, *times_s)
        made = self._features.array(key, lambda: read().numpy())
        return torch.from_numpy(made)

    def _checked(self, path: str, content_hash: str, read: Callable[[], T]) -> T:
        # Before and after: what another video showed meanwhile is not this clip's.
        self._check(path, content_hash)
        values = read()
        self._check(path, content_hash)
        return values


def sides(clips: ClipView) -> tuple[ClipView, ClipView]:
    """Clips to learn from, and those of a tenth of their videos, which validate."""
    contents = clips.columns("content_hash")["content_hash"]
    videos = contents.unique().sort()
    chosen = videos.gather_every(_VALIDATES)
    # Of a few videos a tenth is one or none: two of them can be told apart.
    held_out = clips.with_ids(clips.columns("id")["id"].filter(contents.is_in(chosen.implode())))
    if len(held_out) < 2:
        held_out = clips.with_ids(clips.columns("id")["id"].filter(contents.is_in(videos.head(2).implode())))
    return clips.without(held_out), held_out


class TrainClips:
    """Clips to learn from, decoded as they are drawn. In memory are 200 bytes a clip: its words, and what it is of."""

    def __init__(
        self,
        workspace: Workspace,
        encoder: Encoder,
        clips: ClipView,
        batch: int,
        reading: Reading,
        texts_of: TextsOf,
        *,
        sound: bool = True,
    ) -> None:
        """``batch`` clips are contrasted with each other; without ``sound`` they are as if they had none."""
        self._sound = sound
        self._clips, self._encoder, self._progress = clips, encoder, reading
        self._reader = ClipReader(workspace, encoder, kept=True)
        self._pool = ThreadPoolExecutor(workspace.config.index.decoders)
        self._originals = workspace.originals
        self._text, self._text_number, self.digest = _words(encoder, clips, texts_of)
        videos = clips.columns("content_hash")["content_hash"].rank("dense").to_numpy().astype(np.int32)
        # Clips of one video look alike and are no negatives, but where there are too few videos for anything else.
        many = len(videos) and videos.max() >= batch
        self._video_number = videos if many else np.arange(len(videos), dtype=np.int32)

    def __len__(self) -> int:
        return len(self._clips)

    def batch(self, places: NDArray[np.int64]) -> Batch:
        """These clips. What can't be read of one is not there; raises Unreadable where that is most."""
        clips = [self._clips[int(place)] for place in places]
        self._originals.expect(clip.content_hash for clip in clips)
        read = list(self._pool.map(self._read, clips))
        self._progress.check()
        nothing = self._encoder.nothing
        no_video, no_sound = nothing[VIDEO], nothing[SOUND]
        text = torch.from_numpy(self._text[places].astype(np.int64))
        number = torch.from_numpy(self._video_number[places].astype(np.int64))
        return Batch(
            video=torch.stack([no_video if video is None else video for video, _ in read]),
            sound=torch.stack([no_sound if sound is None else sound for _, sound in read]),
            text=text,
            present={
                VIDEO: torch.tensor([video is not None for video, _ in read]),
                SOUND: torch.tensor([sound is not None for _, sound in read]),
                TEXT: text[:, 1] != 0,
            },
            same={VIDEO: number, SOUND: number, TEXT: torch.from_numpy(self._text_number[places].astype(np.int64))},
        )

    def _read(self, clip: Clip) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        try:
            with one_item():
                video = self._reader.video(clip)
                sound = self._reader.sound(clip) if clip.has_audio and self._sound else None
        except MediaError as error:
            self._progress.bad(clip.uri, str(error))
            return None, None
        self._progress.good()
        return video, sound


def _words(encoder: Encoder, clips: ClipView, texts_of: TextsOf) -> tuple[NDArray[np.int32], NDArray[np.int32], str]:
    """Ids of the clips' words (N, L), equal numbers (N,) for equal words, and a digest of clips and words."""
    rows, digest = [np.zeros((0, encoder.words), np.int32)], hashlib.sha256()
    stream = iter(clips)
    while some := list(islice(stream, _TOGETHER)):
        found = texts_of(some)
        rows.append(encoder.read_text([found.get(clip.id, "") for clip in some]).numpy().astype(np.int32))
        digest.update("\n".join(clip.id for clip in some).encode() + rows[-1].tobytes())
    ids = np.concatenate(rows)
    _, numbers = np.unique(ids, axis=0, return_inverse=True)
    return ids, numbers.reshape(-1).astype(np.int32), digest.hexdigest()
