"""What the stages of a round share: the workspace, the prompt, the pictures, the loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotators import prompt_file
from flywheel.core.errors import UserError
from flywheel.core.types import Clip
from flywheel.models.inputs import InputBuilder, Picture, clip_times, picture_of
from flywheel.models.load import Vlm, load_vlm, model_folder
from flywheel.models.prompt import Evidence, Prompt, load_prompt
from flywheel.rounds.texts import Texts
from flywheel.store import Workspace
from flywheel.store.tracking import Tracker
from flywheel.store.view import clip_of

if TYPE_CHECKING:
    from noise_control import TokenLoss


class RoundContext:
    """Made once per command; loads things when they are first asked for."""

    def __init__(self, workspace: Workspace, tracker: Tracker | None = None) -> None:
        self.workspace = workspace
        self.config = workspace.config
        self.tracker = tracker or Tracker(workspace)
        self.prompt = self.load_prompt(self.config.annotate.prompt)
        if self.prompt.kind != "caption":
            raise UserError(
                f"annotate.prompt: '{self.prompt.name}' asks for {self.prompt.kind}, not a caption. Name it in annotate.also."
            )
        self.also = [self.load_prompt(name) for name in self.config.annotate.also]
        kinds = [self.prompt.kind, *(prompt.kind for prompt in self.also)]
        if len(set(kinds)) < len(kinds):
            raise UserError(
                f"annotate.also: two prompts of one kind ({', '.join(kinds)}). A clip has one text of each kind in a round."
            )
        self.base = model_folder(self.config.corpus.model, workspace.root)
        self._builder: InputBuilder | None = None
        self._loaded: tuple[tuple[Path, Path | None], Vlm] | None = None
        self._clips: dict[str, Clip] | None = None

    def load_prompt(self, name: str) -> Prompt:
        return load_prompt(prompt_file(name, self.workspace.root))

    @property
    def clips(self) -> dict[str, Clip]:
        if self._clips is None:
            self._clips = {row["id"]: clip_of(row) for row in self.workspace.clips().iter_rows(named=True)}
            if not self._clips:
                raise UserError(f"{self.workspace.root}: holds no clips. Take videos in with 'flywheel ingest FOLDER'.")
        return self._clips

    def split(self, *splits: str) -> list[Clip]:
        return [clip for clip in self.clips.values() if clip.split in splits]

    def checkpoint(self, round: int) -> tuple[Path, Path | None]:
        """Folder of M_round's weights and of its adapter; round 0 is the base."""
        folder = self.workspace.model_folder(round)
        model = folder / "model" if (folder / "model").is_dir() else self.base
        adapter = folder / "adapter"
        return model, adapter if adapter.is_dir() else None

    def load(self, model: Path, adapter: Path | None = None) -> Vlm:
        """The model, loaded fresh or as it was loaded last. Trained ones must be let go of with :meth:`unload`."""
        if self._loaded is None or self._loaded[0] != (model, adapter):
            self.unload()
            self._loaded = ((model, adapter), load_vlm(model, adapter, precision=self.config.pretrain.precision))
        return self._loaded[1]

    def unload(self) -> None:
        self._loaded = None

    def builder(self, processor: Any) -> InputBuilder:
        """One builder for the whole command: every M_k has the base's processor, so pixels are processed once."""
        if self.config.corpus.sound and getattr(processor, "feature_extractor", None) is None:
            raise UserError(
                f"corpus.sound: {self.base}'s processor takes no audio. Set it to false, or choose a model that hears."
            )
        if self._builder is None:
            self._builder = InputBuilder(processor)
        return self._builder

    def picture(self, clip_id: str) -> Picture:
        """A clip's frames, from the cache where they are there. Raises MediaError where they can't be decoded."""
        clip, corpus = self.clips[clip_id], self.config.corpus
        times = clip_times(clip, corpus.frames, corpus.sampling, corpus.fps)
        frames = self.workspace.cache.frames(clip.uri, clip.content_hash, times, corpus.max_side)
        sound = (
            self.workspace.cache.sound(clip.uri, clip.content_hash, clip.start_s, clip.end_s) if corpus.sound else None
        )
        return picture_of(clip, frames, times, sound)

    def loss(self) -> TokenLoss:
        """The configured loss of pretraining, new. Raises UserError for an unknown one and for values out of range."""
        from noise_control import losses

        try:
            return losses.build(self.config.loss.name, **self.config.loss.arguments)
        except ValueError as error:
            raise UserError(f"loss.arguments: {error}") from error

    def picture_spec(self) -> dict[str, Any]:
        """What of the config decides which pixels a model sees; part of a generation's key."""
        corpus = self.config.corpus
        spec = {"frames": corpus.frames, "sampling": corpus.sampling, "fps": corpus.fps, "max_side": corpus.max_side}
        return {**spec, "sound": True} if corpus.sound else spec

    def evidence(self, clip: Clip, texts: Texts, round: int) -> Evidence:
        hints = self.config.annotate.hints
        return Evidence(
            transcript=(clip.transcript or None) if "transcript" in hints else None,
            sounds=(clip.sounds or None) if "sounds" in hints else None,
            previous=texts.best_before(round, clip.id) if "previous" in hints else None,
            timed_transcript=(_timed(clip) or None) if "transcript" in hints else None,
        )


def _timed(clip: Clip) -> str:
    """Cues with their seconds from the clip's start; the plain transcript where the source had no times."""
    if not clip.cues:
        return clip.transcript
    return " ".join(
        f"[{max(0.0, c.start_s - clip.start_s):.1f}-{min(clip.duration_s, c.end_s - clip.start_s):.1f}] {c.text}"
        for c in clip.cues
    )
