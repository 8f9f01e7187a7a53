"""What the stages of a round share: workspace, tracker, prompts, models and the clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotators import engines, prompt_file
from annotators.asking import Asking, AskResult, Task, ask
from annotators.selection import SELECTIONS
from annotators.writer import AskedModel, Writer
from flywheel.core.config import MAIN
from flywheel.core.errors import UserError
from flywheel.core.types import LEARN, Clip, Purpose
from flywheel.models.inputs import ClipInput, InputBuilder, clip_input, clip_times
from flywheel.models.load import Vlm, model_folder
from flywheel.models.loader import Loader
from flywheel.models.prompt import HINTS, Evidence, Prompt, load_prompt
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex, ClipView
from flywheel.store.tracking import Tracker
from human_refine import signals

if TYPE_CHECKING:
    from noise_control import TokenLoss

#: Clips whose texts are looked up together.
CLIPS_PER_LOOKUP = 16_384


class RoundContext:
    """Made once per command; loads things when they are first asked for."""

    def __init__(self, workspace: Workspace, tracker: Tracker | None = None) -> None:
        self.workspace = workspace
        self.config = workspace.config
        self.tracker = tracker or Tracker(workspace)
        self.loader = Loader()
        self.prompt = self.load_prompt(self.config.annotate.prompt)
        if self.prompt.kind != "caption":
            raise UserError(
                f"annotate.prompt: '{self.prompt.name}' asks for {self.prompt.kind}, not a caption. "
                "Name it in annotate.also."
            )
        self.extra_prompts = [self.load_prompt(name) for name in self.config.annotate.also]
        kinds = [self.prompt.kind, *(prompt.kind for prompt in self.extra_prompts)]
        if len(set(kinds)) < len(kinds):
            raise UserError(
                f"annotate.also: two prompts of one kind ({', '.join(kinds)}). "
                "A clip has one text of each kind in a round."
            )
        self._check_names()
        self.base = self.model_folder(MAIN)
        self._texts: tuple[object, CurrentTexts] | None = None

    def _check_names(self) -> None:
        """Check what the configuration names against what there is.
        Raises UserError with the key and the nearest name."""
        config = self.config
        for role, model in config.models.items():
            try:
                engines.check(model.engine)
            except UserError as error:
                raise UserError(f"models.{role}.engine: {error}") from error
        hints = [hint for hint in HINTS if hint != "timed_transcript"]
        for key, names, known in (
            ("annotate.hints", config.annotate.hints, hints),
            ("annotate.select", (config.annotate.select,), list(SELECTIONS)),
        ):
            for name in names:
                if name not in known:
                    raise UserError(f"{key}: '{name}' is unknown. There are {', '.join(known)}.")
        for name in config.review.order:
            try:
                signals.SIGNALS.check(name)
            except UserError as error:
                raise UserError(f"review.order: {error}") from error
        asked = {prompt.role for prompt in (self.prompt, *self.extra_prompts)}
        for role in sorted(asked - config.models.keys()):
            names_ = ", ".join(prompt.name for prompt in (self.prompt, *self.extra_prompts) if prompt.role == role)
            raise UserError(
                f"models.{role}: is missing, and prompt {names_} asks for it. Name its folder and engine there."
            )
        if unasked := sorted(config.models.keys() - asked - {MAIN} - self._roles_of_stages()):
            raise UserError(
                f"models.{unasked[0]}: no prompt in annotate.prompt or annotate.also asks for it "
                f"(`model: {unasked[0]}`). Name such a prompt, or remove the model."
            )

    def _roles_of_stages(self) -> set[str]:
        from flywheel.rounds import stages

        return {role for name in self.config.rounds.stages for role in stages.stage_of(name).roles}

    def load_prompt(self, name: str) -> Prompt:
        """A bundled prompt, or the file that the name is."""
        return load_prompt(prompt_file(name, self.workspace.root))

    # Clips.

    @cached_property
    def clips(self) -> ClipIndex:
        """All clips by id. Raises UserError where there are none."""
        index = ClipIndex(self.workspace)
        if not index:
            raise UserError(f"{self.workspace.root}: holds no clips. Take videos in with 'flywheel ingest FOLDER'.")
        return index

    def split(self, *splits: str) -> ClipView:
        """The clips of these splits, in the order in which they were taken in."""
        return self.clips.of(*splits)

    def texts(self) -> CurrentTexts:
        """The current captions; read anew where something was written or judged since."""
        stamp = self.workspace.stamp()
        if self._texts is None or self._texts[0] != stamp:
            self._texts = (stamp, CurrentTexts(self.workspace))
        return self._texts[1]

    def input(self, clip: Clip | str, inputs: Iterable[str] | None = None) -> ClipInput:
        """The frames and sound of a clip (or of its id), from the cache where they are there.

        ``inputs`` says which of both, by default as for captions. Raises MediaError where they can't be decoded.
        """
        clip = self.clips[clip] if isinstance(clip, str) else clip
        corpus, cache = self.config.corpus, self.workspace.cache
        wanted = self.inputs_of(self.prompt) if inputs is None else frozenset(inputs)
        frames, times = None, list[float]()
        if "frames" in wanted:
            times = clip_times(clip, corpus.frames, corpus.sampling, corpus.fps)
            frames = cache.frames(clip.uri, clip.content_hash, times, corpus.max_side)
        sound = cache.sound(clip.uri, clip.content_hash, clip.start_s, clip.end_s) if "sound" in wanted else None
        return clip_input(clip, frames, times, sound)

    def inputs_of(self, prompt: Prompt) -> frozenset[str]:
        """The media that go along with a prompt: what it says, else frames, with sound where corpus.sound says so."""
        if prompt.inputs is not None:
            return frozenset(prompt.inputs)
        return frozenset({"frames", "sound"}) if self.config.corpus.sound else frozenset({"frames"})

    def input_spec(self, prompt: Prompt | None = None) -> dict[str, Any]:
        """What of the configuration decides which media a model gets; part of a generation's key."""
        corpus, inputs = self.config.corpus, self.inputs_of(prompt or self.prompt)
        spec: dict[str, Any] = {}
        if "frames" in inputs:
            spec = {
                "frames": corpus.frames,
                "sampling": corpus.sampling,
                "fps": corpus.fps,
                "max_side": corpus.max_side,
            }
        return {**spec, "sound": True} if "sound" in inputs else spec

    def evidence(self, clip: Clip, previous: str | None = None) -> Evidence:
        """What a prompt may show of a clip, by annotate.hints; ``previous`` is its text before the round."""
        hints = self.config.annotate.hints
        return Evidence(
            transcript=(clip.transcript or None) if "transcript" in hints else None,
            sounds=(clip.sounds or None) if "sounds" in hints else None,
            previous=previous if "previous" in hints else None,
            timed_transcript=(_timed(clip) or None) if "transcript" in hints else None,
        )

    def with_evidence(self, clips: Iterable[Clip], round: int) -> Iterator[tuple[Clip, Evidence]]:
        """The clips with what their prompts may show in this round."""
        stream = iter(clips)
        wants_previous = "previous" in self.config.annotate.hints
        while some := list(islice(stream, CLIPS_PER_LOOKUP if wants_previous else 512)):
            previous = self.texts().before(round, [clip.id for clip in some]) if wants_previous else {}
            for clip in some:
                yield clip, self.evidence(clip, previous.get(clip.id))

    # Models.

    def model_folder(self, role: str) -> Path:
        """The folder of a role's model as the configuration names it."""
        if role not in self.config.models:
            raise UserError(f"models.{role}: is missing. There are {', '.join(self.config.models)}.")
        return model_folder(self.config.models[role].folder, self.workspace.root)

    def checkpoint(self, round: int) -> tuple[Path, Path | None]:
        """Folder of M_round's weights and of its adapter; round 0 is the base."""
        folder = self.workspace.model_folder(round)
        model = folder / "model" if (folder / "model").is_dir() else self.base
        adapter = folder / "adapter"
        return model, adapter if adapter.is_dir() else None

    def asked_model(self, prompt: Prompt, round: int) -> AskedModel:
        """The model that a prompt asks: for the main role M_``round``, else the role's own."""
        settings = self.config.models[prompt.role]
        inputs = self.inputs_of(prompt)
        asks_sound = "sound" in inputs
        where = f"prompt '{prompt.name}' (models.{prompt.role})"
        if asks_sound and prompt.inputs is None:
            where = "corpus.sound"
        if prompt.role != MAIN:
            return AskedModel(
                role=prompt.role,
                name=prompt.role,
                folder=self.model_folder(prompt.role),
                settings=settings,
                inputs=inputs,
                inputs_from=where,
            )
        folder, adapter = self.checkpoint(round)
        return AskedModel(
            name=f"round-{round}",
            folder=folder,
            adapter=adapter,
            merged=self.workspace.model_folder(round) / "merged",
            settings=settings,
            inputs=inputs,
            inputs_from=where,
        )

    def writer(self, prompt: Prompt, round: int) -> Writer:
        """The engine of the model that the prompt asks, not started yet."""
        return Writer(self.asked_model(prompt, round), self.loader, batch_size=self.config.annotate.batch_size)

    def tasks(self, clips: Iterable[Clip], prompt: Prompt, round: int) -> Iterator[Task]:
        """What a prompt asks about these clips in a round."""
        inputs, spec = self.inputs_of(prompt), self.input_spec(prompt)
        for clip, evidence in self.with_evidence(clips, round):
            media: Callable[[], ClipInput] | None = partial(self.input, clip, inputs) if inputs else None
            yield Task(
                clip_id=clip.id,
                uri=clip.uri,
                duration_s=clip.duration_s,
                key_parts=(spec,),
                prompt=prompt.render(evidence),
                media=media,
            )

    def ask(
        self,
        clips: Iterable[Clip],
        *,
        by: int,
        round: int,
        prompt: Prompt | None = None,
        purpose: Purpose = LEARN,
        writer: Writer | None = None,
        limit: int | None = None,
        retry: int = 0,
    ) -> AskResult:
        """M_``by`` writes texts of the prompt's kind (the caption's if left out)
        for the clips that have none in the round.

        ``writer`` is its engine where passes share one; ``retry`` above 0 asks about rejected clips alone, for the
        ``retry``-th time. The caller holds the lock. See :func:`annotators.asking.ask`.
        """
        prompt = prompt or self.prompt
        asking = Asking.of(self.config.annotate, prompt, retry=retry, keep_unhealthy=purpose != LEARN)
        with nullcontext(writer) if writer is not None else self.writer(prompt, by) as asked:
            return ask(
                self.workspace,
                self.tasks(clips, prompt, round),
                asked,
                prompt,
                round=round,
                purpose=purpose,
                asking=asking,
                limit=limit,
                retry=retry > 0,
                total=len(clips) if isinstance(clips, Sized) else None,
            )

    def load(self, model: Path, adapter: Path | None = None) -> Vlm:
        """The main role's model, loaded anew or as it was loaded last."""
        precision = self.config.main.precision
        return self.loader.load(model, adapter, precision=precision, inputs=self.inputs_of(self.prompt))

    def unload(self) -> None:
        """Let go of the loaded model: trained ones must not be used again."""
        self.loader.unload()

    def builder(self, processor: Any) -> InputBuilder:
        """The main role's input builder."""
        return self.loader.builder(processor)

    def loss(self) -> TokenLoss:
        """The configured loss of pretraining, new. Raises UserError for an unknown one and for values out of range."""
        from noise_control import losses

        try:
            return losses.build(self.config.loss.name, **self.config.loss.arguments)
        except ValueError as error:
            raise UserError(f"loss.arguments: {error}") from error


def _timed(clip: Clip) -> str:
    """Cues with their seconds from the clip's start; the plain transcript where the source had no times."""
    if not clip.cues:
        return clip.transcript
    return " ".join(
        f"[{max(0.0, c.start_s - clip.start_s):.1f}-{min(clip.duration_s, c.end_s - clip.start_s):.1f}] {c.text}"
        for c in clip.cues
    )
