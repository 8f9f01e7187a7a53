"""Pairs of texts of a clip that people choose between: which there are, what they say, and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import polars as pl

from flywheel.core.types import CAPTION, LEARN, MEASURE, Preference, content_id, pair_id, standing_choices
from flywheel.metrics import token_f1
from flywheel.store import Workspace
from flywheel.store.gold import gold_givers, gold_texts
from flywheel.store.parts import read_rows
from human_refine.order import order_keys
from human_refine.people import excluded

#: Pairs that are offered at most: nobody plans for more choices.
_MOST_PAIRS = 10_000
#: Train clips whose pairs are looked for, and the newest rounds whose texts of them are.
_MOST_TRAIN, _MOST_ROUNDS = 2_000, 4
#: What ids of texts begin with that are no annotations: the right text of a gold clip, as shown of itself or another.
GOLD = "gold:"
#: Word F1 with a clip's right text up to which another clip's is surely worse, and clips that this is tried with.
_SURELY_WORSE, _MOST_GOLD = 0.5, 200
#: What a choice says of the text that it names first.
_OUTCOMES = {"first": 1.0, "second": 0.0, "equal": 0.5, "both_bad": 0.5}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two texts of a clip, by the ids of their annotations."""

    clip_id: str
    first_id: str
    second_id: str

    @property
    def pair_id(self) -> str:
        return pair_id(self.first_id, self.second_id)

    @property
    def is_gold(self) -> bool:
        """Whether it checks the person: the first text is right, the second another clip's."""
        return self.first_id.startswith(GOLD)


def compared_rounds(workspace: Workspace) -> tuple[int, int] | None:
    """The rounds whose texts people set side by side: the one in force, and the newest that was evaluated.

    Where they are the same, the one in force before it comes first. None where there are no two.
    """
    done = (round for round in reversed(workspace.rounds()) if workspace.stage(round, "evaluate")[0] == "done")
    newest = next(done, 0)
    before = [round for round in workspace.lineage() if round != newest]
    return (before[-1], newest) if newest and before else None


def pairs_between(workspace: Workspace, older: int, newer: int) -> list[Pair]:
    """Texts of anchor clips that differ between two rounds, in the order in which people should see them.

    Of each video one clip comes first, since choices on the others add little; else by chance.
    """
    clips = list(workspace.clip_batches(["id", "content_hash"], "anchor"))
    if not clips:
        return []
    sides = [_measured(workspace, round, name) for round, name in ((older, "first"), (newer, "second"))]
    both = pl.concat(clips).join(sides[0], on="id").join(sides[1], on="id")
    differ = both.filter(_folded("first_text") != _folded("second_text")).drop("first_text", "second_text")
    ids = [pair_id(*row) for row in differ.select("first_id", "second_id").iter_rows()]
    ordered = differ.with_columns(key=pl.Series(order_keys(ids), dtype=pl.UInt64)).sort("key")
    turn = pl.col("key").cum_count().over("content_hash")
    rows = ordered.sort(turn, "key").head(_MOST_PAIRS).select(pl.col("id").alias("clip_id"), "first_id", "second_id")
    return [Pair(**row) for row in rows.iter_rows(named=True)]


def rounds_to_learn(workspace: Workspace) -> list[int]:
    """The newest rounds whose texts of train clips are all written, newest first."""
    done = (round for round in reversed(workspace.rounds()) if workspace.stage(round, "annotate")[0] == "done")
    return list(islice(done, _MOST_ROUNDS))


def pairs_to_learn(workspace: Workspace) -> list[Pair]:
    """A model's newest text of a train clip and its newest earlier one that differs, some clips drawn at random.

    Gold clips and those of removed sources, from which nothing is learned, are left out. Of each video one clip comes
    first, as of anchors.
    """
    rounds = rounds_to_learn(workspace)
    clips = list(workspace.clip_batches(["id", "content_hash"], "train")) if len(rounds) > 1 else []
    if not clips:
        return []
    gone, gold = workspace.removed_videos(rounds[0]), gold_texts(workspace)
    left = pl.concat(clips).filter(~pl.col("content_hash").is_in(list(gone)) & ~pl.col("id").is_in(list(gold)))
    keyed = left.with_columns(key=pl.Series(order_keys(left["id"]), dtype=pl.UInt64)).sort("key")
    turn = pl.col("key").cum_count().over("content_hash")
    ids = keyed.sort(turn, "key").head(_MOST_TRAIN)["id"].to_list()
    columns = ["id", "clip_id", "round", "text", "kind", "purpose", "source"]
    texts = workspace.records.of_clips("annotations", ids, columns).filter(
        (pl.col("kind") == CAPTION)
        & (pl.col("purpose") == LEARN)
        & (pl.col("source") == "model")
        & pl.col("round").is_in(rounds)
    )
    newest: dict[str, tuple[str, str]] = {}
    found: dict[str, Pair] = {}
    for i, clip_id, text in texts.sort("round", descending=True).select("id", "clip_id", "text").iter_rows():
        said = " ".join(text.split())
        if said != newest.setdefault(clip_id, (i, said))[1]:
            found.setdefault(clip_id, Pair(clip_id=clip_id, first_id=i, second_id=newest[clip_id][0]))
    return [found[clip_id] for clip_id in ids if clip_id in found]


def mixed(anchors: Sequence[Pair], train: Sequence[Pair], share: float) -> list[Pair]:
    """Both, ``share`` of them from ``train`` for as long as there are both, in their orders."""
    pairs, places = list[Pair](), [0, 0]
    sides = (anchors, train)
    while any(place < len(side) for place, side in zip(places, sides, strict=True)):
        wants = int(places[1] + 1 <= share * (sum(places) + 1))
        side = wants if places[wants] < len(sides[wants]) else 1 - wants
        pairs.append(sides[side][places[side]])
        places[side] += 1
    return pairs


def _measured(workspace: Workspace, round: int, name: str) -> pl.DataFrame:
    """Clip id as ``id``, id and text of a round's captions that measure."""
    texts = workspace.texts(round, MEASURE, "clip_id", "id", "text").unique("clip_id", keep="last")
    return texts.select(
        pl.col("clip_id").alias("id"), pl.col("id").alias(f"{name}_id"), pl.col("text").alias(f"{name}_text")
    )


def _folded(name: str) -> pl.Expr:
    """A text without regard to its white space."""
    return pl.col(name).str.split(" ").list.eval(pl.element().filter(pl.element() != "")).list.join(" ")


def gold_pairs(workspace: Workspace) -> list[Pair]:
    """For each gold clip its right text and another gold clip's, which is surely worse."""
    texts = dict(sorted(gold_texts(workspace).items())[:_MOST_GOLD])
    pairs = []
    for clip_id, text in texts.items():
        worse = [other for other in texts if token_f1(texts[other], text) <= _SURELY_WORSE]
        if worse:
            other = min(worse, key=lambda o: content_id("gold pair", clip_id, o))
            pairs.append(Pair(clip_id=clip_id, first_id=GOLD + clip_id, second_id=f"{GOLD}{other}:{clip_id}"))
    return pairs


def texts_of(workspace: Workspace, pair: Pair) -> tuple[str, str] | None:
    """What the first and the second text of a pair say; None where one is gone."""
    ids = (pair.first_id, pair.second_id)
    if pair.is_gold:
        gold, clips = gold_texts(workspace), {i: i.split(":")[1] for i in ids}
        found = {i: gold[clip_id] for i, clip_id in clips.items() if clip_id in gold}
    else:
        found = dict(read_rows(workspace, "annotations", ids, ["id", "text"]).iter_rows())
    return (found[ids[0]], found[ids[1]]) if len(found) == 2 else None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What somebody chose of two rounds' texts of a clip; ``outcome`` is 1 where the newer one won, 1/2 for neither."""

    clip_id: str
    refiner: str
    outcome: float
    seconds: float
    left: str


def choices_between(workspace: Workspace, older: int, newer: int) -> list[Choice]:
    """Choices that stand between two rounds' texts of today's anchors, oldest first; excluded people's are left out."""
    left_out = excluded(workspace)
    standing = [p for p in standing_choices(workspace.preference_records()) if p.refiner not in left_out]
    return _as_choices(standing, _rounds_of(workspace, standing), older, newer)


def _rounds_of(workspace: Workspace, preferences: Iterable[Preference]) -> dict[str, int]:
    """Annotation id -> round, of the texts of these choices that are anchors' captions to measure by."""
    ids = {i for p in preferences for i in (p.first_id, p.second_id)}
    rows = read_rows(workspace, "annotations", ids, ["id", "clip_id", "round"], pl.col("purpose") == MEASURE)
    clips = read_rows(workspace, "clips", rows["clip_id"].unique(), ["id"], pl.col("split") == "anchor")
    kept = rows.join(clips, left_on="clip_id", right_on="id", how="semi")
    return dict(kept.select("id", "round").iter_rows())


def _as_choices(standing: Iterable[Preference], rounds: Mapping[str, int], older: int, newer: int) -> list[Choice]:
    choices = []
    for p in standing:
        match rounds.get(p.first_id), rounds.get(p.second_id):
            case (first, second) if (first, second) == (newer, older):
                outcome = _OUTCOMES[p.chosen]
            case (first, second) if (first, second) == (older, newer):
                outcome = 1 - _OUTCOMES[p.chosen]
            case _:
                continue
        choices.append(Choice(clip_id=p.clip_id, refiner=p.refiner, outcome=outcome, seconds=p.seconds, left=p.left))
    return choices


@dataclass(kw_only=True)
class PairScore:
    """How many hidden pairs a person saw, and in how many that one chose the right text."""

    seen: int = 0
    right: int = 0


def gold_choices(workspace: Workspace) -> dict[str, PairScore]:
    """Refiner -> how the hidden pairs went; nobody is scored on a clip whose right text that one gave."""
    scores: dict[str, PairScore] = {}
    givers = gold_givers(workspace)
    for p in standing_choices(workspace.preference_records()):
        if not p.first_id.startswith(GOLD) or givers.get(p.clip_id) == p.refiner:
            continue
        score = scores.setdefault(p.refiner, PairScore())
        score.seen += 1
        score.right += p.chosen == "first"
    return scores
