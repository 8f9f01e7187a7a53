"""What the last rounds came to, what the gate and people still need, and which command comes next.

The same block stands on top of ``flywheel status``, of the report and of MLflow's description. All of it comes from the
database and a few columns: it is quick for a million clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flywheel.core.types import MEASURE
from flywheel.rounds.answers import Answers, anchor_videos, can_be_asked, captions_of, videos_in
from flywheel.rounds.progress import DONE, current_round, current_stage
from flywheel.rounds.toy import toy_notice
from flywheel.store import Workspace
from flywheel.store.people import any_invited

#: Rounds that the terminal shows.
_SHOWN = 5
#: Intervals are drawn over videos: with fewer than this they say little.
FEW_TEST_VIDEOS = 8
_VERDICTS = {"promoted": "promoted", "refused": "not promoted", "undecided": "undecided"}


@dataclass(frozen=True, kw_only=True)
class RoundOutcome:
    """A round that came to its gate: ``verdict`` is ``promoted``, ``refused`` or ``undecided``, with its reason.

    It was tested ``against`` a round's model (0 is the base), ``difference`` being the gain in word F1 with its 95 %
    interval, empty where nothing could be tested. ``in_use`` says whether its model is the champion.
    """

    round: int
    verdict: str
    reason: str
    against: int
    in_use: bool
    difference: Mapping[str, float]

    def __str__(self) -> str:
        against = f"round {self.against}" if self.against else "the base model"
        now = ", in use" if self.in_use else ""
        return f"round {self.round}: {_VERDICTS.get(self.verdict, self.verdict)}{now}, against {against}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class GateNeeds:
    """Anchor videos with a corrected caption (``have``), those a test needs at least, and those that there are.

    ``possible`` is None where damage hides it.
    """

    have: int
    need: int
    possible: int | None

    def __str__(self) -> str:
        have = f"gate: {self.have} of at least {self.need} anchor videos have a corrected caption"
        return have if self.possible is None else f"{have} (the corpus has {self.possible})"


@dataclass(frozen=True, kw_only=True)
class ChoicesNeeded:
    """Anchor videos with a blind choice between two rounds' texts (``have``), and those that a verdict may need."""

    older: int
    newer: int
    have: int
    need: int

    def __str__(self) -> str:
        other = f"round {self.older}'s" if self.older else "the base model's"
        return (
            f"gate: people chose between round {self.newer}'s texts and {other} on {self.have} anchor videos; "
            f"{self.need} may be needed"
        )


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The rounds so far, what is needed, what can't be had as things are (``impossible``), and the next commands.

    ``queue`` counts captions of the newest annotated round that nobody reviewed, ``captions`` all of them; ``choices``
    is None where they decide nothing.
    """

    rounds: Sequence[RoundOutcome]
    gate: GateNeeds
    queue: int
    captions: int
    rejects: int
    impossible: Sequence[str]
    next: Sequence[str]
    notice: str = ""
    choices: ChoicesNeeded | None = None

    def to_json(self) -> dict[str, Any]:
        """``rounds``, ``gate``, ``queue``, ``captions``, ``rejects``, ``impossible``, ``next``, ``notice``;
        ``choices`` where they decide."""
        lists = {"rounds": [asdict(each) for each in self.rounds], "impossible": list(self.impossible)}
        record = {**asdict(self), **lists, "next": list(self.next)}
        if self.choices is None:
            del record["choices"]
        return record

    def lines(self) -> list[str]:
        """The block for people: notice, last rounds, needs, what is impossible."""
        out = [self.notice] if self.notice else []
        out += [str(each) for each in self.rounds[-_SHOWN:]]
        out.append(str(self.gate))
        out += [str(self.choices)] if self.choices is not None else []
        out += [f"to review: {self.queue} of {self.captions} captions"] if self.captions else []
        return out + list(self.impossible)


def outlook_of(workspace: Workspace, rejects: int | None = None) -> Outlook:
    """The outlook of a workspace; ``rejects`` is the number of open rejects, counted here if left out."""
    answers = Answers.of(workspace)
    gate = GateNeeds(have=answers.anchors, need=workspace.config.gate.min_anchors, possible=anchor_videos(workspace))
    captions = captions_of(workspace, answers.round)
    if rejects is None:
        rejects = workspace.rejected(open_only=True).height if workspace.count("rejected") else 0
    outcomes = _outcomes(workspace)
    queue = max(0, captions - answers.texts - answers.gold)
    choices = _choices(workspace)
    return Outlook(
        rounds=outcomes,
        gate=gate,
        queue=queue,
        captions=captions,
        rejects=rejects,
        impossible=tuple(impossible(workspace, gate, captions)),
        next=tuple(_next(workspace, outcomes, gate, queue, rejects, choices)),
        notice=toy_notice(workspace),
        choices=choices,
    )


def _choices(workspace: Workspace) -> ChoicesNeeded | None:
    """The choices between the newest round's texts and those it is tested against; None where they decide nothing."""
    settings = workspace.config.gate
    if "preference" not in settings.measures:
        return None
    # What counts choices is not loaded for those who have none.
    from flywheel.metrics.paired import level_of_look
    from flywheel.metrics.preference import choices_needed
    from human_refine.pairs import choices_between, compared_rounds

    if (rounds := compared_rounds(workspace)) is None:
        return None
    older, newer = rounds
    clip_ids = {choice.clip_id for choice in choices_between(workspace, older, newer)}
    videos = workspace.records.rows("clips", clip_ids, ["content_hash"])["content_hash"]
    gone = workspace.removed_videos(current_round(workspace))
    plan = choices_needed(settings.win_rate, level_of_look(settings.alpha, 1) / len(settings.measures), settings.power)
    return ChoicesNeeded(older=older, newer=newer, have=len(set(videos) - set(gone)), need=plan.needed)


def impossible(workspace: Workspace, gate: GateNeeds | None = None, captions: int = 0) -> list[str]:
    """What the configuration asks for and this corpus can't give, a sentence with a number for each."""
    config, num_clips = workspace.config, workspace.count("clips")
    possible = anchor_videos(workspace) if gate is None else gate.possible
    found = []
    overlap_decides = config.gate.untested == "refuse" and bool({"facts", "token_f1"} & set(config.gate.measures))
    if num_clips and possible is not None and possible < config.gate.min_anchors and overlap_decides:
        found.append(_too_few_anchors(workspace, possible))
    measured = videos_in(workspace, "test") if num_clips else None
    if measured is not None and measured < FEW_TEST_VIDEOS:
        found.append(_too_few_tested(measured, config.corpus.test_share))
    asked = captions or (can_be_asked(workspace) if config.review.wait_for else 0)
    if num_clips and asked is not None and config.review.wait_for > asked:
        found.append(
            f"review.wait_for: {config.review.wait_for} corrections can't come from {asked} captions. "
            f"Set it to {asked} or less, or add videos."
        )
    return found


def _too_few_anchors(workspace: Workspace, possible: int) -> str:
    need, corpus = workspace.config.gate.min_anchors, workspace.config.corpus
    # As far as the shares tell: half of what is not in the test split can be anchors.
    can_be = int(workspace.videos.count() * (1 - corpus.test_share)) // 2
    ways = [f"add some {math.ceil((need - possible) / corpus.anchor_share)} videos"] if corpus.anchor_share else []
    if can_be >= need or not ways:
        ways.append(f"set corpus.min_anchor_videos: {need} and run 'flywheel resplit'")
    way = ", or ".join(ways)
    so = "No round can be promoted by the gate: it needs"
    if "preference" in workspace.config.gate.measures:
        what = "facts and word overlap" if "facts" in workspace.config.gate.measures else "word overlap"
        so = f"The gate can decide by people's choices alone: for {what} it needs"
    return f"{so} {need} anchor videos (gate.min_anchors), and the corpus has {possible}: {way}."


def _too_few_tested(videos: int, share: float) -> str:
    there = f"The test split has {videos} video{'s' * (videos != 1)}" if videos else "No video is in the test split"
    way = "raise corpus.test_share and run 'flywheel resplit'"
    if share:
        way = f"add some {math.ceil((FEW_TEST_VIDEOS - videos) / share)} videos, or {way}"
    so = "say little" if videos else "are missing"
    return f"{there}: a round's figures of quality {so} under {FEW_TEST_VIDEOS}. To have as many, {way}."


def _outcomes(workspace: Workspace) -> list[RoundOutcome]:
    champion, outcomes = workspace.champion(), []
    for round in workspace.rounds():
        state, record = workspace.stage(round, "gate")
        if round > 0 and state == DONE and record.get("verdict"):
            difference = record.get("difference") or {}
            outcomes.append(
                RoundOutcome(
                    round=round,
                    verdict=record["verdict"],
                    reason=record.get("reason", ""),
                    against=record.get("against", 0),
                    in_use=round == champion,
                    difference={name: difference[name] for name in ("value", "low", "high") if name in difference},
                )
            )
    return outcomes


def _next(
    workspace: Workspace,
    outcomes: Sequence[RoundOutcome],
    gate: GateNeeds,
    queue: int,
    rejects: int,
    choices: ChoicesNeeded | None,
) -> list[str]:
    """The next commands, the first one first."""
    if not workspace.count("clips"):
        return ["flywheel ingest /path/to/videos"]
    round = current_round(workspace)
    stage = current_stage(workspace, round)
    state = workspace.stage(round, stage)[0]
    after: list[str] = [*(["flywheel rejects  # what failed, and why"] if rejects else [])]
    if stage == "annotate":
        last = outcomes[-1] if outcomes and outcomes[-1].round == round - 1 else None
        judged = last is not None and state != "running"
        first = _after_a_verdict(workspace, last, gate, queue, choices) if last is not None and judged else []
        return [
            *first,
            "flywheel round --until annotate" if state != "running" else "flywheel round  # goes on",
            *after,
        ]
    asking = _asking(workspace) if (queue and gate.have < gate.need) or state == "waiting" else []
    note = "" if state == "pending" else "  # goes on" if state == "running" else "  # once they are through"
    if after and not workspace.count_texts(round):
        # Of no clip is there a text: why comes first.
        return [*after, f"flywheel round{note}"]
    return [*asking, f"flywheel round{note}", *after]


def _after_a_verdict(
    workspace: Workspace, last: RoundOutcome, gate: GateNeeds, queue: int, choices: ChoicesNeeded | None
) -> list[str]:
    """What a verdict leads to, before the next round."""
    if last.verdict == "promoted" or last.in_use:
        return ["flywheel export --out DATASET"]
    is_open = last.verdict == "undecided" and choices is not None and choices.newer == last.round
    if is_open and choices is not None and choices.have < choices.need:
        *invited, _ = _asking(workspace)
        return [
            *invited,
            "flywheel review  # its page /compare: people choose between two texts",
            f"flywheel promote {last.round}  # tests it again, with the choices made then",
        ]
    if last.verdict == "undecided" and gate.have < (gate.possible or 0) and queue:
        return [
            *_asking(workspace),
            f"flywheel promote {last.round}  # tests it again, with the anchors corrected then",
        ]
    measured = any(workspace.count_texts(round, purpose=MEASURE) for round in (last.against, last.round))
    return [f"flywheel compare {last.against} {last.round}"] if measured else []


def _asking(workspace: Workspace) -> list[str]:
    """How people are asked."""
    invited = [] if any_invited(workspace) else ["flywheel invite --name NAME  # a link for whoever corrects captions"]
    return [*invited, "flywheel review  # the page where captions are corrected"]
