"""The encoder of a workspace: given, or trained on its train clips."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.core.reading import Reading
from flywheel.models import encoders
from flywheel.models.encoder_files import encoder_id, load_encoder
from flywheel.models.encoders import Embedder
from flywheel.rounds.encoder_clips import TrainClips, sides, training_plan
from flywheel.search.in_use import encoder_folder, named_folder
from flywheel.search.reading import ClipTexts
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.vectors_in_use import ENCODER, GIVEN_ENCODER
from trainers.contrastive import OtherTraining, train_encoder

#: Where the database keeps the id of the encoder that follows the one in use when all vectors are made by it ("": none
#: does).
NEXT = "encoder_next"


def folder_to_fill(workspace: Workspace) -> Path:
    """Where the encoder lies that vectors are made by: the one that follows, where there is one.

    Raises UserError where there is none at all.
    """
    following = workspace.meta(NEXT)
    if following and not workspace.config.index.folder:
        return named_folder(workspace, following)
    return encoder_folder(workspace)


def encoder_to_fill(workspace: Workspace, clips: ClipIndex, *, retrain: bool = False) -> tuple[Embedder, str]:
    """The encoder that vectors are made by and its id; trained first where there is none, or with ``retrain``.

    The caller holds the lock. A training that was stopped goes on; with ``retrain`` one that can't begins anew. Raises
    UserError as :func:`train_encoder` does.
    """
    given = workspace.config.index.folder
    if given and retrain:
        raise UserError("index --retrain: index.folder names an encoder, which stays as it is. Leave one of them out.")
    under_way = named_folder(workspace, "training")
    if not retrain and not needs_training(workspace):
        folder = folder_to_fill(workspace)
        return load_encoder(folder), encoder_id(folder)
    settings = workspace.config.index
    torch.manual_seed(settings.seed)
    encoder = encoders.build(settings.encoder, **_sizes(workspace))
    train, held_out = sides(clips.of("train"))
    reading = Reading("index", workspace.config.corpus.most_unreadable)
    texts = ClipTexts(workspace)
    learned, validates = (
        TrainClips(workspace, encoder, side, settings.batch, reading, texts.of) for side in (train, held_out)
    )
    plan = training_plan(settings, settings.steps)
    say(
        f"index: an encoder '{settings.encoder}' is trained first, on {len(train)} train clips in {settings.steps} "
        "steps. To use one that is ready, name its folder in index.folder"
    )
    try:
        train_encoder(encoder, learned, validates, under_way, plan)
    except OtherTraining as error:
        if not retrain:
            raise UserError(f"{error} 'flywheel index --retrain' deletes it and trains anew.") from error
        shutil.rmtree(under_way)
        train_encoder(encoder, learned, validates, under_way, plan)
    return encoder, _named(workspace, under_way)


def _sizes(workspace: Workspace) -> dict[str, int | float | bool | str]:
    """The configured sizes, folders among them from the workspace on: the encoder is used from anywhere."""
    return {
        name: str(workspace.root.absolute() / Path(value).expanduser()) if isinstance(value, str) and value else value
        for name, value in workspace.config.index.sizes.items()
    }


def needs_training(workspace: Workspace) -> bool:
    """Whether there is no encoder yet, or one's training was stopped."""
    if workspace.config.index.folder:
        return False
    return workspace.meta(ENCODER) is None or named_folder(workspace, "training").exists()


def _named(workspace: Workspace, trained: Path) -> str:
    """Name a trained encoder by its id, and note that it follows the one in use; the first is in use at once."""
    name, in_use, following = encoder_id(trained), workspace.meta(ENCODER), workspace.meta(NEXT)
    folder = named_folder(workspace, name)
    shutil.rmtree(folder, ignore_errors=True)
    trained.rename(folder)
    workspace.set_meta(ENCODER if in_use is None else NEXT, name)
    # Last: killed before, the training that is done is not done again.
    (folder / "training.safetensors").unlink(missing_ok=True)
    if following and following not in (name, in_use):
        shutil.rmtree(named_folder(workspace, following), ignore_errors=True)
    return name


def put_in_use(workspace: Workspace, model: str) -> None:
    """Search by an encoder that follows from now on; the one before goes. Of any other encoder nothing is done.

    One that the configuration names is noted.
    """
    if workspace.config.index.folder:
        if model != workspace.meta(GIVEN_ENCODER):
            workspace.set_meta(GIVEN_ENCODER, model)
        return
    if model != workspace.meta(NEXT):
        return
    before = workspace.meta(ENCODER)
    workspace.set_meta(ENCODER, model)
    workspace.set_meta(NEXT, "")
    if before not in (None, model):
        shutil.rmtree(named_folder(workspace, str(before)), ignore_errors=True)
