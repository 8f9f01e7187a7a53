"""What the stages of a round share: workspace, tracker, prompts, models and the clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from annotators.asking import ask, ask_together
from annotators.executors import Executor
from annotators.executors import build as build_executor
from annotators.tasks import Asking, AskResult, Task
from annotators.writer import AskedModel, Writer
from flywheel.core.border import one_item
from flywheel.core.config import MAIN
from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import LEARN, Clip, Purpose, form_of
from flywheel.curation.clip_reader import ClipReader
from flywheel.curation.judge import shown_texts
from flywheel.curation.repair.standing import StandingSounds
from flywheel.models.inputs import ClipInput, InputBuilder
from flywheel.models.load import Vlm, model_folder
from flywheel.models.loader import Loader
from flywheel.models.prompt import Evidence, Hint, Prompt
from flywheel.rounds.names import (
    check_names,
    curation_prompts_of,
    fact_prompts_of,
    loss_of,
    prompts_of,
    question_prompt_of,
)
from flywheel.rounds.progress import current_round
from flywheel.rounds.texts import CurrentTexts
from flywheel.store import Workspace
from flywheel.store.caption_index import CaptionIndexes
from flywheel.store.claims import Claims
from flywheel.store.clip_index import ClipIndex, ClipView
from flywheel.store.tracking import Tracker

if TYPE_CHECKING:
    from noise_control import TokenLoss

#: Hints that are texts of these kinds, which models wrote in the same round.
_DESCRIBED: tuple[Hint, ...] = ("seen", "heard")
#: Clips whose texts are looked up together.
CLIPS_PER_LOOKUP = 16_384
#: Parts at most of a pass that several processes share, and the clips of the smallest: the last one's end is waited
#: for. Of more than 4 million clips there are more, since a part's texts are looked up together.
_PARTS, _SMALLEST_PART = 256, 16


class RoundContext:
    """Made once per command; loads things when they are first asked for."""

    def __init__(self, workspace: Workspace, tracker: Tracker | None = None) -> None:
        self.workspace = workspace
        self.config = workspace.config
        self.tracker = tracker or Tracker(workspace)
        self.loader = Loader(keep_bytes=int(self.config.corpus.pixels_gib * 2**30))
        self.prompt, *self.extra_prompts = prompts_of(self.config, workspace.root)
        #: What is seen, heard and judged where clips are curated; empty where no judge is to be asked.
        self.curation_prompts = curation_prompts_of(self.config, workspace.root)
        #: What takes texts apart into facts, and what compares them; empty where no judge is to be asked.
        self.fact_prompts = fact_prompts_of(self.config, workspace.root)
        #: How questions are put that are answered from captions alone.
        self.question_prompt = question_prompt_of(self.config, workspace.root)
        check_names(self.config, (self.prompt, *self.extra_prompts, *self.curation_prompts))
        self.base = self.model_folder(MAIN)
        #: What this process did of the annotate stage together with others, by kind, before it ends the stage alone.
        self.did_together: dict[str, AskResult] = {}
        #: Processes that annotated this round together.
        self.num_processes = 1
        self._dropped_by: tuple[str, ClipView] | None = None
        self._to_curate: tuple[set[str], ClipIndex] | None = None
        self._texts: tuple[object, CurrentTexts] | None = None
        self._captions = CaptionIndexes(workspace)
        self._sounds: tuple[int, StandingSounds] | None = None

    # Clips.

    @cached_property
    def clips(self) -> ClipIndex:
        """All clips by id. Raises UserError where there are none."""
        index = ClipIndex(self.workspace)
        if not index:
            raise UserError(f"{self.workspace.root}: no clips yet. Add videos with 'flywheel ingest FOLDER'.")
        return index

    def split(self, *splits: str) -> ClipView:
        """The clips of these splits, in the order in which they were taken in.

        Train clips that the round under way dropped (:mod:`flywheel.curation`) are left out, and clips whose source was
        removed: of all that a round uses, here and nowhere else.
        """
        return self.clips.of(*splits).without(self._dropped()).without(self._of_removed())

    def to_curate(self) -> ClipIndex:
        """The clips that the round under way decides on: all but those of sources that it does not use."""
        gone = self.workspace.removed_videos(current_round(self.workspace))
        if not gone:
            return self.clips
        if self._to_curate is None or self._to_curate[0] != gone:
            self._to_curate = (gone, ClipIndex(self.workspace, without=gone))
        return self._to_curate[1]

    def _of_removed(self) -> ClipView:
        """The clips of sources that the round under way does not use."""
        gone = self.workspace.removed_videos(current_round(self.workspace))
        return self.clips.with_contents(gone)

    def _dropped(self) -> ClipView:
        """The train clips that the round under way dropped; none where its stage `curate` did not run."""
        run = self.workspace.curated(current_round(self.workspace)) or ""
        if self._dropped_by is None or self._dropped_by[0] != run:
            gone = self.workspace.decisions(run).filter(~pl.col("kept"))["clip_id"]
            self._dropped_by = (run, self.clips.of("train").with_ids(gone) if len(gone) else self.clips.of())
        return self._dropped_by[1]

    def texts(self) -> CurrentTexts:
        """The current captions; read anew where something was written or judged since."""
        round = current_round(self.workspace)
        stamp = (round, self.workspace.stamp())
        if self._texts is None or self._texts[0] != stamp:
            gone = self.workspace.removed_videos(round)
            self._texts = (stamp, CurrentTexts(self.workspace, self._captions, gone))
        return self._texts[1]

    def sounds(self, *, anew: bool = False) -> StandingSounds:
        """Which sound of a clip is read, as it stood when it was first asked, or ``anew``."""
        if self._sounds is None or anew:
            count = self.workspace.count("sound_versions")
            if self._sounds is None or self._sounds[0] != count:
                self._sounds = (count, StandingSounds(self.workspace))
        return self._sounds[1]

    def _num_sounds(self) -> int:
        """How many edited sounds had been made when those that stand were read."""
        self.sounds()
        return self._sounds[0] if self._sounds is not None else 0

    def readable(self, clips: Iterable[Clip], builder: InputBuilder) -> Iterator[ClipInput]:
        """Yield the inputs of those of the clips whose files can be read, and which the model's processor takes."""
        for clip in clips:
            with suppress(MediaError):
                yield self._taken(clip, builder)

    def _taken(self, clip: Clip, builder: InputBuilder) -> ClipInput:
        inputs = self.input(clip)
        with one_item():
            # What is processed here is kept for the batch that follows.
            builder.row(inputs, "")
        return inputs

    @cached_property
    def _executor(self) -> Executor:
        return build_executor(self.config.annotate.executor, self.config.ray)

    @cached_property
    def reader(self) -> ClipReader:
        """What reads clips' frames and sound, here or on another host."""
        return ClipReader(self.workspace, self.sounds, self._num_sounds)

    def input(self, clip: Clip | str, inputs: Iterable[str] | None = None) -> ClipInput:
        """The frames and sound of a clip (or of its id), from the cache where they are there.

        ``inputs`` says which of both, by default as for captions. Raises MediaError where they can't be decoded, and
        where sound alone is wanted of a clip without a sound track.
        """
        clip = self.clips[clip] if isinstance(clip, str) else clip
        return self.reader(clip, self.inputs_of(self.prompt) if inputs is None else inputs)

    def key_parts(self, clip: Clip, prompt: Prompt) -> tuple[object, ...]:
        """What of the media decides on a reply: the configuration's part, and which sound of the clip is heard."""
        spec = self.input_spec(prompt)
        version = self.sounds().version(clip) if "sound" in spec else ""
        return (spec, {"sound_version": version}) if version else (spec,)

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

    def with_evidence(
        self, clips: Iterable[Clip], round: int, prompt: Prompt | None = None
    ) -> Iterator[tuple[Clip, Evidence]]:
        """The clips with what a prompt (the caption's if left out) may show of them in this round.

        What models saw and heard is shown where the prompt has a line for it, of clips that have such a text in the
        round.
        """
        stream, hints = iter(clips), (prompt or self.prompt).hints
        wants_previous = "previous" in self.config.annotate.hints
        described = [kind for kind in _DESCRIBED if kind in hints]
        while some := list(islice(stream, CLIPS_PER_LOOKUP if wants_previous or described else 512)):
            ids = [clip.id for clip in some]
            previous = self.texts().before(round, ids) if wants_previous else {}
            texts = {kind: shown_texts(self.workspace, ids, round, kind) for kind in described}
            for clip in some:
                evidence = self.evidence(clip, previous.get(clip.id))
                said: dict[str, str] = {kind: of[clip.id] for kind, of in texts.items() if clip.id in of}
                yield clip, evidence.model_copy(update=said) if said else evidence

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
        return Writer(
            self.asked_model(prompt, round),
            self.loader,
            batch_size=self.config.annotate.batch_size,
            executor=self._executor,
        )

    def tasks(self, clips: Iterable[Clip], prompt: Prompt, round: int) -> Iterator[Task]:
        """What a prompt asks about these clips in a round."""
        inputs = self.inputs_of(prompt)
        self.sounds(anew=True)
        for clip, evidence in self.with_evidence(clips, round, prompt):
            media: Callable[[], ClipInput] | None = partial(self.reader, clip, inputs) if inputs else None
            yield Task(
                clip_id=clip.id,
                uri=clip.uri,
                duration_s=clip.duration_s,
                key_parts=self.key_parts(clip, prompt),
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
        again: bool = False,
    ) -> AskResult:
        """M_``by`` writes texts of the prompt's kind (the caption's if left out)
        for the clips that have none in the round.

        ``writer`` is its engine where passes share one; ``retry`` above 0 asks about rejected clips alone, for the
        ``retry``-th time, with other sampling, and ``again`` about these with the same. The caller holds the lock. See
        :func:`annotators.asking.ask`.
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
                retry=again or retry > 0,
                total=len(clips) if isinstance(clips, Sized) else None,
            )

    def ask_together(self, clips: ClipView, *, by: int, round: int, prompt: Prompt, writer: Writer) -> AskResult:
        """As :meth:`ask`, with other processes that ask the same; the caller shares the workspace."""
        name = f"{round}:{form_of(prompt.kind, LEARN)}"
        size = min(max(-(-len(clips) // _PARTS), _SMALLEST_PART), CLIPS_PER_LOOKUP)
        claims = Claims(self.workspace, name, len(clips), size=size, lease_s=self.config.annotate.lease_s)
        return ask_together(
            self.workspace,
            lambda part: self.tasks(clips[part], prompt, round),
            claims,
            writer,
            prompt,
            round=round,
            asking=Asking.of(self.config.annotate, prompt),
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
        return loss_of(self.config)


def _timed(clip: Clip) -> str:
    """Cues with their seconds from the clip's start; the plain transcript where the source had no times."""
    if not clip.cues:
        return clip.transcript
    return " ".join(
        f"[{max(0.0, c.start_s - clip.start_s):.1f}-{min(clip.duration_s, c.end_s - clip.start_s):.1f}] {c.text}"
        for c in clip.cues
    )
