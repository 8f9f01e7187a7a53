"""The one table of figures: what each is called, its unit, which direction is good, and where it is charted.

MLflow's charts, the report, the plots, the comparison of rounds and the collapse watch read this table; figures are
listed nowhere else. A figure that is not in the table is recorded and shown under its own name.

Other packages add a figure of the test split's texts through the entry-point group ``flywheel.figures``. The entry
names an object ``Figure(label=..., measure=function)``; the figure is then called ``extra/ENTRY``.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from flywheel.core.errors import UserError, first_line
from flywheel.core.progress import say
from flywheel.core.registry import Registry
from flywheel.core.types import Clip, Estimate, RoundReport
from flywheel.metrics.collapse import Bad, Rule

Good = Literal["up", "down", ""]
#: From the texts of the test split and their clips, in one order, to a value with its interval or a plain number.
Measure = Callable[[Sequence[str], Sequence[Clip]], Estimate | float]

#: The groups of a round's figures, in the order in which they are shown; each is a field of :class:`RoundReport`.
GROUPS = ("oracle", "quality", "diversity", "quantity", "watch", "extra")

_QUALITY, _DIVERSITY, _QUANTITY = "Quality", "Diversity", "Quantity and cost"
_DIAGNOSTICS = "Diagnostics"
#: Group -> the section of the report's table that its figures stand in.
_SECTIONS = {"oracle": _QUALITY, "quality": _QUALITY, "diversity": _DIVERSITY, "quantity": _QUANTITY, "extra": "Others"}
#: Distances alone are also compared with the base. At 3.5 sigma three of them give 2 false alarms in 100 wheels of
#: thirty rounds; the ten others have 4 sigma, which comes to 1.
_SIGMAS_OF_DISTANCES = 3.5
_BAD: Mapping[Good, Bad] = {"up": "less", "down": "more", "": "either"}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How the collapse watch judges a figure; its bad direction is the opposite of the good one, or both.

    ``words`` say in an alarm what happened. ``distance``: the base's own value counts as a yardstick too.
    ``least_noise`` is the least standard deviation that is believed.
    """

    words: str
    distance: bool = False
    least_noise: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure, or a pattern (``seconds/*``) of figures that are alike.

    ``name`` is group and name as MLflow has them (``quality/anchor_token_f1``); another package's figure gets its name
    from its entry point. ``headline`` is the section of charts it stands in; empty: it stands in tables alone.
    ``measure`` is for other packages' figures: a pure function of the test split's texts and clips. ``section`` is that
    of the report's table, where it is not the group's.
    """

    name: str = ""
    label: str
    unit: str = ""
    good: Good = ""
    headline: str = ""
    watch: Watch | None = None
    measure: Measure | None = None
    section: str = ""

    @property
    def title(self) -> str:
        """Label and unit, as a chart is headed."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def place(self) -> str:
        """The section of the report's table that it stands in."""
        return self.section or _SECTIONS.get(self.name.split("/")[0], _DIAGNOSTICS)


TABLE: tuple[Figure, ...] = (
    Figure(name="oracle/slot_f1", label="slot F1, test clips (oracle)", good="up", headline=_QUALITY),
    Figure(name="quality/anchor_token_f1", label="token F1 with people, anchors", good="up", headline=_QUALITY),
    Figure(name="quality/anchor_rouge_l", label="ROUGE-L with people, anchors", good="up"),
    Figure(name="quality/fact_f1", label="fact F1 with people, anchors", good="up", headline=_QUALITY),
    Figure(name="quality/fact_precision", label="share of facts that people's texts support, anchors", good="up"),
    Figure(name="quality/fact_recall", label="share of people's facts that are told, anchors", good="up"),
    Figure(name="quality/fact_contradicted", label="share of facts that people's texts contradict", good="down"),
    Figure(name="quality/fact_unsure", label="share of anchors of which the judge can't tell", good="down"),
    Figure(name="quality/fact_*_apart_from_*", label="distance of two judges", good="down"),
    Figure(name="quality/qa_accuracy", label="questions answered from captions alone, anchors", good="up"),
    Figure(name="quality/qa_unanswered", label="questions that captions do not answer, anchors", good="down"),
    Figure(name="diversity/distinct_1", label="distinct-1", good="up", headline=_DIVERSITY),
    Figure(name="diversity/distinct_3", label="distinct-3", good="up", headline=_DIVERSITY),
    Figure(name="diversity/vocabulary", label="different words", unit="per segment", good="up"),
    Figure(name="diversity/unique", label="share of different texts", good="up"),
    Figure(name="quantity/annotations", label="texts, test clips"),
    Figure(name="quantity/hours", label="video, test clips", unit="h"),
    Figure(name="quantity/tokens", label="tokens, test clips", headline=_QUANTITY),
    Figure(name="num_corrections", label="corrections", good="up", headline=_QUANTITY),
    # The collapse watch.
    Figure(name="watch/distinct_1", label="distinct-1", good="up", watch=Watch(words="fewer different words")),
    Figure(name="watch/distinct_3", label="distinct-3", good="up", watch=Watch(words="fewer different phrases")),
    Figure(
        name="watch/vocabulary",
        label="vocabulary (Guiraud's index)",
        good="up",
        watch=Watch(words="a smaller vocabulary"),
    ),
    Figure(
        name="watch/vendi",
        label="Vendi score",
        unit="per text",
        good="up",
        headline=_DIVERSITY,
        watch=Watch(words="fewer effectively different texts"),
    ),
    Figure(
        name="watch/spread", label="mean distance of texts", good="up", watch=Watch(words="texts nearer to each other")
    ),
    Figure(
        name="watch/unique", label="share of different texts", good="up", watch=Watch(words="more texts said twice")
    ),
    Figure(
        name="watch/self_bleu",
        label="self-BLEU",
        good="down",
        headline=_DIVERSITY,
        watch=Watch(words="texts more like each other"),
    ),
    Figure(
        name="watch/repetition",
        label="repetition within a text",
        good="down",
        watch=Watch(words="more said twice in a text", least_noise=0.0025),
    ),
    Figure(
        name="watch/top_phrase",
        label="share of texts with the commonest phrase",
        good="down",
        watch=Watch(words="one phrase in more texts"),
    ),
    Figure(name="watch/length", label="length", unit="words", watch=Watch(words="another length")),
    Figure(
        name="watch/from_origin",
        label="divergence from what came with the videos",
        unit="bits",
        good="down",
        watch=Watch(words="further from what came with the videos", distance=True),
    ),
    Figure(
        name="watch/from_human",
        label="divergence from people's words",
        unit="bits",
        good="down",
        watch=Watch(words="further from people's words", distance=True),
    ),
    Figure(
        name="watch/unknown",
        label="share of words in no given and no human text",
        good="down",
        watch=Watch(words="more words that nobody else said", distance=True, least_noise=0.0025),
    ),
    Figure(name="watch/human_share", label="share of human text learned from", good="up", headline=_QUANTITY),
    Figure(name="watch/calibration", label="rank correlation of log-prob and quality, anchors", good="up"),
    # It falls where texts become longer or surer, also while they become better: no measure of quality by itself.
    Figure(
        name="quality/agreement",
        label="video-text margin",
        unit="nats per token",
        good="up",
        headline=_DIAGNOSTICS,
        section=_DIAGNOSTICS,
    ),
    # What people did with the round's texts.
    Figure(name="review/alpha", label="Krippendorff's alpha of reviewers", good="up"),
    Figure(name="review/boundary_iou", label="overlap of reviewers' cues in time", unit="IoU", good="up"),
    Figure(name="review/overlap", label="texts that several reviewers saw"),
    Figure(name="review/edit_rate", label="words edited per word", good="down"),
    Figure(name="review/seconds_each", label="time per correction", unit="s", good="down"),
    Figure(name="review/gold_accuracy", label="accuracy on gold texts", good="up"),
    # What became of sounds.
    Figure(name="repair/left_alone_share", label="share of clips whose sound is left alone"),
    Figure(name="repair/repaired", label="clips whose sound is repaired"),
    Figure(name="repair/refused", label="clips of which all edits were refused"),
    Figure(name="repair/undone", label="repairs that people undid", good="down"),
    Figure(name="repair/seconds_per_clip", label="looking at a sound, a clip", unit="s", good="down"),
    Figure(name="repair/no_plans", label="replies that were no plans", good="down"),
    Figure(name="repair/calls", label="questions to the model that plans"),
    Figure(name="repair/tokens_in", label="tokens that it read"),
    Figure(name="repair/tokens_out", label="tokens that it wrote"),
    Figure(name="repair/engine_s", label="time that it took", unit="s", good="down"),
    Figure(name="repair/preferred", label="edited sounds that people prefer", good="up"),
    Figure(name="repair/preferred_low", label="the same, at least", good="up"),
    Figure(name="repair/preferred_high", label="the same, at most", good="up"),
    Figure(name="repair/action/*", label="edits of sound that stand"),
    Figure(name="repair/before/*", label="reward of repaired clips before", good="up"),
    Figure(name="repair/after/*", label="reward of repaired clips after", good="up"),
    # What curation kept.
    Figure(name="curate/kept", label="clips kept"),
    Figure(name="curate/dropped", label="clips dropped"),
    Figure(name="curate/unscored", label="clips without a score"),
    Figure(name="curate/would_drop", label="test and anchor clips that would have gone"),
    Figure(name="curate/hours", label="video kept", unit="h"),
    Figure(name="curate/seconds_per_clip", label="measuring a clip", unit="s", good="down"),
    Figure(name="curate/asked", label="clips described and judged"),
    Figure(name="curate/calls_saved", label="judge's calls saved", good="up"),
    Figure(name="curate/tokens_per_clip_kept", label="describing and judging, a clip kept", unit="tokens", good="down"),
    Figure(name="curate/money_per_clip_kept", label="describing and judging, money a clip kept", good="down"),
    Figure(name="curate/order_spearman", label="judge against itself, texts swapped, rank correlation", good="up"),
    Figure(name="curate/order_jaccard", label="judge against itself, texts swapped, clips kept", good="up"),
    Figure(name="curate/repeat_spearman", label="judge against itself, asked again, rank correlation", good="up"),
    Figure(name="curate/repeat_jaccard", label="judge against itself, asked again, clips kept", good="up"),
    Figure(name="curate/share_matched", label="share of clips whose sound matches", good="up"),
    Figure(name="curate/auc", label="AUC of own against made pairs", good="up"),
    Figure(name="curate/lost", label="good clips lost", good="down"),
    Figure(name="curate/kept_bad", label="bad clips kept", good="down"),
    # Questions about videos that no round learns from.
    Figure(name="pairs/accuracy", label="pairs of which the better text is preferred, fine-tuning", good="up"),
    Figure(name="pairs/margin", label="reward of the better texts over the worse ones", unit="nats", good="up"),
    Figure(name="pairs/chosen_reward", label="reward of the better texts", unit="nats", good="up"),
    Figure(name="pairs/rejected_reward", label="reward of the worse texts", unit="nats", good="down"),
    Figure(name="pairs/of_*", label="pairs that were learned"),
    Figure(name="questions/accuracy", label="questions answered, held-out videos", good="up"),
    Figure(name="questions/chance", label="questions answered rightly by guessing"),
    Figure(name="questions/asked", label="questions asked"),
    Figure(name="questions/rejected", label="questions that could not be asked", good="down"),
    Figure(name="questions/unparsed_share", label="share of replies that name no option", good="down"),
    # What encoders that learned from the round's texts find by people's words.
    Figure(name="retrieve/recall_at_1", label="anchors found first by people's words", good="up"),
    Figure(name="retrieve/gain_over_round_0", label="found first more than by texts of round 0", good="up"),
    Figure(name="retrieve/gain_over_random", label="found first more than by random clips", good="up"),
    # Patterns.
    Figure(name="retrieve/*", label="retrieval by people's words"),
    Figure(name="quality/fact_*", label="facts, by part", good="up"),
    Figure(name="questions/accuracy/*", label="questions of a type answered rightly", good="up"),
    Figure(name="seconds/*", label="wall time", unit="s", good="down"),
    Figure(name="annotate/busy_share", label="share of time the engine was busy", good="up"),
    Figure(name="annotate/*", label="cost of annotation", good="down"),
    Figure(name="corpus/*", label="all of the round's captions"),
    Figure(name="adapter_proof/*", label="adapter proof"),
    Figure(name="hearing/*", label="proof of hearing"),
    Figure(name="noise_rate/*", label="noise rate that pretraining found", good="down"),
)

_PLUGINS = Registry("flywheel.rounds.figures", what="figure", group="flywheel.figures")


def figure_of(name: str) -> Figure:
    """Return the table's entry of a figure; of an unknown one an entry with its name as label."""
    everything = [*TABLE, *plugins()]
    exact = next((figure for figure in everything if figure.name == name), None)
    alike = next((figure for figure in everything if fnmatch.fnmatchcase(name, figure.name)), Figure(label=name))
    return exact or replace(alike, name=name)


def names(group: str) -> list[str]:
    """Return the names, without their group, that the table lists of one group."""
    return [figure.name.removeprefix(f"{group}/") for figure in TABLE if figure.name.startswith(f"{group}/")]


def charts(present: Iterable[str]) -> dict[str, list[Figure]]:
    """Return section -> the figures charted in it, of those that are present; a section without any is left out."""
    available = set(present)
    sections: dict[str, list[Figure]] = {}
    for figure in (*TABLE, *plugins()):
        if figure.headline and figure.name in available:
            sections.setdefault(figure.headline, []).append(figure)
    return sections


def watch_rules() -> dict[str, Rule]:
    """Return the collapse watch's rules by figure (without its group)."""
    return {
        figure.name.removeprefix("watch/"): Rule(
            bad=_BAD[figure.good],
            from_base=figure.watch.distance,
            sigmas=_SIGMAS_OF_DISTANCES if figure.watch.distance else Rule.sigmas,
            least_noise=figure.watch.least_noise,
        )
        for figure in TABLE
        if figure.watch is not None
    }


def watch_words(name: str) -> str:
    """Return what an alarm of a watch figure (without its group) says; plain words for one without its own."""
    watch = figure_of(f"watch/{name}").watch
    return watch.words if watch is not None else f"{name} changed for the worse"


@functools.cache
def plugins() -> tuple[Figure, ...]:
    """Return other packages' figures, named ``extra/NAME`` by their entry points.

    Raises UserError for an entry that two packages claim, that can't be imported, or that is no figure with a measure.
    """
    figures = []
    for name in _PLUGINS.names():
        figure: Any = _PLUGINS.builder(name)
        if not isinstance(figure, Figure) or figure.measure is None:
            raise UserError(
                f"figure '{name}': its entry point names no Figure with a measure "
                "(flywheel.rounds.figures.Figure). Fix or uninstall its package."
            )
        figures.append(replace(figure, name=f"extra/{name}", watch=None))
    return tuple(figures)


def extra(texts: Sequence[str], clips: Sequence[Clip]) -> dict[str, Estimate]:
    """Measure other packages' figures on the test split's texts; ``clips[i]`` is the clip of ``texts[i]``.

    Returns name (without group) -> estimate. One that fails is left out with a line: it may not cost a round.
    Raises UserError as :func:`plugins` does.
    """
    out: dict[str, Estimate] = {}
    for figure in plugins() if texts else ():
        name = figure.name.removeprefix("extra/")
        try:
            value: Any = figure.measure(texts, clips) if figure.measure is not None else None
            out[name] = value if isinstance(value, Estimate) else _exactly(float(value), len(texts))
        except Exception as error:
            # Other people's code: it may raise anything.
            say(f"figure '{name}': not measured ({type(error).__name__}: {first_line(error)}). Fix its package.")
    return out


def values(report: RoundReport) -> dict[str, float | Estimate]:
    """Return a round's figures by full name, in the order of :data:`GROUPS`."""
    return {f"{group}/{name}": value for group in GROUPS for name, value in getattr(report, group).items()}


def series(reports: Iterable[RoundReport]) -> dict[str, list[tuple[int, Estimate]]]:
    """Return figure -> (round, estimate) of the rounds that have a value; a plain number is its own interval."""
    out: dict[str, list[tuple[int, Estimate]]] = {}
    for report in reports:
        for name, value in [*values(report).items(), ("num_corrections", report.num_corrections)]:
            estimate = value if isinstance(value, Estimate) else _exactly(value, 1)
            if estimate.value == estimate.value:
                out.setdefault(name, []).append((report.round, estimate))
    return out


def flatten_report(report: RoundReport) -> dict[str, float]:
    """Return a round's figures as MLflow has them: ``quality/agreement``, with ``_low`` and ``_high`` of intervals.

    Values that are nan are left out.
    """
    out = {"num_corrections": float(report.num_corrections)}
    for name, value in values(report).items():
        out |= with_bounds(name, value)
    return out | {f"seconds/{stage}": float(seconds) for stage, seconds in report.stages_s.items()}


def with_bounds(name: str, value: float | Estimate) -> dict[str, float]:
    """A figure by name, with ``_low`` and ``_high`` of its interval; nothing for nan."""
    if isinstance(value, Estimate):
        parts = [("", value.value), ("_low", value.low), ("_high", value.high)]
        return {f"{name}{end}": float(part) for end, part in parts if part == part}
    return {name: float(value)} if value == value else {}


def proof_figures(proof: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an adapter's proof, and whether the adapter was seen to write; empty without a proof."""
    numbers = {name: float(value) for name, value in proof.items() if isinstance(value, int | float)}
    if "verdict" in proof:
        numbers["seen"] = float(proof["verdict"] == "proven")
    return {f"adapter_proof/{name}": value for name, value in numbers.items()}


def hearing_figures(kind: str, hearing: Mapping[str, Any] | None) -> dict[str, float]:
    """The numbers of the proof that the model which writes this kind hears; empty without one."""
    if not hearing:
        return {}
    numbers = {name: float(value) for name, value in hearing.items() if isinstance(value, int | float)}
    return {
        f"hearing/{kind}/{name}": value
        for name, value in {**numbers, "hears": float(hearing["ears"] == "hears")}.items()
    }


def _exactly(value: float, count: int) -> Estimate:
    return Estimate(value=value, low=value, high=value, n=count)
