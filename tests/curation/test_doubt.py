"""Which clips a judge is asked about, what its word does to P(match), and what it is worth; without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.core.types import CRITERIA
from flywheel.curation.calibration import calibrate
from flywheel.curation.curating import curate, explain
from flywheel.curation.doubt import plan
from flywheel.curation.evidence import Measured, record_id
from flywheel.curation.judged import Judged, figures_of
from flywheel.curation.pairs import Pairs
from flywheel.curation.table import calibrated, gather
from flywheel.curation.unlike import most_unlike
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.vectors import VectorIndex, vector_row
from flywheel.store.vectors_in_use import ENCODER
from tests.curation.test_curating import COUNT, clip, sounds

#: Of each clip, the place in :mod:`tests.curation.test_curating` of the evidence that it has: ids are random, as real
#: ones are.
PLACES = np.random.default_rng(1).permutation(COUNT)
JUDGES = ("curate.judge=doubt", "curate.doubt=0.3", "curate.calibration_clips=70", "curate.repeats=5")


def test_a_judge_helps_where_cheap_evidence_is_in_doubt_and_its_prices_hold() -> None:
    """Cheap columns part half of the pairs well; a judge, known of a quarter and of what is in doubt, the rest."""
    rng, count = np.random.default_rng(3), 4000
    matches = rng.random(count) < 0.7
    legible = rng.random(count) < 0.5

    def cheap(right: NDArray[np.bool_]) -> NDArray[np.float32]:
        return np.where(right & legible, rng.normal(5, 1, count), rng.normal(0, 1, count)).astype(np.float32)

    def judged(right: NDArray[np.bool_]) -> NDArray[np.float32]:
        return np.clip(np.where(right, rng.normal(8, 1.5, count), rng.normal(2, 1.5, count)), 0, 10).round()

    none = np.zeros(count, dtype=bool)
    sample = np.arange(count) < 1000
    own, wrong, late = (
        np.column_stack([cheap(right), judged(of)]) for right, of in ((matches, matches), (none, none), (none, matches))
    )
    late[:, 1] = own[:, 1]
    every = [pair.copy() for pair in (own, wrong, late)]
    for pair in every:
        pair[~sample, 1] = np.nan
    asked = np.array([False, True])
    source = np.arange(count, dtype=np.uint64) // np.uint64(2)

    def pairs(first: NDArray[np.float32]) -> Pairs:
        controls = (every[1].astype(np.float32), every[2].astype(np.float32))
        return Pairs(own=first, controls=controls, source=source, label=np.full(count, -1, np.int8), asked=asked)

    alone = calibrate(pairs(every[0].astype(np.float32)))
    p_alone = alone.p_match(np.where(asked, np.nan, own).astype(np.float32), source)
    band = (0.0, 0.6)
    unsure = (p_alone >= band[0]) & (p_alone <= band[1])
    some = np.where((asked & ~(sample | unsure)[:, None]), np.nan, own).astype(np.float32)
    found = calibrate(pairs(some), doubt=band)
    p_match = found.p_match(some, source)
    assert 0.3 < unsure.mean() < 0.8
    assert found.num_judged == 1000
    assert found.share_matched.value == pytest.approx(0.7, abs=0.04)
    assert found.auc > alone.auc + 0.1
    # Where nobody was asked, P(match) follows the share of matches, which is known better now: half seemed none.
    quiet = ~(sample | unsure)
    assert alone.share_matched.value < 0.5
    assert (p_match[quiet] >= p_alone[quiet]).all()
    # The stated price is what is true, of good ones lost and of bad ones kept.
    at = found.losing(0.05)
    lost, kept_bad = (p_match[matches] < at.at).mean(), (p_match[~matches] >= at.at).mean()
    assert lost == pytest.approx(at.lost.value, abs=0.03)
    assert kept_bad == pytest.approx(at.kept_bad.value, abs=0.06)
    assert kept_bad < 0.2
    assert (p_alone[matches] < alone.losing(0.05).at).mean() > 0.4, "and is not, where nothing cheap sees the half"


@pytest.fixture
def measured(make_workspace: Callable[..., Workspace]) -> Workspace:
    """Clips of which cheap evidence tells whether they match, of some but half."""
    workspace = make_workspace(*JUDGES)
    with workspace.lock():
        workspace.add_clips([clip(number) for number in range(COUNT)])
        ids = [{"id": record_id(f"{number:020x}"), "clip_id": f"{number:020x}"} for number in range(COUNT)]
        rows = [sounds(int(place)) | own for place, own in zip(PLACES, ids, strict=True)]
        rng = np.random.default_rng(0)
        for row in (row for number, row in enumerate(rows) if number % 3 == 0 and not np.isnan(row["together"])):
            row |= {name: rng.normal(3, 0.5) for name in ("together", "shuffled_together", "shifted_together")}
            row |= dict.fromkeys(("contrast", "shuffled_contrast", "shifted_contrast"), 4.0)
        workspace.add_sounds(rows)
    return workspace


def judged(number: int, score: int) -> dict[str, Any]:
    row = {"clip_id": f"{number:020x}", "seen_id": "s", "heard_id": "h", "generation_id": f"g{number}"}
    said = {"scores": [score] * 5, "reasons": [f"Reason {n}." for n in range(5)], "sources": '{"seen_silent": []}'}
    return {**row, **said, "swapped": False, "unscored": ""}


@pytest.mark.slow
def test_who_is_asked_and_what_their_word_does(measured: Workspace) -> None:
    w, settings = measured, measured.config.curate
    index = ClipIndex(w)
    planned = plan(w, index, settings)
    splits = dict(index.facts("id", "split").iter_rows())
    assert len(planned.others) == 70
    assert {splits[clip_id] for clip_id in planned.others} == {"train"}
    hashes = dict(index.facts("id", "content_hash").iter_rows())
    pairs = [(one, other) for one, some in planned.others.items() for other in some]
    assert all(hashes[one] != hashes[other] for one, other in pairs), "another video's sound"
    asked = {int(clip_id, 16) for clip_id in planned.asked}
    table = gather(w, index, asked=False)
    cheap = dict(table.with_probability(calibrated(table, settings)).clips.select("clip_id", "p_match").iter_rows())
    lent = {other for _, other in pairs}
    assert min(cheap[other] or 0 for other in lent) >= np.median([p for i in planned.others if (p := cheap[i])])
    others = [cheap[clip_id] for clip_id in planned.asked if clip_id not in planned.others]
    assert all(p is None or planned.doubt[0] <= p <= planned.doubt[1] for p in others)
    assert sum(p is None for p in others) >= 1, "what is still picture is in doubt as much as can be"
    assert 10 < len(others) < COUNT - 75
    limited = plan(w, index, settings, 7)
    assert set(limited.others) == set(limited.asked), "a few calibrate too where a few may be asked"
    assert len(limited.others) == 7
    doubtful = set(range(0, COUNT, 3))
    assert planned.audible == COUNT
    few = plan(w, index, settings.model_copy(update={"most_judged": 3.0}))
    assert len(set(few.asked) - set(few.others)) <= 3
    assert few.doubt[1] - few.doubt[0] <= planned.doubt[1] - planned.doubt[0]
    assert len(plan(w, index, settings.model_copy(update={"judge": "all"})).asked) == COUNT
    with w.lock():
        before = curate(w, index, settings, Measured())
        twins = {one: some[0] for one, some in planned.others.items()}
        w.add_twins(twins)
        known = plan(w, index, settings).others
        assert known == {one: [other] for one, other in twins.items()}, "the same calibrate, whatever came since"
        fewer = plan(w, index, settings.model_copy(update={"calibration_clips": 5, "most_judged": 0.0}))
        assert {known[one][0] for one in fewer.others} <= set(fewer.asked), "who lends on record is asked about too"
        assert len(fewer.others) == 5
        short = plan(w, index, settings.model_copy(update={"calibration_clips": 5, "most_judged": 0.0}), 6)
        assert {known[one][0] for one in short.others} <= set(short.asked), "or there is no control"
        right = {n for n in asked if PLACES[n] < COUNT - 40}
        w.add_judgements([judged(n, 9 if n in right else 1) for n in sorted(asked)], 1)
        controls = [judged(int(i, 16), 1) | {"other_id": other, "purpose": "shuffled"} for i, other in twins.items()]
        drop = ("seen_id", "heard_id", "reasons", "sources", "swapped")
        w.add_control_judgements([{k: v for k, v in row.items() if k not in drop} for row in controls], 1)
        told = Judged(audible=COUNT, asked=len(asked), calibrating=70, again=5, doubt=planned.doubt)
        after = curate(w, index, settings, Measured(), judged=told)
    p_match = dict(w.judgements().select("clip_id", "p_match").iter_rows())
    assert len(p_match) == len(asked)
    sure = asked & doubtful
    good, bad = ([p_match[f"{n:020x}"] for n in sure if (n in right) == wanted] for wanted in (True, False))
    before_good, before_bad = (
        [cheap[f"{n:020x}"] or 0.5 for n in sure if (n in right) == wanted] for wanted in (True, False)
    )
    assert abs(np.mean(before_good) - np.mean(before_bad)) < 0.15
    assert np.mean(good) > np.mean(bad) + 0.4
    assert after.calibration["num_judged"] >= 30
    assert after.calibration["auc"] > before.calibration["auc"]
    assert after.unscored < before.unscored, "of still pictures a judge can tell something"
    assert 0 < after.judged["calls_saved"] < 1
    assert figures_of(after.judged)["asked"] == len(asked)
    assert (before.judged, figures_of(before.judged)) == ({}, {})
    told_of = explain(w, f"{sorted(asked)[0]:020x}")
    assert set(told_of["judge_reasons"]) == set(CRITERIA)
    assert told_of["judge_temporal"] in (1.0, 9.0)
    # What hangs on another's sound goes with it.
    other = next(iter(twins.values()))
    having = [one for one, o in twins.items() if o == other]
    with w.lock():
        removed = w.takedowns.remove_records([other])
    assert removed["twins"] >= len(having)
    assert not set(having) & set(w.twins())
    assert not set(having) & set(w.control_judgements("shuffled")["clip_id"])


def test_a_wrong_pair_is_made_of_clips_that_show_different_things() -> None:
    rng = np.random.default_rng(0)
    rooms = {"kitchen": ("pan", "kettle", "sink"), "street": ("bus", "bike", "tram"), "yard": ("dog", "swing", "ball")}
    of = {f"c{n}": str(rng.choice(list(rooms))) for n in range(60)}
    texts = {
        c: f"A {rng.choice(['red', 'blue'])} {rng.choice(rooms[r])} in a {r} at 0.{n}."
        for n, (c, r) in enumerate(of.items())
    }
    others = {one: [other for other in list(of)[n + 1 : n + 9] if other != "c50"] for n, one in enumerate(of) if n < 50}
    del texts["c7"]
    pairs = most_unlike(others, texts)
    assert pairs == most_unlike(others, texts)
    assert set(pairs) == set(others) - {"c7"}
    assert not {"c7", "c50"} & set(pairs.values()), "no text, or not among the others"
    assert all(of[one] != of[other] for one, other in pairs.items())
    assert max(Counter(pairs.values()).values()) <= 4
    # Run again for more: what was lent before counts.
    more = most_unlike({one: ["b", "c"] for one in "xyz"}, dict.fromkeys("bcxyz", "The same."), ["b", "b", "b", "d"])
    assert more == {"x": "b", "y": "c", "z": "c"}
    # The one text there is twice: the first of the others.
    assert most_unlike({"a": ["b", "c"]}, dict.fromkeys("abc", "The same.")) == {"a": "b"}


def test_unscored_is_no_number(measured: Workspace) -> None:
    with measured.lock():
        measured.add_judgements([{**judged(1, 0), "scores": [], "unscored": "prose", "generation_id": ""}], 1)
        measured.add_judgements([judged(2, 0)], 1)
    few = measured.judgements(words=False)
    assert few.columns == ["clip_id", *CRITERIA, "p_match", "unscored"], "of a million clips no reason is read"
    assert few.equals(measured.judgements().select(few.columns))
    table = gather(measured, ClipIndex(measured))
    assert table.judged().sum() == 1
    row = table.clips.row(1, named=True)
    assert (row["judge_temporal"], row["judge_doubt"]) == (None, "prose")
    assert table.clips.row(2, named=True)["judge_temporal"] == 0.0


@pytest.mark.slow
def test_pairs_that_the_index_finds_mismatched_are_asked_about_too(measured: Workspace) -> None:
    w, settings = measured, measured.config.curate.model_copy(update={"most_judged": 3.0, "calibration_clips": 5})
    index, rng = ClipIndex(w), np.random.default_rng(4)
    before = set(plan(w, index, settings).asked)
    strange = [n for n in range(COUNT) if f"{n:020x}" not in before][:7]
    with w.lock():
        for number in range(COUNT):
            picture = rng.normal(size=16)
            # A sound that is like its picture, but for a few.
            sound = -picture if number in strange else picture + rng.normal(size=16)
            for name, vector in (("video", picture), ("sound", sound)):
                unit = (vector / np.linalg.norm(vector)).astype(np.float32)
                w.add_vectors([vector_row("m", name, f"{number:020x}", unit)])
        assert gather(w, index).clips["index_fit"].null_count() == COUNT, "no index is in use yet"
        with pytest.raises(UserError, match=r"curate\.index_below: .*Run 'flywheel index'"):
            plan(w, index, settings.model_copy(update={"index_below": -1.5}))
        w.set_meta(ENCODER, "m")
    fits = dict(gather(w, index).clips.select("clip_id", "index_fit").iter_rows())
    vectors = VectorIndex.open(w, "m", 16)
    for number in (strange[0], 1):
        place = int(vectors.places(pl.Series([f"{number:020x}"]))[0])
        similarities = vectors.similarities("sound", vectors.vectors("video", np.array([place]))[0].astype(np.float32))
        z = (similarities[place] - similarities.mean()) / similarities.std()
        assert fits[f"{number:020x}"] == pytest.approx(z, abs=2e-3)
    assert set(plan(w, index, settings).asked) == before, "off unless asked for"
    after = set(plan(w, index, settings.model_copy(update={"index_below": -1.5})).asked)
    assert after - before == {f"{n:020x}" for n in strange}
