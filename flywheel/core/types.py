"""What flows through the wheel. Frozen and keyword-only; records point at pixels and sound, they never hold them.

Times are seconds from the start of the file. Ids are content hashes, so the same thing made twice has one id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from flywheel.core.constants import CAPTION as CAPTION
from flywheel.core.constants import MAX_SEED as MAX_SEED

Split = Literal["train", "test", "anchor"]
Verdict = Literal["accept", "edit", "reject", "skip", "cant_tell", "withdraw"]
#: What a person chose of two texts; ``skip`` says nothing, ``withdraw`` takes back what that person chose before.
Choice = Literal["first", "second", "equal", "both_bad", "skip", "withdraw"]
#: A stage by its name; who conducts a round checks that there is such a stage.
Stage = str
#: What a text is written for: rounds learn from it and people correct it, or models are measured by it.
Purpose = Literal["learn", "measure", "swapped", "repeated", "shuffled", "verify"]
LEARN: Purpose = "learn"
MEASURE: Purpose = "measure"
#: Judgements that are no clip's own word: with the texts in the other order, asked again with other sampling, and of
#: what is seen with what is heard in another video.
SWAPPED: Purpose = "swapped"
REPEATED: Purpose = "repeated"
SHUFFLED: Purpose = "shuffled"
#: What a judge says of texts: their facts, and whether another text supports them.
VERIFY: Purpose = "verify"

#: What a judge scores from 0 to 10: whether times, places and subjects of what is seen and heard agree, whether the one
#: can make the other, and whether the sources of the sounds are seen (AVVA, arXiv 2503.09205).
CRITERIA = ("temporal", "spatial", "contextual", "causal", "visibility")

#: The reason of a text that a person wrote before the model's was shown: the review page gives it.
WRITTEN_BLIND = "written before the model's text was seen"

#: The group of texts that people gave or left standing: no loss doubts them.
HUMAN = "human"

#: The stage that keeps and drops clips.
CURATE: Stage = "curate"
#: The stage that repairs clips' sounds.
REPAIR: Stage = "repair"
#: Of clips whose vectors could not be made.
INDEX: Stage = "index"
#: The stages of a round, in their order (ingest comes before the first round; ``repair`` and ``curate`` before
#: them where they are on).
ROUND_STAGES: tuple[Stage, ...] = ("annotate", "review", "pretrain", "finetune", "evaluate", "gate")


def form_of(kind: str, purpose: str) -> str:
    """Kind and purpose as one word, as ids and costs have them: ``evaluation`` is a caption that measures."""
    if purpose == LEARN:
        return kind
    return "evaluation" if kind == CAPTION else f"{kind}:{purpose}"


def content_id(*parts: object) -> str:
    """A 20-digit hexadecimal id of these parts (JSON, keys sorted); equal parts, equal id."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def pair_id(one_id: str, other_id: str) -> str:
    """The id of a pair of texts, whichever is named first; it tells nothing of either."""
    return content_id("pair", *sorted((one_id, other_id)))


@dataclass(frozen=True, kw_only=True)
class Cue:
    """A text with its span, in seconds
    (of the file in a :class:`Clip`, from the clip's start in an annotation's payload)."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A span of a video. ``id`` hashes the file's content and the span, so a file that moved is the same clip.

    ``start_s``/``end_s`` in seconds of the file; ``fps`` the stream's mean rate; ``transcript`` what came with the
    video (round 0's text), ``cues`` the same with times where the source had them, ``sounds`` its sound events as text.
    """

    id: str
    uri: str
    content_hash: str
    start_s: float
    end_s: float
    fps: float
    width: int
    height: int
    has_audio: bool
    transcript: str
    sounds: str
    split: Split
    cues: tuple[Cue, ...] = ()

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One text that a model wrote. ``id`` is its key: clip, inputs, prompt, sampling, model, adapter, candidate.

    ``token_ids`` and ``logprobs`` (natural log, the model's own probabilities at temperature 1) have one entry per
    token written, the end mark included. ``seconds`` is this row's share of the batch's wall time.
    """

    id: str
    clip_id: str
    prompt: str
    model: str
    adapter: str
    sampling: str
    candidate: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    tokens_in: int
    tokens_out: int
    seconds: float
    finish: str

    @property
    def mean_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else 0.0


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A text of a clip in a round: made by a generation, or what came with the video (round 0, ``source`` says what).

    ``payload`` is the structure of a kind that has one, as JSON: ``{"cues": [{"start_s", "end_s", "text"}]}`` (seconds
    from the clip's start), ``{"pairs": [{"question", "answer"}]}`` or ``{"tags": [...]}``; ``text`` holds its words.
    ``kind`` is the form, ``purpose`` what it was written for.
    """

    id: str
    round: int
    kind: str
    clip_id: str
    generation_id: str
    source: str
    text: str
    mean_logprob: float
    payload: str = ""
    purpose: Purpose = LEARN


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What a person said of an annotation; ``withdraw`` takes back what the same person said of it before. ``seconds``
    is the time spent on it, ``at`` when it was given (UTC); ``payload`` as in :class:`Annotation`, for an edit of a
    kind that has one."""

    id: str
    annotation_id: str
    clip_id: str
    verdict: Verdict
    text: str
    refiner: str
    reason: str = ""
    seconds: float = 0.0
    payload: str = ""
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Preference:
    """Which of two texts of a clip a person preferred, not knowing whose they are.

    ``first_id`` and ``second_id`` are annotations; ``left`` says which of them was shown on the left, empty where that
    is not known. ``seconds`` and ``at`` as in :class:`Correction`.
    """

    id: str
    clip_id: str
    first_id: str
    second_id: str
    chosen: Choice
    refiner: str
    left: Literal["first", "second", ""] = ""
    seconds: float = 0.0
    at: datetime

    @property
    def pair_id(self) -> str:
        """The id of the pair of texts, whichever is called first."""
        return pair_id(self.first_id, self.second_id)


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a trainer learns from: a clip, the hints its prompt may show, the text, and the group whose noise it shares.

    An epoch shows one text of each clip; ``share`` is how often it is this one, beside the clip's others. A text that
    answers a question of its own has it in ``question``, which is then the prompt; ``earlier`` are the turns of its
    conversation before that, as (question, answer)."""

    clip_id: str
    text: str
    prompt_texts: Mapping[str, str | None] = field(default_factory=dict)
    weight: float = 1.0
    share: float = 1.0
    group: str = ""
    annotation_id: str = ""
    question: str = ""
    earlier: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class NoiseSignal:
    """How suspicious training found a row: ``value`` in [0, 1] (1 is noise), ``origin`` says by what rule."""

    annotation_id: str
    origin: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Decision on one clip: ``kept`` or not, its ``score`` (None: it can't be told), the ``reason`` in words."""

    clip_id: str
    kept: bool
    score: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class SoundVersion:
    """What became of a clip's sound when it was looked at; of a clip's the last stands. The original is never touched.

    ``version`` is the id of the edited sound: a hash of its ``original`` (content and span), its ``plan``, the
    ``code`` that edits and ``content_hash``; empty where the original stays, as it does for all outcomes but
    ``repaired``. ``content_hash`` and ``num_bytes`` are of its file. ``parent`` is the version that stood before,
    empty for the original. ``plan``, the rewards ``before`` and ``after`` and the ``trace`` of all that was tried are
    JSON. ``speech`` says how a recogniser understands the edited sound: ``better``, ``as good``, ``none`` where
    nobody speaks, empty where none was asked.
    """

    id: str
    clip_id: str
    version: str
    outcome: Literal["left alone", "repaired", "refused", "undone"]
    reason: str
    plan: str
    before: str
    after: str
    trace: str
    content_hash: str
    num_bytes: int
    parent: str
    original: str
    code: str
    planner: str
    speech: str
    seconds: float
    at: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval over ``n`` items; the bounds equal the value where n < 2."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """A round's figures: those of M_k's texts on the test split, and its costs.

    ``oracle`` is filled where the truth is known (the playground), ``watch`` holds the collapse watch's figures
    (:mod:`flywheel.rounds.watch`), ``extra`` other packages'. ``stages_s`` are seconds per stage, ``details`` what each
    stage but evaluate put on record.
    """

    round: int
    num_corrections: int
    quantity: Mapping[str, float] = field(default_factory=dict)
    diversity: Mapping[str, Estimate] = field(default_factory=dict)
    quality: Mapping[str, Estimate] = field(default_factory=dict)
    oracle: Mapping[str, Estimate] = field(default_factory=dict)
    stages_s: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    watch: Mapping[str, Estimate] = field(default_factory=dict)
    extra: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; without ``extra`` where no other package measures a figure."""
        record = asdict(self)
        return record if self.extra else {name: value for name, value in record.items() if name != "extra"}


@runtime_checkable
class MetricSink(Protocol):
    """Where trainers report to, without knowing of a tracker."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...


def corrected(
    annotation: Annotation, corrections: Sequence[Correction], leads: frozenset[str] = frozenset()
) -> str | None:
    """The current text of an annotation: a pure function of it and its corrections; None when people rejected it.

    Each refiner's latest word counts (:func:`standing`). The latest lead decides; else the verdict or text that
    most refiners gave; else the medoid, the text nearest to all others by word overlap (ours).
    """
    latest = standing([c for c in corrections if c.annotation_id == annotation.id])
    if not latest:
        return annotation.text
    by_lead = [c for c in latest.values() if c.refiner in leads]
    if by_lead:
        return _said(annotation, by_lead[-1])
    said = [_said(annotation, c) for c in latest.values()]
    counts = {text: said.count(text) for text in said}
    most = max(counts.values())
    leading = [text for text, count in counts.items() if count == most]
    if len(leading) == 1:
        return leading[0]
    texts = [text for text in said if text is not None]
    return max(dict.fromkeys(t for t in leading if t is not None), key=lambda t: sum(_overlap(t, u) for u in texts))


def agreement(annotation: Annotation, corrections: Sequence[Correction], leads: frozenset[str] = frozenset()) -> float:
    """How far the refiners of a text stand behind what :func:`corrected` made of it: the mean word overlap (Jaccard) of
    their texts with it, its own giver's included, a reject counting 0; in (0, 1], and 1 where a lead decided or one
    person alone spoke. Ours: the weight of the text in training."""
    latest = standing([c for c in corrections if c.annotation_id == annotation.id])
    text = corrected(annotation, corrections, leads)
    if len(latest) < 2 or text is None or any(c.refiner in leads for c in latest.values()):
        return 1.0
    said = [_said(annotation, c) for c in latest.values()]
    return sum(0.0 if other is None else _overlap(text, other) for other in said) / len(said)


def standing(corrections: Sequence[Correction]) -> dict[str, Correction]:
    """Refiner -> that person's latest word on one annotation, in the order of time.
    Skips and can't-tells say nothing, what was withdrawn is not said."""
    latest: dict[str, Correction] = {}
    for correction in sorted(corrections, key=lambda c: (c.at, c.id)):
        if correction.verdict not in ("skip", "cant_tell"):
            latest.pop(correction.refiner, None)
            if correction.verdict != "withdraw":
                latest[correction.refiner] = correction
    return latest


def standing_choices(preferences: Iterable[Preference]) -> list[Preference]:
    """Each person's latest choice on each pair, in the order of time, without skips and what was taken back."""
    latest: dict[tuple[str, str], Preference] = {}
    for preference in sorted(preferences, key=lambda p: (p.at, p.id)):
        if preference.chosen != "skip":
            key = (preference.pair_id, preference.refiner)
            latest.pop(key, None)
            if preference.chosen != "withdraw":
                latest[key] = preference
    return list(latest.values())


def _said(annotation: Annotation, correction: Correction) -> str | None:
    match correction.verdict:
        case "reject":
            return None
        case "accept":
            return annotation.text
    return correction.text


def _overlap(a: str, b: str) -> float:
    left, right = set(a.lower().split()), set(b.lower().split())
    return len(left & right) / len(left | right) if left | right else 1.0
