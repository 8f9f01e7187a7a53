"""Sources left out of future rounds: nothing is deleted, a round under way ends as it began, and it can be undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flywheel.core.types import Clip, Split
from flywheel.rounds import RoundContext
from flywheel.rounds.outlook import outlook_of
from flywheel.store import Workspace
from flywheel.store.sources import sources_of
from tests.plugins import Command

Said = pytest.CaptureFixture[str]
SPLITS: tuple[Split, ...] = ("train", "test", "anchor")


def used(workspace: Workspace) -> set[str]:
    return {clip.id for clip in RoundContext(workspace).split(*SPLITS)}


@pytest.mark.slow
def test_a_source_leaves_future_rounds_and_comes_back(ingested: Workspace, commandline: Command, capsys: Said) -> None:
    clips = ingested.clips()
    ids, file = set(clips["id"]), clips["uri"][0]
    of_file = set(clips.filter(uri=file)["id"])
    here = ("--reason", "a test", "--config", ingested.root)

    def said(*arguments: object, code: int = 0) -> str:
        capsys.readouterr()
        assert commandline("sources", *arguments) == code
        out, err = capsys.readouterr()
        return out + err

    assert "would be used no more from round 1 on" in said("remove", file, *here, "--dry-run")
    assert "nothing was done" in said("remove", file, *here, code=2)
    assert used(ingested) == ids
    found: dict[str, Any] = json.loads(said("remove", file, *here, "--yes", "--json"))
    assert (found["videos"], sum(found["clips"].values()), found["from_round"]) == (1, len(of_file), 1)
    assert used(ingested) == ids - of_file
    assert set(ingested.clips()["id"]) == ids, "nothing is deleted"
    listed = json.loads(said("list", "--config", ingested.root, "--json"))["sources"]
    assert [(source["clips"], source["removed"]) for source in listed] == [(len(ids), len(of_file))]
    assert "are removed already" in said("remove", file, *here, "--yes", code=2)
    assert "no clip's file lies there" in said("remove", "/nowhere", *here, "--yes", code=2)
    ingested.begin_round(1, ("annotate", "gate"))
    ingested.set_stage(1, "annotate", "running", {})
    told = said("remove", file, *here, "--undo", "--yes")
    assert "are used again from round 2 on" in told
    assert used(ingested) == ids - of_file, "the round under way ends as it began"
    ingested.set_stage(1, "annotate", "done", {})
    ingested.set_stage(1, "gate", "done", {})
    assert used(ingested) == ids
    assert ingested.records.read("removals")["reason"].to_list() == ["a test", "a test"]


@pytest.fixture
def folders(make_workspace: Callable[..., Workspace]) -> Workspace:
    """Ten videos with two clips each: three folders in one, and one apart."""
    w = make_workspace()
    known: dict[str, Any] = {"fps": 24.0, "width": 8, "height": 8, "has_audio": False, "transcript": "", "sounds": ""}
    names = [f"/data/a/{'xyz'[n % 3]}/{n}.mp4" for n in range(9)] + ["/other/9.mp4"]
    w.add_clips(
        Clip(id=f"{n}{k}", uri=name, content_hash=f"h{n}", start_s=k, end_s=k + 1.0, split=SPLITS[n % 3], **known)
        for n, name in enumerate(names)
        for k in range(2)
    )
    return w


def test_sources_are_folders_or_what_they_lie_in(folders: Workspace) -> None:
    whole = [(s.path, s.clips, s.videos) for s in sources_of(folders, 50)]
    assert whole == [("/data/a/x", 6, 3), ("/data/a/y", 6, 3), ("/data/a/z", 6, 3), ("/other", 2, 1)]
    assert [(s.path, s.clips, s.videos) for s in sources_of(folders, 2)] == [("/data/a", 18, 9), ("/other", 2, 1)]
    assert [s.clips for s in sources_of(folders, 1)] == [20]
    assert str(sources_of(folders, 2)[1]) == "/other: 2 clips of 1 videos, 0.00 h"


def test_anchors_of_a_removed_source_are_no_anchors(folders: Workspace, commandline: Command) -> None:
    assert outlook_of(folders).gate.possible == 3
    here = ("--reason", "r", "--yes", "--config", folders.root)
    assert commandline("sources", "remove", "/data/a/z/2.mp4", "/data/a/x", *here) == 0
    assert outlook_of(folders).gate.possible == 2
    assert outlook_of(folders).impossible[0].startswith("No round can be promoted by the gate")
    by_people = Workspace.open(folders.root, ["gate.measures=[preference, token_f1]"])
    assert outlook_of(by_people).impossible[0].startswith("The gate can decide by people's choices alone: for word")
    by_people = Workspace.open(folders.root, ["gate.measures=[preference]"])
    assert not any("gate.min_anchors" in line for line in outlook_of(by_people).impossible)
    assert folders.removed_videos() == {"h2", "h0", "h3", "h6"}
