"""Questions about rendered long videos, and certificates that must find what each question needs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.benchmark.building import build, questions, tracks
from flywheel.benchmark.certifying import FAILED, WAYS, certify, limit, limit_of_best, orders_of
from flywheel.benchmark.drafts import item_of
from flywheel.benchmark.items import FRAMES, SOUND, Item
from flywheel.benchmark.oracle import oracle
from flywheel.benchmark.programs import Program, answer, traced
from flywheel.benchmark.readers import Beside, get
from flywheel.benchmark.reading import read
from flywheel.benchmark.scores import score
from flywheel.core.errors import UserError
from flywheel.playground.av.kinds import KINDS
from flywheel.playground.timeline import LongVideo, long_video, twin_of
from tests.plugins import Command


@pytest.fixture(scope="module")
def videos() -> list[LongVideo]:
    """Thirty videos, each followed by its twin."""
    own = [long_video(3, index, 2 + index % 3) for index in range(30)]
    return [video for made in own for video in (made, twin_of(made))]


@pytest.fixture(scope="module")
def rows(videos: list[LongVideo]) -> list[dict[str, Any]]:
    """Their questions."""
    return list(questions(videos, seed=3))


def _items(rows: list[dict[str, Any]]) -> list[Item]:
    reader = get("flywheel")
    return [item_of(draft) for row in rows for draft in reader.drafts(row, Path(), Beside(Path()))]


def test_a_videos_sounds_tell_nothing_of_its_things(videos: list[LongVideo]) -> None:
    for video in videos:
        seen, heard = tracks(video)
        assert len(set(seen)) == len(set(heard)) == 4
        assert not set(seen) & set(heard)
        for start in range(0, len(seen), 4):
            assert len(set(seen[start : start + 4])) == len(set(heard[start : start + 4])) == 4
        bounds = [(shot.start_s, shot.end_s) for shot in video.shots]
        assert all(end == start for (_, end), (start, _) in pairwise(bounds))
    assert long_video(3, 1) == long_video(3, 1) != long_video(4, 1)
    pairs = Counter((shot.seen, shot.heard) for video in videos for shot in video.shots)
    assert all(seen != heard for seen, heard in pairs)
    assert len(pairs) > 80, "of 90: no sound goes with one thing"
    assert {kind for pair in pairs for kind in pair} == set(KINDS)


def test_questions_have_one_right_option_and_no_tell(videos: list[LongVideo], rows: list[dict[str, Any]]) -> None:
    by_name = {f"{video.name}.mp4": video for video in videos}
    assert Counter(row["type"] for row in rows) == {"av": 120, "av_temporal_given": 120, "av_temporal_ground": 60}
    for row in rows:
        program, said = Program(**row["program"]), tracks(by_name[row["video"]])
        assert row["values"].index(answer(program, *said)) == "ABCD".index(row["answer"])
        assert len(set(row["options"])) == 4
        facts = traced(program, *said)
        assert {fact["medium"] for fact in row["facts"]} == {FRAMES, SOUND} == program.needs
        assert [fact["shot"] for fact in row["facts"]] == [fact.shot for fact in facts or ()]
        assert answer(program, said[0], None) is None is answer(program, None, said[1])
    # χ² of the keys' places, and the longest option as a guess (audio_visual.md of the field: at most 30 %).
    places = Counter(row["answer"] for row in rows)
    expected = len(rows) / 4
    assert sum((places[letter] - expected) ** 2 / expected for letter in "ABCD") < 11.34, "p > .01, three degrees"
    longest = [np.argmax([len(option) for option in row["options"]]) == "ABCD".index(row["answer"]) for row in rows]
    assert np.mean(longest) <= 0.30


def test_a_twin_asks_the_same_of_the_same_picture_and_another_option_is_right(
    videos: list[LongVideo], rows: list[dict[str, Any]]
) -> None:
    by_id, by_name = {row["id"]: row for row in rows}, {video.name: video for video in videos}
    for row in rows:
        other = by_id[row["twin"]]
        assert (other["question"], other["options"], other["twin"]) == (row["question"], row["options"], row["id"])
        assert other["answer"] != row["answer"]
        (seen, heard), (other_seen, other_heard) = (tracks(by_name[r["video"][:-4]]) for r in (row, other))
        assert seen == other_seen
        assert not any(one == two for one, two in zip(heard, other_heard, strict=True))


def test_certificates_agree_with_what_questions_need(videos: list[LongVideo], rows: list[dict[str, Any]]) -> None:
    """Beside questions that need both are planted some that the picture, the sound, or the words alone answer."""
    rows = rows[:100]
    planted = [dict(row) for row in rows[::5]]
    for number, row in enumerate(planted):
        by = "seen" if number % 2 else "heard"
        row["id"], row["twin"] = f"planted:{number}", ""
        kind = tracks(videos[0])[0 if by == "seen" else 1][0]
        row["video"] = f"{videos[0].name}.mp4"
        row["program"] = vars(Program(by=by, kind=kind, nth=1, first=0, end=99, say="when"))
        row["values"] = [4, 5, 6, 7]
        row["options"] = [f"shot {value}" for value in row["values"]]
        row["answer"] = "ABCD"[row["values"].index(answer(Program(**row["program"]), *tracks(videos[0])))]
    every = [*rows, *planted]
    twins = {row["id"]: row["twin"] for row in rows}
    found = certify(_items(every), [oracle(every, videos)], twins, turns=2, seed=1)
    needed = {row["id"]: len(Program(**row["program"]).needs) == 2 for row in every}
    agreed = [certificate.kept == needed[certificate.item] for certificate in found.certificates]
    assert np.mean(agreed) >= 0.95
    assert {c.reason for c in found.certificates if c.item.startswith("planted")} == {
        "answered with picture alone",
        "answered with sound alone",
    }
    assert (found.by_way["both"].value, found.twins.value, found.twins.n) == (1.0, 1.0, len(rows) // 2)
    kept = {c.item for c in found.certificates if c.kept}
    again = certify([item for item in _items(every) if item.id in kept], [oracle(every, videos)], twins, seed=1)
    for way in ("text", "picture", "sound"):
        assert again.by_way[way].value <= limit(0.25, 8)
    # With another video's sound the answer is right by accident, and so at chance over all.
    assert found.by_way["swapped"].value <= limit(0.25, len(rows))


def test_a_way_is_at_chance_to_two_standard_errors() -> None:
    """By hand: of 8 orders of four options chance is .25, its error sqrt(.25 × .75 / 8) = .153; 4 of 8 are within."""
    assert limit(0.25, 8) == pytest.approx(0.25 + 2 * 0.1531, abs=1e-4)
    item = Item(id="x", question="what?", options=("a", "b", "c", "d"), key=2, video="v")
    orders = orders_of(item, 2, 0)
    assert len(orders) == 8
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert all(Counter(order[place] for order in orders) == dict.fromkeys(range(4), 2) for place in range(4))

    def solver(**right: int) -> Any:
        """Is right in the first so many orders of a way, else wrong."""
        left = Counter(right)

        def solve(item: Item, way: str, order: Any) -> int:
            left[way] -= 1
            return list(order).index(2 if left[way] >= 0 else 0)

        return solve

    def certificate(*solvers: Any) -> Any:
        return certify([item], solvers, {}, turns=2).certificates[0]

    assert certificate(solver(both=8, text=4, picture=4, sound=4, swapped=8)).kept
    assert certificate(solver(both=8, picture=5)).reason == "answered with picture alone"
    assert certificate(solver(both=4)).reason == "not answered with both"
    # One of a panel is enough to guess it, and enough to solve it.
    assert certificate(solver(both=8), solver(text=8, sound=5)).reason == "answered with text alone and sound alone"
    always_first = certificate(lambda item, way, order: 0)
    assert set(always_first.shares.values()) == {0.25}
    assert list(always_first.shares) == list(WAYS)
    assert certificate(lambda item, way, order: -1).shares["both"] == 0.0
    # By hand: of one that guesses, 5 of 8 and more are right in 2.7 % of items, of the best of two in 5.4 %; 6 in .8 %.
    assert [limit_of_best(0.25, 8, count) for count in (1, 2, 6, 7)] == [4 / 8, 5 / 8, 5 / 8, 6 / 8]
    assert certificate(solver(both=5)).kept
    assert certificate(solver(both=5), solver()).reason == "not answered with both"
    assert certificate(solver(both=6), solver()).kept

    def failing(failed: str) -> Any:
        """Can't be asked once in a way; is right with both, else wrong."""
        left = [failed]

        def solve(item: Item, way: str, order: Any) -> int:
            if way in left:
                left.remove(way)
                return FAILED
            return list(order).index(2 if way == "both" else 0)

        return solve

    # What one of them could not be asked is not known to be at chance; with both, who solves it solves it.
    found = certificate(solver(both=8), failing("text"))
    assert (found.reason, found.kept, "text" in found.shares) == ("could not be asked with text", False, False)
    assert certificate(solver(both=8, text=8), failing("text")).reason == "answered with text alone"
    assert certificate(failing("both")).reason == "could not be asked with both"
    assert certificate(solver(both=8), failing("both")).kept
    for checks, verified, reason in (
        (solver(both=8), True, ""),
        (solver(both=4), False, "another model finds its key wrong"),
        (failing("both"), None, "not verified"),
    ):
        found = certify([item], [solver(both=8)], {}, turns=2, verifier=checks).certificates[0]
        assert (found.verified, found.reason, found.kept) == (verified, reason, not reason)
    # Of two options in four orders chance and two errors are 1: all right is above it, three of four are not.
    item = replace(item, options=("a", "b"), key=0)
    assert limit(0.5, 4) == 1.0

    def second(item: Item, way: str, order: Any) -> int:
        return list(order).index(0 if way == "both" else 1)

    assert certificate(second).kept
    assert certificate(lambda item, way, order: list(order).index(0)).reason.startswith("answered with text alone")
    assert certificate(lambda item, way, order: 0).reason == "not answered with both"
    with pytest.raises(ValueError, match="no solver"):
        certify([item], [], {})


@pytest.mark.slow
def test_a_benchmark_has_as_many_videos_of_each_length(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for index in range(4):
        for twin in ("", "-twin"):
            # Rendered before: what is there is kept.
            (tmp_path / "videos" / f"timeline-{index:05d}{twin}.mp4").touch()
    manifest = build(tmp_path, seed=3, num_videos=4, num_blocks=(2, 5))
    assert manifest["lengths"] == {"0-60 s": 4, "60-180 s": 4}
    assert (manifest["items"], manifest["duration_s"]) == (40, 64.0)
    items = read(tmp_path, "flywheel").items
    scored = score(items, [item.key for item in items])
    assert {name: part.n for name, part in scored.by_length.items()} == {"0-60 s": 20, "60-180 s": 20}
    with pytest.raises(UserError, match=r"--blocks 1: need between 2 and 280"):
        build(tmp_path, seed=3, num_videos=4, num_blocks=(2, 1))


@pytest.mark.slow
def test_a_benchmark_is_built_certified_and_run(
    tmp_path: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rendered videos have cuts where the truth says, and sounds when it says; the folder is a benchmark to be run."""
    from flywheel.media.audio import read_audio
    from flywheel.media.probe import probe
    from flywheel.media.scenes import scene_cuts
    from flywheel.playground.timeline import read_timelines

    out = tmp_path / "bench"
    arguments = ("benchmark", "build", "--out", out, "--videos", 1, "--seed", 5, "--json")
    assert commandline(*arguments) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["items"], manifest["videos"], manifest["licence"]) == (10, 2, "Apache-2.0")
    own, twin = read_timelines(out)
    place = out / "videos" / f"{own.name}.mp4"
    info = probe(place)
    assert info.duration_s == pytest.approx(own.duration_s, abs=0.05)
    cuts, true = scene_cuts(place), [shot.end_s for shot in own.shots[:-1]]
    found = sum(any(abs(cut - at) <= 2 / info.fps for cut in cuts) for at in true)
    assert found / len(true) >= 0.95
    assert len(cuts) == found
    loud = [np.sqrt(np.mean(read_audio(place, shot.start_s, shot.end_s) ** 2)) for shot in own.shots]
    assert min(loud) > 0.005
    assert replace(own, twin="").shots != twin.shots
    before = place.stat().st_mtime_ns
    assert commandline(*arguments) == 0
    assert place.stat().st_mtime_ns == before
    capsys.readouterr()
    assert commandline("benchmark", "certify", out, "--json") == 0
    certified = json.loads(capsys.readouterr().out)
    assert (certified["items"], certified["agree"]["value"], certified["twins"]["value"]) == (10, 1.0, 1.0)
    # Two videos: each is heard with its twin's sound, by which another option is right.
    assert certified["by_way"]["swapped"]["value"] == 0.0
    assert len((out / "certified.jsonl").read_text().splitlines()) == round(10 * certified["kept"]["value"])
    assert commandline("benchmark", "build", "--out", out, "--videos", 1, "--seed", 6) == 2
    assert "holds other videos" in capsys.readouterr().err
