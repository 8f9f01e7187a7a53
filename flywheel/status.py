"""Where a workspace stands, and the history of a clip: read from the records, computed anew each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import polars as pl

from flywheel.core.errors import BorderError, UserError
from flywheel.core.foreign import as_lines
from flywheel.core.types import Stage
from flywheel.rounds.outlook import Outlook, outlook_of
from flywheel.rounds.progress import current_round, current_stage, skipped_stages
from flywheel.rounds.schedule.state import is_running, state_of
from flywheel.store import Workspace
from flywheel.store.corrections import count_standing
from flywheel.store.people import excluded_names
from flywheel.store.videos import Leak

Found = TypeVar("Found")
#: Reasons of rejects that the terminal shows.
_MOST_REASONS = 20
#: Files that are named with each.
_NAMED = 3
#: Columns of a clip's generation that 'show' gives: all but its tokens and their log-probs.
_GENERATION_COLUMNS = (
    "id",
    "clip_id",
    "prompt",
    "model",
    "adapter",
    "sampling",
    "candidate",
    "text",
    "tokens_in",
    "tokens_out",
    "seconds",
    "finish",
)
_USE_COLUMNS = ("round", "stage", "source", "use", "weight", "corrections")


@dataclass(frozen=True, kw_only=True)
class RejectReason:
    """How many open rejects of a stage have one reason, and the first files."""

    stage: str
    reason: str
    rows: int
    files: Sequence[str] = ()

    def __str__(self) -> str:
        more = ", …" if self.rows > len(self.files) else ""
        return f"{self.rows} x {self.stage}: {self.reason} ({', '.join(self.files)}{more})"


@dataclass(frozen=True, kw_only=True)
class ScheduleStatus:
    """Phase of the schedule since a time, and the next time (ISO 8601; None where there is none).

    Beside the phases of :class:`flywheel.rounds.schedule.state.State` it may be "stopped": no process runs it.
    """

    cron: str
    phase: str
    since: str
    message: str
    next: str | None


@dataclass(frozen=True, kw_only=True)
class UnseenAdapter:
    """A stage whose adapter changed nothing that its proof could see, and which weights wrote instead (nats)."""

    round: int
    stage: str
    effect: float
    noise: float
    wrote: str

    def __str__(self) -> str:
        wrote = "merged weights" if self.wrote == "merged" else "the base"
        nats = f"{self.effect:.2g} nats, noise {self.noise:.1e}"
        return f"round {self.round}, {self.stage}: adapter changes nothing that could be seen ({nats}); {wrote} wrote"


@dataclass(frozen=True, kw_only=True)
class SkippedStage:
    """A stage that did nothing, and why."""

    round: int
    stage: Stage
    reason: str

    def __str__(self) -> str:
        return f"round {self.round}: {self.stage} was skipped ({self.reason})"


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a workspace stands.

    ``champion`` is a round, 0 is the base; ``clips`` counts by split. ``annotations`` are the models' texts,
    ``transcripts`` those that came with the videos (None where damage hides which they are, and ``annotations`` are
    then all texts); ``corrections`` are people's words that stand. ``skipped`` are stages of this round and of the one
    before.
    """

    round: int
    stage: Stage
    state: str
    message: str
    schedule: ScheduleStatus | None
    champion: int
    clips: Mapping[str, int]
    annotations: int
    transcripts: int | None
    generations: int
    corrections: int
    open_rejects: int
    reject_reasons: Sequence[RejectReason]
    #: What can't be read; then clips are not told apart, and rejects not counted.
    damage: str = ""
    unseen_adapters: Sequence[UnseenAdapter] = ()
    #: Clips that measure, of videos that are learned from too; None where the split is by video.
    leak: Leak | None = None
    skipped: Sequence[SkippedStage] = ()
    #: The last rounds' verdicts, what is needed and impossible, and the next commands; None where nothing tells.
    outlook: Outlook | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values; ``champion`` is ``{"round"}``."""
        lists = {
            "reject_reasons": [asdict(reason) for reason in self.reject_reasons],
            "unseen_adapters": [asdict(adapter) for adapter in self.unseen_adapters],
            "skipped": [asdict(stage) for stage in self.skipped],
        }
        values = {name: value for name, value in asdict(self).items() if name != "outlook"}
        block = {} if self.outlook is None else self.outlook.to_json()
        return {**values, "champion": {"round": self.champion}, **lists, **block}

    def __str__(self) -> str:
        champion = "the base model" if self.champion == 0 else f"round {self.champion}"
        lines = [
            *(self.outlook.lines() if self.outlook is not None else ()),
            *map(str, self.skipped),
            f"round {self.round}: {self.stage} is {self.state}" + _in_brackets(self.message),
            f"champion: {champion}",
            "clips: " + (", ".join(f"{n} {split}" for split, n in self.clips.items()) or "none"),
            f"annotations: {self.annotations} {self._whose}",
            f"corrections: {self.corrections}",
            f"files and texts that failed: {self.open_rejects}",
        ]
        lines += [str(adapter) for adapter in self.unseen_adapters]
        lines += [f"split: {self.leak}"] if self.leak else []
        if plan := self.schedule:
            following = f", next {plan.next}" if plan.next else ""
            lines.append(f"schedule '{plan.cron}': {plan.phase}{_in_brackets(plan.message)}{following}")
        lines += [f"  {reason}" for reason in self.reject_reasons[:_MOST_REASONS]]
        lines += [self.damage] if self.damage else []
        if self.outlook is not None:
            lines += [f"{'Next:' if n == 0 else '     '} {line}" for n, line in enumerate(self.outlook.next)]
        return as_lines(lines)

    @property
    def _whose(self) -> str:
        of_models = f"by models (of {self.generations} generations)"
        if self.transcripts is None:
            return f"that came with the videos or were written {of_models}"
        return f"{of_models}, {self.transcripts} that came with the videos"


def status_of(workspace: Workspace) -> Status:
    """Round, stage and its state, champion, counts, open rejects with their reasons."""
    round = current_round(workspace)
    stage = current_stage(workspace, round)
    state, result = workspace.stage(round, stage)
    damage: list[str] = []
    rejects = _readable(lambda: workspace.rejected(open_only=True), damage)
    clips = _readable(lambda: workspace.records.read("clips", columns=("split",)), damage)
    reasons: list[tuple[str, str, int, list[str]]] = []
    if rejects is not None:
        files = pl.col("uri").unique(maintain_order=True).head(_NAMED).alias("files")
        counts = rejects.group_by("stage", "reason").agg(pl.len(), files)
        reasons = counts.sort("len", "reason", descending=[True, False]).rows()
    splits = {"unread": workspace.count("clips")}
    if clips is not None:
        splits = dict(clips.group_by("split").len().sort("split").iter_rows())
    given = _readable(lambda: _transcripts(workspace), damage)
    outlook = _readable(lambda: outlook_of(workspace, 0 if rejects is None else rejects.height), damage)
    return Status(
        round=round,
        stage=stage,
        state=state,
        message=result.get("message", ""),
        schedule=_schedule_of(workspace),
        champion=workspace.champion(),
        clips=splits,
        annotations=workspace.count("annotations") - (0 if given is None else given.height),
        transcripts=None if given is None else given.height,
        generations=workspace.count("generations"),
        corrections=count_standing(workspace, excluded_names(workspace)),
        open_rejects=0 if rejects is None else rejects.height,
        reject_reasons=tuple(RejectReason(stage=s, reason=r, rows=n, files=f) for s, r, n, f in reasons),
        damage="; ".join(dict.fromkeys(damage)),
        unseen_adapters=tuple(_unseen_adapters(workspace, round)),
        leak=None if clips is None else workspace.videos.leak(),
        outlook=outlook,
        skipped=tuple(
            SkippedStage(round=r, stage=stage, reason=reason)
            for r in (round - 1, round)
            for stage, reason in (skipped_stages(workspace, r) if r > 0 else {}).items()
        ),
    )


def _readable(read: Callable[[], Found], damage: list[str]) -> Found | None:
    """What is read; None where a shard is damaged, and then what is wrong is added: the rest can still be said."""
    try:
        return read()
    except BorderError as error:
        if error.code != "shard":
            raise
        damage.append(str(error))
        return None


def _unseen_adapters(workspace: Workspace, round: int) -> Iterator[UnseenAdapter]:
    """Of the round that runs and the one before it."""
    for number in range(max(0, round - 1), round + 1):
        for stage in ("annotate", "evaluate"):
            proof = workspace.stage(number, stage)[1].get("proof") or {}
            if proof.get("verdict") == "unseen":
                yield UnseenAdapter(
                    round=number,
                    stage=stage,
                    effect=proof["adapter_to_base"],
                    noise=proof["noise"],
                    wrote=proof["wrote"],
                )


def _transcripts(workspace: Workspace) -> pl.DataFrame:
    """The texts that came with the videos."""
    source = pl.col("source") == "transcript"
    return workspace.records.read("annotations", round=0, columns=("source",), where=source)


def _schedule_of(workspace: Workspace) -> ScheduleStatus | None:
    state = state_of(workspace)
    if state is None:
        return None
    # Here: reading cron lines takes a library that most workspaces don't need.
    from flywheel.rounds.schedule.times import Times, zone_of

    if not is_running(workspace.root):
        was = f"{state.phase} since {state.since}" if state.since else state.phase
        message = f"no process runs it; it was {was}; 'flywheel schedule start' goes on"
        return ScheduleStatus(cron=state.cron, phase="stopped", since=state.since, message=message, next=None)
    following = Times(state.cron, zone_of(workspace.config.schedule.timezone)).after(datetime.now(UTC))
    return ScheduleStatus(
        cron=state.cron,
        phase=state.phase,
        since=state.since,
        message=state.message,
        next=None if following is None else following.isoformat(),
    )


def _in_brackets(message: str) -> str:
    return f" ({message})" if message else ""


@dataclass(frozen=True, kw_only=True)
class TextHistory:
    """A text, the generation that made it (None: it came with the video), its corrections, and who learned from it.

    All are rows of the records.
    """

    annotation: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    corrections: Sequence[Mapping[str, Any]]
    uses: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The text's row with the other fields beside its columns."""
        generation = None if self.generation is None else dict(self.generation)
        corrections, uses = [dict(row) for row in self.corrections], [dict(row) for row in self.uses]
        return {**self.annotation, "generation": generation, "corrections": corrections, "uses": uses}

    def lines(self) -> list[str]:
        """The text, its uses and corrections for the terminal."""
        text, made = self.annotation, self.generation
        writer = text["source"]
        if made is not None:
            writer = f"model {made['model']}" + (f" + adapter {made['adapter']}" if made["adapter"] else "")
        lines = [f"round {text['round']} {text['kind']} by {writer}: {text['text']}"]
        for use in self.uses:
            if use["use"] in ("learned", "preferred"):
                lines.append(f"  M{use['round']} {use['use']} it in {use['stage']}, weight {use['weight']:g}")
            else:
                lines.append(f"  not for M{use['round']}'s {use['stage']}: rejected")
        return lines + [f"  {c['verdict']} by {c['refiner']} at {c['at']}: {c['text']}" for c in self.corrections]


@dataclass(frozen=True, kw_only=True)
class ClipHistory:
    """All that is on record of one clip; ``gold`` is its right text, "" where it is not gold.

    ``tracks`` are the streams of its file, with the reason where one was left; empty where there was no choice.
    ``speech`` is what recognisers heard in it; people's words and those of files go before it.
    """

    clip: Mapping[str, Any]
    texts: Sequence[TextHistory]
    rejected: Sequence[Mapping[str, Any]]
    gold: str
    tracks: Sequence[Mapping[str, Any]] = ()
    speech: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        texts, rejected = [text.to_json() for text in self.texts], [dict(row) for row in self.rejected]
        tracks, speech = [dict(track) for track in self.tracks], [dict(row) for row in self.speech]
        beside = {"tracks": tracks, "speech": speech, "texts": texts, "rejected": rejected, "gold": self.gold}
        return {"clip": dict(self.clip), **beside}

    def __str__(self) -> str:
        clip = self.clip
        lines = [f"{clip['id']} {clip['uri']} {clip['start_s']:.2f} to {clip['end_s']:.2f} s, {clip['split']}"]
        lines += [_track_line(track) for track in self.tracks]
        lines += [f"speech by {row['source']}: {row['transcript'] or '(nobody speaks)'}" for row in self.speech]
        for text in self.texts:
            lines += text.lines()
        if self.gold:
            lines.append(f"gold: {self.gold}")
        lines += [f"round {r['round']} {r['stage']} rejected: {r['reason']}" for r in self.rejected]
        return as_lines(lines)


def history_of(workspace: Workspace, clip: str) -> ClipHistory:
    """The history of the clip whose id begins with ``clip``. Raises UserError where none or several do."""
    # Here: 'flywheel status' need not load what judges refiners.
    from human_refine.gold import gold_texts

    records = workspace.records
    clip_id = _clip_id(workspace, clip)
    ids = pl.col("clip_id") == clip_id
    made = records.read("generations", columns=_GENERATION_COLUMNS, where=ids)
    generations = {row["id"]: row for row in made.iter_rows(named=True)}
    corrections = _by_annotation(workspace.corrections().filter(ids))
    uses = _by_annotation(records.read("examples", columns=("annotation_id", *_USE_COLUMNS), where=ids))
    texts = [
        TextHistory(
            annotation=row,
            generation=generations.get(row["generation_id"]),
            corrections=corrections.get(row["id"], []),
            uses=[{name: use[name] for name in _USE_COLUMNS} for use in uses.get(row["id"], [])],
        )
        for row in records.read("annotations", where=ids).sort("round", "kind").to_dicts()
    ]
    return ClipHistory(
        clip=workspace.clips_by_id([clip_id]).to_dicts()[0],
        texts=texts,
        rejected=records.read("rejected", where=ids).to_dicts(),
        gold=gold_texts(workspace).get(clip_id, ""),
        speech=records.read("asr_transcripts", where=ids).to_dicts(),
        tracks=[track for told in records.read("tracks", where=ids)["tracks"] for track in json.loads(told)],
    )


def _track_line(track: Mapping[str, Any]) -> str:
    named = [track.get(name, "") for name in ("codec", "language", "title")]
    words = ", ".join([*(word for word in named if word), *track.get("flags", ())])
    left = f"; left: {track['left']}" if track.get("left") else ""
    return f"stream {track['index']}, {track['kind']}: {words}{left}"


def _clip_id(workspace: Workspace, name: str) -> str:
    """The clip whose id begins so, or whose file has this path or name. Raises UserError where not exactly one does."""
    ids = workspace.records.keys_from("clips", name)
    if len(ids) == 1:
        return ids[0]
    if not ids:
        found = workspace.clips_by_id(workspace.find_clips(name)["id"].to_list() or _named(workspace, name))
        if found.height == 1:
            return str(found["id"][0])
        if found.height > 1:
            spans = found.sort("start_s").head(_NAMED).select("id", "start_s", "end_s").iter_rows()
            first = ", ".join(f"{clip_id[:12]} ({start_s:.1f}-{end_s:.1f} s)" for clip_id, start_s, end_s in spans)
            raise UserError(f"show {name}: is the file of {found.height} clips. Give the id of one: {first}, …")
        raise UserError(f"show {name}: no clip matches. List them with 'flywheel clips', by words with --search.")
    raise UserError(f"show {name}: names {len(ids)} clips. Give more digits of the id; 'flywheel clips' lists them.")


def _named(workspace: Workspace, name: str) -> list[str]:
    return workspace.clips_named(name)["id"].to_list() if "/" not in name else []


def _by_annotation(rows: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The rows of each annotation, in their order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        groups.setdefault(row["annotation_id"], []).append(row)
    return groups


@dataclass(frozen=True, kw_only=True)
class CorrectionUse:
    """A correction, and the model that learned from it: ``round`` None where none did yet."""

    id: str
    clip_id: str
    annotation_id: str
    verdict: str
    refiner: str
    at: str
    round: int | None
    stage: str | None
    use: str | None
    weight: float | None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        use = "not used yet"
        if self.round is not None:
            use = f"{self.use}, M{self.round} {self.stage}, weight {self.weight:g}"
        return f"{self.id} {self.verdict} by {self.refiner} of clip {self.clip_id}: {use}"


def uses_of(workspace: Workspace, round: int | None = None) -> list[CorrectionUse]:
    """Each correction, and each blind choice that was learned from, with every use of it in training.

    With a round only the uses by that round's model. The verdict of a choice is what was chosen.
    """
    columns = ("corrections", "round", "stage", "use", "weight")
    examples = workspace.records.read("examples", round=round, columns=columns)
    learned = examples.explode("corrections").drop_nulls("corrections").rename({"corrections": "id"})
    corrections = workspace.corrections().select("id", "clip_id", "annotation_id", "verdict", "refiner", "at")
    choices = workspace.preferences().join(learned, on="id", how="semi")
    chosen = choices.select(
        "id", "clip_id", pl.col("first_id").alias("annotation_id"), pl.col("chosen").alias("verdict"), "refiner", "at"
    )
    joined = pl.concat([corrections, chosen]).join(learned, on="id", how="left", maintain_order="left")
    rows = joined if round is None else joined.drop_nulls("round")
    return [CorrectionUse(**row) for row in rows.iter_rows(named=True)]


def comparison_text(comparison: Mapping[str, Any], min_anchors: int) -> str:
    """A comparison of two rounds as a table for the terminal; with fewer anchors the gate can't tell."""
    a, b = comparison["a"], comparison["b"]
    lines = [f"{'':24} {'round ' + str(a):>26} {'round ' + str(b):>26}"]
    lines += [f"{name:24} {_cell(x):>26} {_cell(y):>26}" for name, (x, y) in comparison["figures"].items()]
    if anchors := comparison["anchors"]:
        change = anchors["difference"]
        interval = f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        lines.append(
            f"On {comparison['num_anchors']} anchors round {b} has {interval} word F1 against round {a}: "
            f"p(better) = {anchors['p_better']:.2g}, p(worse) = {anchors['p_worse']:.2g}."
        )
        if comparison["num_anchors"] < min_anchors:
            lines.append(f"That is below the {min_anchors} anchors that the gate asks for (gate.min_anchors).")
    else:
        lines.append("No corrected anchors that both wrote of: nothing can be tested.")
    if (chosen := comparison.get("preference")) is not None:
        won = chosen["win_rate"]
        share = f"{won['value']:.0%} [{won['low']:.0%}, {won['high']:.0%}]"
        lines.append(
            f"On {won['n']} videos people chose round {b}'s text {share} of the time, ties as half: evidence "
            f"{chosen['e_value']:.3g} that it is better, {chosen['e_value_worse']:.3g} that it is worse; "
            f"{chosen['seconds_per_choice']:.1f} s a choice."
        )
    if (facts := comparison.get("facts")) is not None:
        lines.append(_facts(facts, b))
    if (qa := comparison.get("qa")) is not None:
        d = qa["accuracy"]["difference"]
        lines.append(
            f"From captions of {qa['clips']} anchor clips alone {qa['a']['accuracy']['value']:.0%} and "
            f"{qa['b']['accuracy']['value']:.0%} of {qa['questions']} questions were answered rightly, "
            f"by video in the mean {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]; not answered: "
            f"{qa['a']['unanswered']['value']:.0%} and {qa['b']['unanswered']['value']:.0%}."
        )
    if (start := comparison.get("head_start")) is not None:
        nearer = f"{start['value']:+.3f} [{start['low']:+.3f}, {start['high']:+.3f}] nearer"
        lines.append(
            f"A text that people saw first is {nearer} to what they wrote than one that they had not seen (word F1, "
            "anchors): so much do edits favour who wrote it."
        )
    equal, shared = comparison["equal_texts"], comparison["shared_texts"]
    lines.append(f"{equal} of {shared} texts are the same. Those that differ most:")
    for text in comparison["texts"]:
        lines += [f"  {text['uri'].rsplit('/', 1)[-1]}", f"    {a}: {text['a']}", f"    {b}: {text['b']}"]
    return as_lines(lines)


def _facts(facts: Mapping[str, Any], b: int) -> str:
    """The comparison of facts in a line."""
    changes = [(name, facts[name]["difference"]) for name in ("f1", "precision") if facts[name] is not None]
    said = ", ".join(f"{name} {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for name, d in changes)
    unsure = f"; of {facts['unsure']} clips the judge can't tell" if facts["unsure"] else ""
    return (
        f"By the facts that models.{facts['judge']} compared on {facts['clips']} anchor clips, round {b} has {said}"
        f"{unsure}."
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.4g}"
