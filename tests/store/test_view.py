"""Frozen views show what was, by every read there is, and have no live ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flywheel.core.types import Clip, Correction, Preference, SoundVersion
from flywheel.store import View, Workspace
from flywheel.store.ledger import Ledger
from flywheel.store.records import Records
from flywheel.store.recut import forget_cut
from flywheel.store.sources import note_removed, videos_at
from flywheel.store.vectors import vector_row
from tests.store.test_compaction import fill, frozen, text

Make = Callable[..., Workspace]


def clip(number: int, split: str = "train") -> Clip:
    return Clip(
        id=f"c{number}",
        uri=f"/videos/{number}.mp4",
        content_hash=f"h{number}",
        start_s=0.0,
        end_s=1.0,
        fps=25.0,
        width=64,
        height=64,
        has_audio=False,
        transcript="",
        sounds="",
        split=split,
        cues=(),
    )


def correction(number: int) -> Correction:
    at = datetime(2026, 1, 1 + number, tzinfo=UTC)
    names = {"id": f"k{number}", "annotation_id": f"a1-{number}", "clip_id": f"c{number}"}
    return Correction(**names, verdict="edit", text="better", refiner="ann", at=at)


def choice(number: int) -> Preference:
    at = datetime(2026, 1, 1 + number, tzinfo=UTC)
    names = {"id": f"p{number}", "clip_id": f"c{number}", "first_id": f"a1-{number}", "second_id": f"a2-{number}"}
    return Preference(**names, chosen="first", refiner="ann", at=at)


def decided(clip_id: str, *, kept: bool) -> pl.DataFrame:
    return pl.DataFrame({"clip_id": [clip_id], "kept": [kept], "score": [0.5], "reason": ["x"]})


def judged(clip_id: str, scores: list[int]) -> dict[str, object]:
    ids = {"seen_id": "s", "heard_id": "h", "generation_id": "g" if scores else ""}
    said = {"scores": scores, "reasons": ["r"] * bool(scores), "sources": "{}", "unscored": "" if scores else "prose"}
    return {"clip_id": clip_id, **ids, **said, "swapped": False}


def shuffled(clip_id: str, scores: list[int]) -> dict[str, object]:
    row = {"clip_id": clip_id, "other_id": "c9", "purpose": "shuffled", "generation_id": "g"}
    return {**row, "scores": scores, "unscored": ""}


def probabilities(**of: float) -> pl.DataFrame:
    return pl.DataFrame({"clip_id": list(of), "p_match": list(of.values())}, schema_overrides={"p_match": pl.Float32})


def sound_version(clip_id: str, version: str, number: int = 0) -> SoundVersion:
    words = dict.fromkeys(("reason", "plan", "before", "after", "trace", "parent", "original", "code", "planner"), "x")
    return SoundVersion(
        id=f"{clip_id}-{number}",
        clip_id=clip_id,
        version=version,
        outcome="repaired" if version else "undone",
        content_hash=version,
        num_bytes=1,
        speech="",
        seconds=0.5,
        at="2026-01-01",
        **words,
    )


def everything(view: View) -> dict[str, object]:
    """The result of every read; a new public method must be added here, or to what tells no data."""
    reads = {
        "annotation_batches": lambda: [frame.rows() for frame in view.annotation_batches(rows=3)],
        "annotations": lambda: view.annotations().rows(),
        "champion": view.champion,
        "clip_batches": lambda: [frame.rows() for frame in view.clip_batches(rows=2)],
        "clip_verdicts": lambda: view.clip_verdicts().rows(),
        "clips": lambda: view.clips().rows(),
        "clips_named": lambda: view.clips_named("7.mp4").rows(),
        "kinds_of": lambda: [view.kinds_of(round) for round in (0, 1, 2)],
        "clips_at": lambda: view.clips_at(["/videos/0.mp4", "/videos/7.mp4"]).rows(),
        "clips_by_id": lambda: view.clips_by_id(["c0", "c7"]).rows(),
        "control_judgements": lambda: view.control_judgements("shuffled").rows(),
        "correction_records": view.correction_records,
        "corrections": lambda: view.corrections().rows(),
        "count_texts": lambda: [view.count_texts(round) for round in (0, 1, 2)],
        "count": lambda: [view.count(kind) for kind in ("clips", "annotations", "rejected", "examples")],
        "curated": lambda: [view.curated(round) for round in (0, 1, 2)],
        "decision_on": lambda: view.decision_on("c0"),
        "verdicts_on": lambda: view.verdicts_on("c7"),
        "decisions": lambda: (view.decisions().rows(), view.decisions("run-2").rows()),
        "examples": lambda: view.examples().rows(),
        "find_clips": lambda: view.find_clips("c").rows(),
        "generations": lambda: view.generations().rows(),
        "judgements": lambda: (view.judgements().rows(), view.judgements(1, swapped=True).rows()),
        "num_corrections": view.num_corrections,
        "preference_records": view.preference_records,
        "preferences": lambda: view.preferences().rows(),
        "places": lambda: view.places(["h0", "h1"]),
        "removed_videos": lambda: [view.removed_videos(round) for round in (None, 1, 2)],
        "rejected": lambda: (view.rejected().rows(), view.rejected(open_only=True).rows()),
        "retired": view.retired,
        "sound_versions": lambda: view.sound_versions().rows(),
        "standing_sounds": lambda: view.standing_sounds().rows(),
        "rounds": view.rounds,
        "stamp": lambda: view.stamp() if view.snapshot is not None else None,
        "texts": lambda: [view.texts(round, "learn", "id", "text").rows() for round in (0, 1, 2)],
        "twins": view.twins,
        "writers": view.writers,
    }
    told = {name for name in dir(View) if not name.startswith("_")}
    assert set(reads) == told, "every read of a view is tried"
    return {name: read() for name, read in reads.items()}


@pytest.mark.slow
def test_a_frozen_view_stays_what_it_was(make_workspace: Make) -> None:
    w = make_workspace()
    w.add_clips([clip(0), clip(1, "test")])
    fill(w, 3)
    w.add_rejected(round=1, stage="annotate", uri="x", clip_id="c90", reason="broken")
    w.add_corrections([correction(0)])
    w.add_preferences([choice(0)])
    w.set_stage(0, "evaluate", "done", {})
    w.add_decisions("run-1", decided("c0", kept=False))
    w.set_stage(1, "curate", "done", {"run": "run-1"})
    w.add_judgements([judged("c0", [1, 2, 3, 4, 5])], 1)
    w.add_match_probabilities("run-1", probabilities(c0=0.25))
    w.add_control_judgements([shuffled("c0", [0] * 5)], 1)
    w.add_twins({"c0": "c1"})
    w.add_sound_versions([sound_version("c0", "v1")])
    note_removed(w, ["h1"], "/videos", "x", from_round=1)
    view = frozen(w, 1)
    before = everything(view)
    assert before["decisions"] == ([("c0", False, 0.5, "x")], [])
    assert before["judgements"][0][0][:8] == ("c0", 1, 2, 3, 4, 5, 0.25, ["r"])
    assert before["removed_videos"] == [{"h1"}, {"h1"}, {"h1"}]
    assert [row[0] for row in before["standing_sounds"]] == ["c0-0"]
    assert before["count"] == [2, 6, 1, 0]
    assert before["writers"] == {0: None, 1: 0}
    w.add_clips([clip(7)])
    fill(w, 9, round=2)
    w.add_annotations([text(90)], 1)
    w.add_rejected(round=2, stage="annotate", uri="y", clip_id="c9", reason="broken")
    w.add_corrections([correction(1)])
    w.add_preferences([choice(1)])
    w.set_stage(1, "annotate", "done", {"by": 5})
    w.set_stage(2, "annotate", "done", {"by": 1})
    w.add_decisions("run-2", decided("c7", kept=True))
    w.set_stage(2, "curate", "done", {"run": "run-2"})
    w.add_clip_verdict("c7", kept=False, reason="x")
    w.add_judgements([judged("c0", []), judged("c7", [5] * 5)], 2)
    w.add_judgements([{**judged("c0", [9] * 5), "swapped": True}], 1)
    w.add_match_probabilities("run-2", probabilities(c0=0.5, c7=0.75))
    w.add_control_judgements([shuffled("c7", [1] * 5)], 2)
    w.add_twins({"c7": "c0"})
    w.add_sound_versions([sound_version("c0", "", 1), sound_version("c7", "v2")])
    note_removed(w, ["h0"], "/videos", "x", from_round=2)
    for round in (1, 2, 3, 2):
        w.promote(round, "x")
    with w.lock():
        pass
    assert everything(view) == everything(w.as_of(1)) == before
    now = everything(w)
    assert {name for name in before if now[name] == before[name]} == {"examples", "generations", "kinds_of", "places"}


def test_a_view_has_no_writers_and_nothing_live(make_workspace: Make) -> None:
    w = make_workspace()
    fill(w, 1)
    view = frozen(w, 1)
    for name in ("add_clips", "add_annotations", "lock", "stage", "ledger", "meta", "promote", "takedowns", "freeze"):
        assert not hasattr(view, name)
    assert not isinstance(view.records, Records)
    assert not any(isinstance(value, Records) for value in vars(view).values())
    assert all(name.startswith("_") for name, value in vars(view).items() if isinstance(value, Ledger))


@pytest.mark.slow
def test_clips_are_found_by_first_digits_and_by_where_their_files_lie(make_workspace: Make, tmp_path: Path) -> None:
    w = make_workspace()
    w.add_clips([clip(number, "test" if number % 2 else "train") for number in range(12)])
    assert w.find_clips("c1")["id"].to_list() == ["c1", "c10", "c11"]
    assert w.find_clips("/videos/3.mp4")["id"].to_list() == ["c3"]
    w.locate({"h3": str(tmp_path / "moved.mp4")})
    assert w.find_clips(str(tmp_path / "moved.mp4"))["uri"].to_list() == [str(tmp_path / "moved.mp4")]
    assert w.find_clips("/videos/3.mp4").is_empty(), "the file is not there any more"
    assert w.find_clips("x").columns == w.clips().columns
    frames = list(w.clip_batches(["id", "uri"], "test", rows=4))
    assert [frame.columns for frame in frames] == [["id", "uri"]] * len(frames)
    assert [row for frame in frames for row in frame.rows()] == w.clips("test").select("id", "uri").rows()


@pytest.mark.slow
def test_which_contents_are_in_is_known_without_reading_all(make_workspace: Make) -> None:
    w = make_workspace()
    w.locate({"h0": "/videos/0.mp4", "h5": "/videos/5.mp4"})
    assert w.known_contents(["h0", "h5"]) == set(), "killed before their clips were written"
    w.add_clips([clip(0), clip(1)])
    assert w.known_contents(["h0", "h1", "h5", "other"]) == {"h0", "h1"}
    assert w.clips()["uri"].to_list() == ["/videos/0.mp4", "/videos/1.mp4"]
    note_removed(w, ["h0", "h1"], "/videos/1.mp4", "not ours", from_round=1)
    w.takedowns.remove_clips(["c1"], keep_removals=True)
    assert w.removed_videos() == {"h0", "h1"}, "cut otherwise it stays out"
    w.add_clips([clip(1)])
    w.takedowns.remove_clips(["c1"])
    assert w.known_contents(["h0", "h1"]) == {"h0"}, "what was taken down is looked at when it comes again"
    assert w.removed_videos() == {"h0"}, "nor does its path stand where sources were removed"


@pytest.mark.slow
def test_open_rejects_are_those_without_a_later_success(make_workspace: Make) -> None:
    w = make_workspace()
    w.add_clips([clip(0)])
    fill(w, 1)
    for round, number, kind, purpose in (
        (1, 0, "caption", "learn"),
        (2, 0, "caption", "learn"),
        (1, 1, "tags", "learn"),
        (1, 1, "caption", "measure"),
    ):
        w.add_rejected(
            round=round, stage="annotate", uri="u", clip_id=f"c{number}", reason="x", kind=kind, purpose=purpose
        )
    for uri in ("/videos/0.mp4", "/videos/1.mp4"):
        w.add_rejected(round=0, stage="ingest", uri=uri, clip_id="", reason="x")
    left = w.rejected(open_only=True).select("round", "clip_id", "uri", "kind", "purpose").rows()
    assert left == [
        (2, "c0", "u", "caption", "learn"),
        (1, "c1", "u", "tags", "learn"),
        (1, "c1", "u", "caption", "measure"),
        (0, "", "/videos/1.mp4", "", ""),
    ]
    assert w.rejected(1, open_only=True).height == 2


def test_an_order_is_recorded_when_a_round_begins(make_workspace: Make) -> None:
    w = make_workspace()
    assert w.order(1) is None
    w.begin_round(1, ("annotate", "gate"))
    w.begin_round(1, ("annotate", "curate", "gate"))
    assert w.order(1) == ("annotate", "gate"), "a round goes on with the stages that it began with"
    assert w.rounds() == []


def test_costs_and_looks(make_workspace: Make) -> None:
    w = make_workspace()
    assert w.ledger.cost(1, "caption") == {}
    w.ledger.add_cost(1, "caption", "learn", {"money": 0.5})
    w.ledger.add_cost(1, "caption", "learn", {"money": 1.5, "tokens_out": 7})
    w.ledger.add_cost(1, "caption", "measure", {"money": 0.5})
    w.ledger.add_cost(11, "caption", "learn", {"money": 100.0})
    assert w.ledger.cost(1, "caption") == {"money": 2.0, "tokens_out": 7}
    assert w.money(1) == 2.5
    w.ledger.add_cost(1, "tags", "learn", {"money": 4.0, "decode_s": 1.0})
    assert w.ledger.costs(1, "learn") == {"money": 6.0, "tokens_out": 7, "decode_s": 1.0}
    assert [w.ledger.add_look(0, *look) for look in ((1, "x"), (2, "x"), (1, "x"), (2, "y"))] == [1, 2, 1, 3]
    assert w.ledger.add_look(2, 1, "x") == 1, "every champion has a budget of its own"
    assert w.ledger.looks(0) == [(1, "x"), (2, "x"), (2, "y")]


@pytest.mark.parametrize("clip_id", ["c1", 'c"1'])
def test_exports_are_found_by_their_clips(make_workspace: Make, clip_id: str) -> None:
    w = make_workspace()
    w.add_export(Path("/a"), 1, [clip_id, "c2"])
    w.add_export(Path("/b"), 1, ["c11", "xc1"])
    assert w.ledger.exports_with([clip_id]) == ["/a"]
    assert w.ledger.exports_with(["c%", "c_"]) == []
    w.ledger.forget_export("/a")
    assert [e["out"] for e in w.exports()] == ["/b"]


@pytest.mark.slow
def test_names_are_told_apart_letter_by_letter(make_workspace: Make) -> None:
    w = make_workspace()
    w.add_clips(
        [
            replace(clip(n), uri=uri)
            for n, uri in enumerate(("/data/cats/a.mp4", "/data/Cats/A.mp4", "/data/cats%/b.mp4"))
        ]
    )
    assert videos_at(w, ["/data/cats"]) == {"h0": "/data/cats"}
    assert videos_at(w, ["/data"]) == dict.fromkeys(["h0", "h1", "h2"], "/data")
    assert w.clips_named("a.mp4")["id"].to_list() == ["c0"]
    assert w.clips_named("data/cats/a.mp4")["id"].to_list() == ["c0"]
    assert w.clips_named("/data/cats/a.mp4").is_empty()
    assert forget_cut(w, ["/data/cats"]) == 1


@pytest.mark.slow
def test_what_an_encoder_in_use_can_not_read_is_open_whatever_another_could(make_workspace: Make) -> None:
    w = make_workspace()
    for number in range(2):
        w.add_rejected(round=0, stage="index", uri=f"{number}", clip_id=f"c{number}", reason="broken")
    w.add_vectors([vector_row("before", "video", f"c{number}", np.ones(2, np.float32)) for number in range(2)])
    assert w.rejected(open_only=True).is_empty()
    w.add_vectors([vector_row("after", "video", "c1", np.ones(2, np.float32))])
    assert w.rejected(open_only=True)["clip_id"].to_list() == ["c0"]
