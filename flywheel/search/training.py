"""The encoder of a workspace: given, or trained on its train clips."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.reading import Reading
from flywheel.core.types import Clip
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.models.encoders import SOUND, TEXT, VIDEO, Batch, Encoder
from flywheel.search.reading import ClipReader, ClipTexts
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex, ClipView
from trainers.contrastive import ContrastiveSettings, OtherTraining, train_encoder

#: Where the database keeps the id of the encoder that the workspace is searched by, and of the one that follows it when
#: all vectors are made by that ("": none does).
ENCODER, NEXT = "encoder", "encoder_next"
#: Clips whose texts are looked up at once.
_TOGETHER = 4096
#: One of so many videos validates.
_VALIDATES = 10


def encoder_folder(workspace: Workspace) -> Path:
    """Where the encoder in use lies. Raises UserError where there is none yet."""
    if workspace.config.index.folder:
        return workspace.root / workspace.config.index.folder
    name = workspace.meta(ENCODER)
    if name is None:
        raise UserError(f"{workspace.root}: has no index yet. Make one with 'flywheel index'.")
    return _folder(workspace, name)


def folder_to_fill(workspace: Workspace) -> Path:
    """Where the encoder lies that vectors are made by: the one that follows, where there is one.

    Raises UserError where there is none at all.
    """
    following = workspace.meta(NEXT)
    if following and not workspace.config.index.folder:
        return _folder(workspace, following)
    return encoder_folder(workspace)


def encoder_to_fill(workspace: Workspace, clips: ClipIndex, *, retrain: bool = False) -> tuple[Encoder, str]:
    """The encoder that vectors are made by and its id; trained first where there is none, or with ``retrain``.

    The caller holds the lock. A training that was stopped goes on; with ``retrain`` one that can't begins anew. Raises
    UserError as :func:`train_encoder` does.
    """
    given = workspace.config.index.folder
    if given and retrain:
        raise UserError("index --retrain: index.folder names an encoder, which stays as it is. Leave one of them out.")
    under_way = _folder(workspace, "training")
    if not retrain and not needs_training(workspace):
        folder = folder_to_fill(workspace)
        return load_encoder(folder), encoder_id(folder)
    settings = workspace.config.index
    torch.manual_seed(settings.seed)
    encoder = encoders.build(settings.encoder, **settings.sizes)
    train, held_out = _sides(clips)
    reading = Reading("index", workspace.config.corpus.most_unreadable)
    learned, validates = (TrainClips(workspace, encoder, side, settings.batch, reading) for side in (train, held_out))
    plan = ContrastiveSettings(
        steps=settings.steps,
        batch=settings.batch,
        chunk=settings.chunk,
        rate=settings.rate,
        warm_up=max(1, settings.steps // 10),
        validate_every=max(1, settings.steps // 8),
        seed=settings.seed,
    )
    try:
        train_encoder(encoder, learned, validates, under_way, plan)
    except OtherTraining as error:
        if not retrain:
            raise UserError(f"{error} 'flywheel index --retrain' deletes it and trains anew.") from error
        shutil.rmtree(under_way)
        train_encoder(encoder, learned, validates, under_way, plan)
    return encoder, _named(workspace, under_way)


def needs_training(workspace: Workspace) -> bool:
    """Whether there is no encoder yet, or one's training was stopped."""
    if workspace.config.index.folder:
        return False
    return workspace.meta(ENCODER) is None or _folder(workspace, "training").exists()


def _folder(workspace: Workspace, name: str) -> Path:
    return workspace.root / "models" / f"encoder-{name}"


def _named(workspace: Workspace, trained: Path) -> str:
    """Name a trained encoder by its id, and note that it follows the one in use; the first is in use at once."""
    name, in_use, following = encoder_id(trained), workspace.meta(ENCODER), workspace.meta(NEXT)
    folder = _folder(workspace, name)
    shutil.rmtree(folder, ignore_errors=True)
    trained.rename(folder)
    workspace.set_meta(ENCODER if in_use is None else NEXT, name)
    # Last: killed before, the training that is done is not done again.
    (folder / "training.safetensors").unlink(missing_ok=True)
    if following and following not in (name, in_use):
        shutil.rmtree(_folder(workspace, following), ignore_errors=True)
    return name


def put_in_use(workspace: Workspace, model: str) -> None:
    """Search by an encoder that follows from now on; the one before goes. Of any other encoder nothing is done."""
    if workspace.config.index.folder or model != workspace.meta(NEXT):
        return
    before = workspace.meta(ENCODER)
    workspace.set_meta(ENCODER, model)
    workspace.set_meta(NEXT, "")
    if before not in (None, model):
        shutil.rmtree(_folder(workspace, str(before)), ignore_errors=True)


def _sides(clips: ClipIndex) -> tuple[ClipView, ClipView]:
    """Train clips to learn from, and those of a tenth of their videos, which validate."""
    train = clips.of("train")
    contents = train.columns("content_hash")["content_hash"]
    videos = contents.unique().sort()
    chosen = videos.gather_every(_VALIDATES)
    # Of a few videos a tenth is one or none: two of them can be told apart.
    held_out = train.with_ids(train.columns("id")["id"].filter(contents.is_in(chosen.implode())))
    if len(held_out) < 2:
        held_out = train.with_ids(train.columns("id")["id"].filter(contents.is_in(videos.head(2).implode())))
    return train.without(held_out), held_out


class TrainClips:
    """Clips to learn from, decoded as they are drawn. In memory are 200 bytes a clip: its words, and what it is of."""

    def __init__(self, workspace: Workspace, encoder: Encoder, clips: ClipView, batch: int, reading: Reading) -> None:
        self._clips, self._encoder, self._progress = clips, encoder, reading
        self._reader = ClipReader(workspace, encoder, kept=True)
        self._pool = ThreadPoolExecutor(workspace.config.index.decoders)
        self._originals = workspace.originals
        self._text, self._text_number = _words(workspace, encoder, clips)
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
        encoder, shape = self._encoder, self._encoder.spectrogram
        side = encoder.frame_size
        no_video = torch.zeros((encoder.frames, side, side, 3), dtype=torch.uint8)
        no_sound = torch.full((shape.bands, shape.times), -1.0)
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
                video = self._encoder.read_video(self._reader.frames(clip)[None])[0]
                sound = self._encoder.read_sound(self._reader.samples(clip)[None])[0] if clip.has_audio else None
        except MediaError as error:
            self._progress.bad(clip.uri, str(error))
            return None, None
        self._progress.good()
        return video, sound


def _words(workspace: Workspace, encoder: Encoder, clips: ClipView) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ids of the clips' words (N, L), and equal numbers (N,) for equal words."""
    texts = ClipTexts(workspace)
    rows = [np.zeros((0, encoder.words), np.int32)]
    stream = iter(clips)
    while some := list(islice(stream, _TOGETHER)):
        found = texts.of(some)
        rows.append(encoder.read_text([found.get(clip.id, "") for clip in some]).numpy().astype(np.int32))
    ids = np.concatenate(rows)
    _, numbers = np.unique(ids, axis=0, return_inverse=True)
    return ids, numbers.reshape(-1).astype(np.int32)
