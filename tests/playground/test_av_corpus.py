"""The audio-visual corpus: files, transcripts and the oracle hold what was asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from flywheel.playground import av, grammar, write_av_playground
from flywheel.playground.av import corpus as rendered
from flywheel.playground.av import transcripts
from flywheel.playground.av.damage import DAMAGES, damage
from flywheel.sound import actions
from flywheel.store.workspace import Workspace

SHARES = {"mismatch": 0.2, "shift": 0.2, "off_screen": 0.2, "no_track": 0.2}
ARGUMENTS: dict[str, Any] = {"seed": 20_261, "num_clips": 5, "noise_rate": 0.0, "faults": SHARES}


class _Serial:
    def __init__(self, _: int) -> None: ...

    def __enter__(self) -> _Serial:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, work, tasks, chunksize):  # type: ignore[no-untyped-def]
        return map(work, tasks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("av")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered, "ProcessPoolExecutor", _Serial)
        write_av_playground(folder, **ARGUMENTS)
    return folder


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are not rendered, for what the oracle alone tells."""
    monkeypatch.setattr(rendered, "ProcessPoolExecutor", _Serial)
    # The oracle is written first, and is what this is about.
    monkeypatch.setattr(rendered, "_write_clip", lambda clip: None)
    monkeypatch.setattr(rendered, "ProcessPoolExecutor", _Serial)


def rows(folder: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(folder / "oracle.parquet").to_dicts()


def test_files_are_what_the_oracle_says(folder: Path) -> None:
    assert sorted(row["fault"] for row in rows(folder)) == sorted(["", *SHARES])
    for row in rows(folder):
        path = folder / "corpus" / row["file"]
        info = probe(path)
        assert info.duration_s == pytest.approx(av.DURATION_S, abs=0.1)
        assert info.has_audio == (row["fault"] != "no_track")
        assert av.facts(row["text"]) == set(row["slots"])
        assert av.seen_facts(row["seen_text"]) == set(row["seen_facts"])
        assert av.heard_facts(row["heard_text"]) == set(row["heard_facts"])
        # The scene as it was filmed, whatever happened to its sound or its picture then.
        transcript = path.with_suffix(".txt").read_text()
        as_filmed = (
            av.seen_facts(transcript) == set(row["seen_facts"]),
            av.heard_facts(transcript) == set(row["heard_facts"]),
        )
        assert as_filmed == (row["fault"] != "off_screen", row["fault"] in ("", "off_screen"))
    assert {p.suffix for p in (folder / "corpus").iterdir()} == {".mp4", ".txt"}


def test_decoded_sounds_begin_within_20_ms_of_their_times(folder: Path) -> None:
    checked = 0
    for row in rows(folder):
        samples = read_audio(folder / "corpus" / row["file"], 0, av.DURATION_S, rate_hz=16_000)
        times_s = sorted(t for sound in row["sounds"] for t in sound["times_s"])
        # What rings on from before would hide when a softer one begins.
        for t in [t for t in times_s if not any(0 < t - other < 0.75 for other in times_s)]:
            around = np.abs(samples[round((t - 0.06) * 16_000) : round((t + 0.1) * 16_000)])
            loud = max(0.2 * around.max(), 2 * around[:480].max())
            assert np.flatnonzero(around > loud)[0] / 16_000 - 0.06 == pytest.approx(0, abs=0.02), (row["file"], t)
            checked += 1
    assert checked >= 4


def test_decoded_pictures_change_most_at_the_first_act(folder: Path) -> None:
    checked = 0
    for row in rows(folder):
        acts = [thing["times_s"][0] for thing in row["things"] if thing["times_s"]]
        if not acts:
            continue
        path = folder / "corpus" / row["file"]
        fps = probe(path).fps
        times_s = np.arange(round(min(acts) * fps) + 2) / fps + 0.5 / fps
        change = np.abs(np.diff(read_frames(path, list(times_s)).astype(np.int16), axis=0)).mean((1, 2, 3))
        first = (int(np.argmax(change)) + 1) / fps
        assert 0 <= first - min(acts) + 0.01 <= 1 / fps + 0.01, row["file"]
        checked += 1
    assert checked == 4


@pytest.mark.usefixtures("unrendered")
def test_shares_are_exactly_as_asked_and_drawn_by_the_seed(tmp_path: Path) -> None:
    faults = {"mismatch": 0.3, "shift": 0.2, "off_screen": 0.1, "silent": 0.05, "no_track": 0.05}
    for seed in (0, 2**31):
        write_av_playground(tmp_path / str(seed), seed=seed, num_clips=40, noise_rate=0.35, faults=faults)
    oracle, other = (pl.read_parquet(tmp_path / str(seed) / "oracle.parquet") for seed in (0, 2**31))
    for table in (oracle, other):
        assert table.schema["matched"] == pl.Boolean
        assert (~table["matched"]).sum() == 12 + 2 + 2
        assert (table["offset_s"] != 0).sum() == 8
        counts = dict(table["source"].value_counts().iter_rows())
        assert counts == {"off_screen": 4, "silent": 2, "none": 12 + 2, "on_screen": 20}
        noise = dict(table["transcript_noise"].value_counts().iter_rows())
        assert noise == {"clean": 26} | dict.fromkeys(transcripts.NOISE_KINDS, 3) | {"half": 2}
    assert oracle["fault"].to_list() != other["fault"].to_list()
    assert not set(oracle["text"]) & set(other["text"])


@pytest.mark.usefixtures("unrendered")
def test_shares_that_are_no_whole_numbers_of_clips_have_room(tmp_path: Path) -> None:
    write_av_playground(tmp_path, seed=1, num_clips=3, noise_rate=0, faults={"mismatch": 0.5, "shift": 0.5})
    assert sorted(row["fault"] for row in rows(tmp_path)) == ["mismatch", "mismatch", "shift"]


@pytest.mark.usefixtures("unrendered")
def test_a_folder_with_another_corpus_is_left_alone(folder: Path, tmp_path: Path) -> None:
    write_av_playground(folder, **ARGUMENTS)
    before = (folder / "oracle.parquet").read_bytes()
    with pytest.raises(UserError, match="holds another corpus"):
        write_av_playground(folder, **{**ARGUMENTS, "seed": 1})
    assert (folder / "oracle.parquet").read_bytes() == before
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "clip-00000.mp4").touch()
    with pytest.raises(UserError, match="holds clips without an oracle"):
        write_av_playground(tmp_path, **ARGUMENTS)
    assert not (tmp_path / "oracle.parquet").exists()


def test_clips_that_are_missing_are_made_again_to_the_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "ProcessPoolExecutor", _Serial)
    path = folder / "corpus" / "clip-00003.mp4"
    before = path.read_bytes()
    path.unlink()
    write_av_playground(folder, **ARGUMENTS)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_the_bundled_model_writes_of_the_corpus(folder: Path, tmp_path: Path) -> None:
    """A clip without a track is no reject, neither of ingest nor of annotation."""
    Workspace.create(tmp_path, template())
    workspace = Workspace.open(tmp_path)
    ingest(workspace, [str(folder / "corpus")])
    assert workspace.clips()["has_audio"].sum() == 4
    command = [sys.executable, "-m", "flywheel.cli", "annotate"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    written = workspace.annotations().filter(source="model")["clip_id"]
    assert set(written) == set(workspace.clips()["id"])
    assert workspace.rejected().is_empty()


def test_noise_is_of_its_kind() -> None:
    rng = np.random.default_rng(0)
    for seed in range(24):
        timeline, other = av.sample(seed), av.sample(seed + 1000)
        truth = av.true_facts(timeline)
        made = {
            kind: av.facts(transcripts.noisy_transcript(timeline, other, kind, rng))
            for kind in (*transcripts.NOISE_KINDS, "clean")
        }
        assert made["clean"] == truth
        assert made["empty"] == made["chatter"] == frozenset()
        assert made["other clip"] == av.true_facts(other)
        assert 1 <= len(truth - made["wrong facts"]) <= 2
        assert len({fact[0] for fact in made["half"]}) == 1
        assert made["half"] < truth
    assert all(av.facts(text, name) == frozenset() for text in grammar.CHATTER for name in ("corpus", "base"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faults": {"mismatch": -0.1}}, "--mismatch -0.1: need a share between 0 and 1"),
        ({"faults": {"off_screen": float("nan")}}, "--off-screen nan: need a share"),
        (
            {"faults": {"mismatch": 0.6, "shift": 0.6}},
            "--mismatch 0.6, --shift 0.6: need shares that add up to at most 1",
        ),
        ({"faults": {"echo": 0.1}}, "echo: no such fault"),
        ({"num_clips": 0}, "--num-clips 0: need"),
        ({"seed": -1}, "--seed -1: need"),
        ({"noise_rate": 2.0}, "--noise 2.0: need"),
    ],
)
def test_what_can_not_be_planted_is_said_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write_av_playground(tmp_path / "p", **{**ARGUMENTS, **changes})
    assert not (tmp_path / "p").exists()


def test_damaged_sounds_are_noted_with_what_mends_them_and_the_rest_is_as_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The oracle is written first, and is what this is about.
    monkeypatch.setattr(rendered, "_write_clip", lambda clip: None)
    monkeypatch.setattr(rendered, "ProcessPoolExecutor", _Serial)
    write_av_playground(tmp_path / "damaged", **ARGUMENTS, damage_rate=0.2)
    before, after = (pl.read_parquet(place / "oracle.parquet") for place in (folder, tmp_path / "damaged"))
    assert after.drop("damage", "action", "parameter", "value").equals(before)
    damaged = after.filter(pl.col("damage") != "")
    assert damaged.height == 1
    assert damaged["fault"].to_list() == [""]
    assert damaged["action"].item() in actions.names()
    for share in (0.3, 1.5, -0.1):
        with pytest.raises(UserError, match="damage"):
            write_av_playground(tmp_path / "too-much", **ARGUMENTS, damage_rate=share)


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_the_oracle_names_undoes_the_damage(kind: str) -> None:
    timeline = av.sample(12, av.CORPUS)
    sound = av.sound(timeline)
    damaged, done = damage(sound, timeline, kind, np.random.default_rng(3), av.SAMPLE_RATE)
    mended = actions.build(done.action, **done.parameters)(damaged, av.SAMPLE_RATE)

    def loudness(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.sqrt(np.mean(np.square(samples.reshape(-1, 320)), axis=1))

    # By loudness in 20 ms: what fills a gap is a sound like it, not its very samples.
    off = [float(np.mean(np.square(loudness(part) - loudness(sound)))) for part in (damaged, mended)]
    assert off[1] < 0.5 * off[0]
    assert damaged.shape == sound.shape
