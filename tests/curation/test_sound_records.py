"""Records of edited sounds, made by hand: which clips wait for a look, what is counted, and what an export leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.core.types import Clip, SoundVersion
from flywheel.curation.evidence import _measured, _with_controls, num_unmeasured
from flywheel.curation.repair.exporting import export_sounds
from flywheel.curation.repair.loop import Limits
from flywheel.curation.repair.measures import Norms
from flywheel.curation.repair.planners import planner
from flywheel.curation.repair.repairing import RepairRun, _waiting
from flywheel.curation.repair.rewards import Rewards, calibrated
from flywheel.curation.repair.scales import Scale
from flywheel.curation.repair.standards import Standards, standards_of
from flywheel.curation.repair.standing import StandingSounds
from flywheel.curation.repair.summary import summary
from flywheel.curation.repair.way import Way
from flywheel.media.probe import file_hash
from flywheel.media.wav import write_wav
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from flywheel.store.sources import note_removed
from tests.plugins import Command, Plugin

BROKEN = """
from flywheel.sound.actions._action import Action


def edit(source):
    raise ValueError("this release knows no such edit")


ACTION = Action(family="coordination", does="fails", parameters={}, edit=edit)
"""
NORMS = Norms(**dict.fromkeys(Norms.__dataclass_fields__, 0.0))


def clip_of(number: int, *, has_audio: bool = True) -> Clip:
    words = {"transcript": "", "sounds": "", "split": "train", "uri": f"/{number}.mp4", "content_hash": f"h{number}"}
    facts = {"fps": 25.0, "width": 8, "height": 8, "has_audio": has_audio}
    return Clip(id=f"c{number}", start_s=0.0, end_s=1.0, **words, **facts)


def record(clip_id: str, version: str = "", id: str = "", **others: Any) -> SoundVersion:
    words = dict.fromkeys(("reason", "parent", "original", "code", "planner", "speech"), "")
    told = {"plan": '{"edits": []}', "before": "{}", "after": "{}", "trace": "[]", "content_hash": "", "num_bytes": 1}
    key = {"id": id or f"{clip_id}-{version}", "clip_id": clip_id, "version": version, "seconds": 0.0, "at": ""}
    return SoundVersion(**{**words, **told, **key, "outcome": "repaired" if version else "left alone", **others})


@pytest.fixture
def w(make_workspace: Callable[..., Workspace]) -> Workspace:
    workspace = make_workspace("tracking.enabled=false")
    with workspace.lock():
        workspace.add_clips([clip_of(number) for number in range(3)])
    return workspace


def test_a_clip_waits_where_its_last_record_is_of_another_way(w: Workspace) -> None:
    index = ClipIndex(w)

    def waiting(key: str, only: list[str] | None = None) -> dict[str, tuple[str, str]]:
        standards = Standards(norms=NORMS, rewards=Rewards(scales={}), tried=0)
        way = Way(
            settings=w.config.repair,
            standards=standards,
            planner=planner("rules"),
            limits=Limits(),
            vetoes={},
            recogniser=None,
            model=None,
            key=key,
        )
        clips = index.of("train").with_ids(only or ["c0", "c1"])
        return {clip.id: (key, parent) for clip, key, parent in _waiting(w, clips, way, 1, only)}

    first = waiting("rules")
    assert set(first) == {"c0", "c1"}
    with w.lock():
        w.add_sound_versions([record("c0", "v1", first["c0"][0]), record("c1", "", first["c1"][0])])
    assert waiting("rules") == {}
    # Other settings are tried and bring the original back; with the old ones the edit comes again.
    others = waiting("nothing")
    assert others["c0"][1] == "v1"
    with w.lock():
        w.add_sound_versions([record("c0", "", others["c0"][0])])
    again = waiting("rules")
    assert list(again) == ["c0"]
    assert again["c0"][0] not in (first["c0"][0], others["c0"][0])
    with w.lock():
        w.add_sound_versions([record("c0", "v1", again["c0"][0])])
    assert waiting("rules") == {}
    # Who names a clip wants a look, at a new key; a person's word holds until then.
    assert waiting("rules", ["c0"])["c0"][0] not in (again["c0"][0], first["c0"][0])
    with w.lock():
        w.add_sound_versions([record("c0", "", "undone", outcome="undone")])
    assert list(waiting("nothing")) == ["c1"]
    assert list(waiting("rules", ["c0"])) == ["c0"]


def test_what_stands_and_is_counted_is_of_the_last_records_of_clips_in_use(w: Workspace, commandline: Command) -> None:
    silent = clip_of(3, has_audio=False)
    edit = json.dumps({"edits": [{"action": "shift"}]})
    with w.lock():
        w.add_clips([silent])
        w.add_sounds([_with_controls(_measured(silent, lambda: None), [])])
        assert num_unmeasured(w, ClipIndex(w)) == 3
        w.add_sound_versions([record("c0", "v1", plan=edit), record("c1", "v2", plan=edit), record("c3", "v3")])
        # The sound that stands was not measured.
        assert num_unmeasured(w, ClipIndex(w)) == 4
        w.add_sound_versions([record("c1"), record("c2")])
        w.add_sound_versions([record("c3", "", "c3-undone", outcome="undone")])
        assert w.standing_sounds().rows() == [("c0-v1", "c0", "v1", "", 1)]
        found = summary(w, RepairRun(), ClipIndex(w))
        assert (found.repaired, found.left_alone, found.actions) == (1, 2, {"shift": 1})
        note_removed(w, ["h0"], "/0.mp4", "gone", from_round=1)
        found = summary(w, RepairRun(), ClipIndex(w, without={"h0"}))
    assert (found.repaired, found.left_alone, found.undone, found.actions) == (0, 2, 0, {})
    assert commandline("repair", "--config", w.root, "--clips", "c0") == 2


def test_rewards_that_do_not_tell_wrong_pairs_tell_nothing(w: Workspace) -> None:
    def of(own: float) -> Rewards:
        return calibrated([{"synchrony": own, "agreement": 0.5}] * 4, [{"synchrony": 0.1, "agreement": 0.1}] * 4)

    assert of(0.16).tell
    assert not of(0.1).tell
    assert not of(0.14).tell
    assert not Rewards(scales={"agreement": Scale(none=0.3, full=0.2)}).tell
    with w.lock():
        for own, known in ((0.5, True), (0.1, False)):
            standards = Standards(norms=NORMS, rewards=of(own), tried=4)
            w.set_meta("repair_standards", standards.to_json())
            assert (standards_of(w, [], 4) is not None) == known


def test_a_takedown_after_several_exports_leaves_no_sound(w: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with w.lock():
        for number in range(3):
            kept = w.sound_files.add(lambda place, n=number: place.write_bytes(bytes([n]) * 9) and None)
            w.add_sound_versions([record(f"c{number}", "v", content_hash=kept[0], num_bytes=kept[1])])
        assert export_sounds(w, out).written == 3
        (out / "mine.wav").write_bytes(b"a person's")
        assert export_sounds(w, out, ["c1"]).written == 1
        assert sorted(file.name for file in out.iterdir()) == ["c1.wav", "mine.wav", "sounds.jsonl"]
        # Killed before its list: what it wrote is known by the clips' ids.
        (out / "c2.wav").write_bytes(b"x")
        # A sound that can't be made again leaves no older file of it.
        w.sound_files.place(w.standing_sounds()["content_hash"][1]).unlink()
        assert StandingSounds(w).of(clip_of(1)).version == ""
        done = export_sounds(w, out, ["c0", "c1"])
        assert (done.written, done.lost) == (1, 1)
        assert sorted(file.name for file in out.glob("c*")) == ["c0.wav"]
        take_down(w, ["c0"], "asked to", rewrite=lambda: None)
    assert not out.exists()


def test_an_original_is_read_where_another_package_edits_no_more(w: Workspace, tmp_path: Path, plugin: Plugin) -> None:
    """Its action fails in a way that nobody foresaw; the others' sounds are read as before."""
    plugin("flywheel.sound.actions", "broken = broken_edits:ACTION", BROKEN)
    path = tmp_path / "original.wav"
    write_wav(path, [np.zeros((800, 1), np.float32)], length=800, channels=1, rate_hz=16_000)
    clip = replace(clip_of(9), uri=str(path), content_hash=file_hash(path), end_s=0.05)
    plan = json.dumps({"edits": [{"action": "broken", "parameters": {}}]})
    with w.lock():
        w.add_clips([clip])
        w.add_sound_versions([record(clip.id, "v", plan=plan, content_hash="ab" * 32)])
    assert StandingSounds(w).of(clip).version == ""
