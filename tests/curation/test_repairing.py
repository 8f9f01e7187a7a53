"""Sounds repaired in a workspace: versions with lineage, who reads them, what is undone, lost, exported, taken down."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.core.types import Clip, RoundReport
from flywheel.curation.columns import joined, sources
from flywheel.curation.evidence import measure_all
from flywheel.curation.repair.repairing import repair_clips, tidy, undo
from flywheel.curation.repair.standing import StandingSounds
from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.probe import file_hash
from flywheel.rounds import RoundContext
from flywheel.rounds.conductor import check_before
from flywheel.rounds.report import write_report
from flywheel.rounds.stages import repair as stage
from flywheel.rounds.takedown import take_down
from flywheel.sound import actions
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from tests.curation.test_measuring import write
from tests.plugins import Command
from tests.rendered import RATE_HZ, impacts, tones

Make = Callable[..., Workspace]
_SECONDS, _LATE = 4.0, (2, 5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of eight clips, two of whose sounds are late, looked at once."""
    return looked_at(tmp_path_factory.mktemp("repairing"))


def looked_at(folder: Path) -> Path:
    """Make that workspace below a folder, and return the folder."""
    (folder / "videos").mkdir()
    for seed in range(8):
        sound = tones(impacts(seed, _SECONDS), seed, length_s=_SECONDS)
        late = actions.build("shift", seconds=0.35)(sound, RATE_HZ) if seed in _LATE else None
        write(folder / "videos" / f"{seed}.mp4", seed, sound=late)
    Workspace.create(folder / "w", template())
    workspace = Workspace.open(folder / "w", ["corpus.near_duplicates=false", "tracking.enabled=false"])
    with workspace.lock():
        ingest(workspace, [str(folder / "videos")])
        repair_clips(workspace, ClipIndex(workspace), round=1)
    workspace.database.close()
    return folder


@pytest.fixture
def repaired(whole: Path, make_workspace: Make, tmp_path: Path) -> Workspace:
    """The same, one test's own."""
    shutil.copytree(whole / "w", tmp_path / "w")
    return make_workspace()


def repair(workspace: Workspace, **options: Any) -> int:
    with workspace.lock():
        return repair_clips(workspace, ClipIndex(workspace), round=1, **options).looked_at


def number_of(workspace: Workspace) -> dict[str, int]:
    """Clip id -> the number of its file."""
    return {row["id"]: int(Path(row["uri"]).stem) for row in workspace.clips().iter_rows(named=True)}


def clip_of(workspace: Workspace, number: int) -> Clip:
    index = ClipIndex(workspace)
    return index[next(clip_id for clip_id, of in number_of(workspace).items() if of == number)]


@pytest.mark.slow
def test_late_sounds_are_repaired_others_left_alone_and_no_original_touched(repaired: Workspace) -> None:
    w = repaired
    rows, numbers = w.sound_versions(), number_of(w)
    mended = rows.filter(pl.col("outcome") == "repaired")
    assert sorted(numbers[clip_id] for clip_id in mended["clip_id"]) == list(_LATE)
    assert rows.filter(pl.col("outcome") != "repaired")["outcome"].unique().to_list() == ["left alone"]
    assert rows.height == 8
    for clip in w.clips().iter_rows(named=True):
        assert file_hash(Path(clip["uri"])) == clip["content_hash"]
    for row in mended.iter_rows(named=True):
        [edit] = json.loads(row["plan"])["edits"]
        assert edit["action"] == "shift"
        assert edit["parameters"]["seconds"] == pytest.approx(-0.35, abs=0.04)
        before, after = json.loads(row["before"]), json.loads(row["after"])
        assert all(after[name] > before[name] + 0.03 for name in ("synchrony", "agreement"))
        assert (row["parent"], row["standing"], row["speech"]) == ("", True, "")
        place = w.sound_files.place(row["content_hash"])
        assert (file_hash(place), place.stat().st_size) == (row["content_hash"], row["num_bytes"])
    # What is read is the sound as it was before it was late.
    clip = clip_of(w, _LATE[0])
    source = StandingSounds(w).of(clip)
    heard = w.cache.sound(str(source.path), source.content_hash, source.start_s, source.end_s)
    true = tones(impacts(_LATE[0], _SECONDS), _LATE[0], length_s=_SECONDS)
    assert len(heard) == len(true)
    assert np.corrcoef(np.abs(heard[: 3 * RATE_HZ]), np.abs(true[: 3 * RATE_HZ]))[0, 1] > 0.5
    assert repair(w) == 0
    assert w.sound_versions().height == 8


@pytest.mark.slow
def test_what_is_read_and_asked_goes_by_the_sound_that_stands(repaired: Workspace, make_workspace: Make) -> None:
    fake = "{engine: fake, options: {obeys: true}}"
    repaired.database.close()
    w = make_workspace("curate.judge=all", *(f"models.{role}={fake}" for role in ("eyes", "ears", "judge")))
    context, late = RoundContext(w), clip_of(w, _LATE[0])
    heard = next(prompt for prompt in context.curation_prompts if prompt.kind == "heard")
    clips = list(ClipIndex(w).values())

    def ask(round: int) -> tuple[int, int]:
        with w.lock():
            found = context.ask(clips, by=0, round=round, prompt=heard)
        return found.generated, found.reused

    assert ask(1) == (8, 0)
    assert ask(2) == (0, 8)
    with w.lock():
        measure_all(w, context.clips, 1)
    offset = {row["clip_id"]: row["offset_s"] for row in joined(w, ids(w), sources()).iter_rows(named=True)}
    assert abs(offset[late.id]) < 0.05
    with w.lock():
        said = undo(w, late.id, "it was right as it was")
    assert (said.outcome, said.reason, bool(said.parent)) == ("undone", "it was right as it was", True)
    # The original was never asked about, the others were.
    assert ask(3) == (1, 7)
    with w.lock():
        assert measure_all(w, context.clips, 1).measured == 1
    offset = {row["clip_id"]: row["offset_s"] for row in joined(w, ids(w), sources()).iter_rows(named=True)}
    assert offset[late.id] == pytest.approx(0.35, abs=0.05)
    # A person's word stays, until a person asks for that clip again.
    assert repair(w) == 0
    assert repair(w, only=[late.id]) == 1
    assert repair(w) == 0
    assert ask(4) == (0, 8)
    with w.lock():
        assert measure_all(w, context.clips, 1).measured == 0
    rows = joined(w, ids(w), sources())
    assert abs(rows.filter(pl.col("clip_id") == late.id)["offset_s"][0]) < 0.05
    assert w.sound_versions(late.id)["outcome"].to_list() == ["repaired", "undone", "repaired"]
    version = StandingSounds(w).on_record(late.id)
    assert w.sound_versions(late.id)["version"].n_unique() == 2
    # Other settings were tried: with the old ones the repair is there again, and its replies with it.
    w.database.close()
    w = make_workspace("repair.planner=nothing")
    assert repair(w, only=[late.id]) == 1
    assert StandingSounds(w).on_record(late.id) == ""
    w.database.close()
    w = make_workspace()
    assert repair(w) == 1
    assert w.sound_versions(late.id)["version"].to_list()[-3:] == [version, "", version]


def ids(workspace: Workspace) -> pl.DataFrame:
    return workspace.clips().select(clip_id="id")


@pytest.mark.slow
def test_a_file_that_is_gone_or_changed_is_made_again_or_the_original_is_read(
    repaired: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    w, clip = repaired, clip_of(repaired, _LATE[0])
    place = StandingSounds(w).of(clip).path
    kept = place.read_bytes()
    for damage in (lambda: place.unlink(), lambda: place.write_bytes(b"x" * len(kept)), lambda: place.write_bytes(b"")):
        damage()
        source = StandingSounds(w).of(clip)
        assert source.version
        assert place.read_bytes() == kept
    # A copy without its times is believed once it was read.
    os.utime(place)
    assert StandingSounds(w).of(clip).version
    capsys.readouterr()
    # Now it can't be made again: another video lies in the original's place.
    place.unlink()
    shutil.copyfile(clip.uri, tmp_path / "kept.mp4")
    shutil.copyfile(clip_of(w, 0).uri, clip.uri)
    try:
        sounds = StandingSounds(w)
        for _ in range(2):
            source = sounds.of(clip)
            assert (source.version, str(source.path)) == ("", clip.uri)
    finally:
        shutil.copyfile(tmp_path / "kept.mp4", clip.uri)
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "its original sound is used" in said
    # Nothing is lost: with its original back the edited sound is there again.
    assert StandingSounds(w).of(clip).version
    assert place.read_bytes() == kept


@pytest.mark.slow
def test_the_command_repairs_undoes_explains_and_exports(
    repaired: Workspace, commandline: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    w, late = repaired, clip_of(repaired, _LATE[0])

    def run(*options: object) -> tuple[int, str, str]:
        code = commandline("repair", "--config", w.root, *options)
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, _ = run("--json")
    found = json.loads(out)
    assert code == 0
    assert (found["left_alone"], found["repaired"], found["refused"]) == (6, 2, 0)
    assert found["actions"] == {"shift": 2}
    assert found["looked_at"] == 0
    code, out, _ = run("--explain", late.id)
    assert code == 0
    assert "shift" in out
    assert "(stands)" in out
    code, out, _ = run("--export", tmp_path / "out", "--json")
    assert (code, json.loads(out)) == (0, {"written": 2, "lost": 0})
    told = [json.loads(line) for line in (tmp_path / "out" / "sounds.jsonl").read_text().splitlines()]
    assert {row["content_hash"] for row in told} == {file_hash(file) for file in (tmp_path / "out").glob("*.wav")}
    assert len(read_audio(tmp_path / "out" / f"{late.id}.wav", 0, _SECONDS)) == _SECONDS * RATE_HZ
    code, out, err = run("--undo", late.id, "--json")
    assert (code, json.loads(out)["outcome"]) == (0, "undone")
    for options, words in (
        (("--undo", late.id), "is the original already"),
        (("--undo", "nowhere"), "no clip has this id"),
        (("--explain", "nowhere"), "no clip has this id"),
        (("--undo", late.id, "--explain", late.id), "Say one of them"),
        (("--export", w.root), "holds something else"),
        (("--set", "repair.planner=wizard"), "planner"),
        (("--set", "repair.recogniser=/nowhere"), "repair.recogniser"),
        (("--set", "repair.margin=2"), "repair.margin"),
    ):
        code, out, err = run(*options)
        assert (code, out) == (2, ""), options
        assert words in err
        assert err.strip().count("\n") == 0, err


@pytest.mark.slow
def test_the_stage_says_what_became_of_sounds_and_takedown_leaves_nothing(
    repaired: Workspace, make_workspace: Make
) -> None:
    repaired.database.close()
    w = make_workspace("repair.enabled=true", "repair.planner=wizard")
    with pytest.raises(UserError, match="planner"):
        check_before(RoundContext(w))
    w.database.close()
    w = make_workspace("repair.enabled=true", "curate.enabled=true")
    assert w.config.stages[:3] == ("repair", "curate", "annotate")
    with w.lock():
        context = RoundContext(w)
        found = stage.run(context, 1)
        figures = stage.figures(found)
        assert figures["repair/left_alone_share"] == 0.75
        assert figures["repair/action/shift"] == 2
        assert figures["repair/after/synchrony"] > figures["repair/before/synchrony"] + 0.5
        w.set_stage(1, "repair", "done", asdict(found))
        page = write_report(context, [RoundReport(round=1, num_corrections=0, details={"repair": asdict(found)})])
        told = (page / "report.html").read_text()
        assert "6 (75.0%) clips' sounds left alone, 2 repaired, 0 refused; 2 shift" in html.unescape(told)
        assert "share of clips whose sound is left alone" in told
        assert told.count("spectrogram after") == 2
        late, other = (clip_of(w, number) for number in _LATE)
        place = StandingSounds(w).of(late).path
        stray = w.sound_files.place("ab" + 62 * "0")
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"of a process that was killed before its commit")
        take_down(w, [late.id], "asked to", rewrite=lambda: None)
        assert not place.exists()
        assert not stray.exists()
        assert w.sound_versions(late.id).is_empty()
        assert StandingSounds(w).of(other).version


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_any_moment_nothing_is_lost_doubled_or_half(
    whole: Path, make_workspace: Make, tmp_path: Path
) -> None:
    Workspace.create(tmp_path / "w", template())
    options = ("corpus.near_duplicates=false", "repair.calibration_clips=4")
    w = make_workspace(*options)
    with w.lock():
        ingest(w, [str(whole / "videos")])
    script = "import flywheel.curation.repair.repairing as r; r._TOGETHER = 1; from flywheel.cli import main; main()"
    command = [sys.executable, "-c", script, "repair", "--config", str(w.root), "--json"]
    command += [word for option in options for word in ("--set", option)]
    for most in (1, 4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while w.count("sound_versions") < most and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert 0 < w.count("sound_versions") < 8
        for file in w.sound_files.folder.glob("*/*.wav"):
            assert file_hash(file) == file.stem
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["repaired"] == 2
    rows = w.sound_versions()
    assert rows.height == rows["clip_id"].n_unique() == 8
    assert len(list(w.sound_files.folder.glob("*/*.wav"))) == 2


def test_too_few_clips_tell_nothing_and_are_left_alone(
    make_workspace: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace()
    assert repair(w) == 0
    assert "too few clips with sound" in capsys.readouterr().err
    with w.lock():
        tidy(w)
    assert not w.sound_files.folder.exists()
    with pytest.raises(UserError, match="is the original already"):
        undo(w, "c0")
