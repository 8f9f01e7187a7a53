"""Speech to cues, as far as it needs no model: what is doubted, whose part is what, and whose words go first."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.core.errors import MediaError, UserError
from flywheel.core.types import Cue
from flywheel.ingest import ingest
from flywheel.ingest.speech.folder import recogniser_folder, source_of
from flywheel.ingest.speech.windows import windows
from flywheel.ingest.speech.words import Segment, SpokenWords, Word, doubt
from flywheel.ingest.speech.work import Asked, Wordless
from flywheel.media.audio import read_audio, read_blocks, sound_choice
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace
from tests.media.made import Pictures, Tone, write
from tests.plugins import Command
from tests.store.test_view import clip

Make = Callable[..., Workspace]
VIDEO = Path(__file__).parent / "before" / "tone.mp4"


def words(text: str, start_s: float = 0.0, each_s: float = 0.5) -> list[Word]:
    """Words one after the other, each so long."""
    return [
        Word(start_s=start_s + i * each_s, end_s=start_s + (i + 1) * each_s, text=f" {word}", probability=0.9)
        for i, word in enumerate(text.split())
    ]


def segment(text: str, *, logprob: float = -0.3, no_speech: float = 0.02, compression: float = 1.2) -> Segment:
    return Segment(words=words(text), mean_logprob=logprob, no_speech=no_speech, compression=compression)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (segment("a bell rings at noon"), ""),
        (segment("Thank you."), ""),
        # Whisper tiny.en on eight seconds of silence.
        (segment("You", no_speech=0.95), "chance of silence is 0.95"),
        (segment("Thanks for watching!", no_speech=0.3), "writes on silence"),
        (segment("Subtitles by the Amara.org community"), "writes on silence"),
        (segment("ご視聴ありがとうございました", no_speech=0.4), "writes on silence"),
        (segment("mumble mumble", logprob=-1.4), "too unsure of it (mean log-prob -1.40)"),
        (segment("no " * 40, compression=9.0), "repeats itself"),
        (segment("♪ … ♪"), "holds no word"),
    ],
)
def test_what_is_no_speech_is_told_by_the_models_own_numbers(found: Segment, why: str) -> None:
    assert why in doubt(found)
    assert bool(doubt(found)) == bool(why)


def test_each_clip_gets_the_words_whose_middle_lies_in_it() -> None:
    spoken = SpokenWords([words("one two three four", 1.0), words("five six", 4.0)])
    parts = [list(spoken.within(*span)) for span in ((0.0, 2.0), (2.0, 4.2), (4.2, 9.0), (6.0, 7.0))]
    assert parts == [
        [Cue(start_s=1.0, end_s=2.0, text="one two")],
        [Cue(start_s=2.0, end_s=3.0, text="three four")],
        [Cue(start_s=4.2, end_s=5.0, text="five six")],
        [],
    ], "a cue stays within its clip"
    assert list(SpokenWords([]).within(0.0, 9.0)) == []
    flat = SpokenWords([[Word(start_s=2.0, end_s=2.0, text="字", probability=1.0)] * 2])
    assert list(flat.within(0.0, 4.0)) == [Cue(start_s=2.0, end_s=2.02, text="字字")], "words may have no length"


def energy(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """How loud each hundredth of a second is."""
    return np.abs(samples).reshape(-1, 10).mean(axis=1), 10


def test_windows_are_cut_in_pauses_and_lose_no_sample() -> None:
    sound = 1 + np.arange(10_000, dtype=np.float32) / 1e6
    pauses = ((1_200, 1_800), (3_000, 3_700), (4_600, 5_300), (6_000, 6_600), (7_500, 8_100), (9_000, 9_900))
    for begin, end in pauses:
        sound[begin:end] = 0.0
    blocks = np.split(sound, range(300, 10_000, 300))
    found = list(windows(blocks, window_s=2.0, rate_hz=1000, chances=energy))
    assert np.array_equal(np.concatenate([samples for _, samples in found]), sound)
    begins = [round(begin_s * 1000) for begin_s, _ in found]
    assert begins == [0, *np.cumsum([len(samples) for _, samples in found])[:-1]]
    assert all(any(begin <= cut <= end for begin, end in pauses) for cut in begins[1:])
    assert len(begins) > 4
    assert max(len(samples) for _, samples in found) <= 2_300
    assert list(windows([], window_s=2.0, rate_hz=1000, chances=energy)) == []


def test_blocks_are_the_sound_whatever_its_gaps(tmp_path: Path) -> None:
    pictures = Pictures(times_s=[i / 5 for i in range(20)])
    file = write(
        tmp_path / "a.mkv",
        pictures,
        Tone(seconds=3.0, moved=lambda at_s: None if 1.0 < at_s < 1.7 else at_s + 0.4, tags={"language": "eng"}),
        Tone(seconds=2.0, hz=880.0, tags={"language": "deu"}),
    )
    for start_s, end_s in ((0.0, 4.0), (0.9, 3.0)):
        whole = read_audio(file, start_s, end_s)
        blocks = list(read_blocks(file, start_s, end_s, block_s=0.3))
        again = np.concatenate(blocks)
        assert {len(block) for block in blocks[:-1]} == {4800}
        assert np.array_equal(again, whole[: len(again)])
        assert not whole[len(again) :].any(), "up to where the sound ends"
    assert len(np.concatenate(list(read_blocks(file, 0.0, 1e6)))) / 16_000 == pytest.approx(3.4, abs=0.1)
    chosen = sound_choice(file, "deu")
    assert (chosen.track.language, chosen.others, chosen.is_wanted) == ("deu", 1, True)
    assert sound_choice(file, "fra").track.language == "eng"
    assert not sound_choice(file, "fra").is_wanted
    other = np.concatenate(list(read_blocks(file, 0.0, 1.0, track="2")))
    assert np.abs(np.fft.rfft(other)).argmax() == 880
    broken = write(tmp_path / "c.mkv", pictures, Tone(seconds=2.0, codec="flac", damaged=range(1000)))
    with pytest.raises(MediaError, match="no sound can be decoded"):
        list(read_blocks(broken, 0.0, 4.0))
    with pytest.raises(MediaError, match="has no sound"):
        next(read_blocks(write(tmp_path / "b.mkv", pictures), 0.0, 1.0))


def model_bin(name: str) -> bytes:
    return struct.pack("<IH", 6, len(name) + 1) + name.encode() + b"\0" + b"\0" * 100


def folder_with(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


@pytest.mark.slow
def test_a_folder_of_another_kind_is_one_line_and_nothing_is_done(
    make_workspace: Make, commandline: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace()
    config = b'{"model_type": "qwen3_vl"}'
    for number, (files, says) in enumerate(
        (
            (None, "no such folder"),
            ({}, "has no model.bin"),
            ({"model__safetensors": b"x", "config__json": config}, 'is a model of type "qwen3_vl" for transformers'),
            ({"model__bin": model_bin("TransformerSpec")}, "is TransformerSpec, and not a Whisper model"),
            ({"model__bin": b"\x80\x02}q"}, "and not a Whisper model"),
            ({"model__bin": model_bin("WhisperSpec"), "config__json": b"{}"}, "has no tokenizer.json"),
        )
    ):
        path = tmp_path / f"m{number}"
        if files is not None:
            folder_with(path, **files)
        for more in ((), ("--dry-run",)):
            code = commandline("transcribe", "--config", tmp_path / "w", "--set", f"transcribe.model={path}", *more)
            out = capsys.readouterr()
            assert code == 2
            assert says in out.err
            assert out.err.count("\n") == 1
            assert not out.out
    assert commandline("transcribe", "--config", tmp_path / "w", "--json") == 2
    assert "transcribe.model: names no folder" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not w.count("recognitions")


def test_without_the_extra_a_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path / "m", model__bin=model_bin("WhisperSpec"), config__json=b"{}", tokenizer__json=b"{}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'video-dataflywheel\[asr\]'"):
        recogniser_folder(str(folder), tmp_path)
    first = source_of(folder)
    (folder / "model.bin").write_bytes(model_bin("WhisperSpec") + b"other weights")
    assert first.startswith("asr:")
    assert source_of(folder) != first


ASKED = Asked(source="asr:1", language="", track="")


def add_speech(w: Workspace, clip_id: str, text: str, asked: Asked = ASKED) -> None:
    """What a run leaves on record of a clip."""
    cues = [{"start_s": 0.0, "end_s": 0.5, "text": text}] if text else []
    row = {"id": asked.clip_key(clip_id), "clip_id": clip_id, "source": asked.source, "language": "en"}
    with w.lock():
        w.add_asr_transcripts([{**row, "transcript": text, "cues": cues}])


@pytest.fixture
def alone(make_workspace: Make, tmp_path: Path) -> Workspace:
    """A workspace with a clip that has sound and no words."""
    (tmp_path / "in").mkdir()
    shutil.copy(VIDEO, tmp_path / "in" / "a.mp4")
    w = make_workspace()
    with w.lock():
        ingest(w, [str(tmp_path / "in")])
    return w


def test_a_recognisers_words_stand_until_people_give_others(alone: Workspace, tmp_path: Path) -> None:
    [clip_id] = alone.clips()["id"]
    texts = alone.count("annotations")
    add_speech(alone, clip_id, "heard")
    add_speech(alone, clip_id, "heard better", Asked(source="asr:2", language="", track=""))
    assert alone.clips()["transcript"].to_list() == ["heard better"]
    assert alone.clips_by_id([clip_id])["cues"].to_list() == [[{"start_s": 0.0, "end_s": 0.5, "text": "heard better"}]]
    assert next(alone.clip_batches(["cues"])).columns == ["cues"]
    assert next(alone.clip_batches(["transcript"], asr=False))["transcript"].to_list() == [""]
    assert alone.count("annotations") == texts, "no text of round 0 is made of it"
    (tmp_path / "in" / "a.txt").write_text("written by hand")
    with alone.lock():
        assert ingest(alone, [str(tmp_path / "in")]).new_texts == 1
    row = alone.clips().row(0, named=True)
    assert (row["transcript"], row["cues"]) == ("written by hand", []), "also where it has no times"
    assert next(alone.clip_batches(["cues"]))["cues"].to_list() == [[]]
    assert alone.annotations(round=0)["text"].to_list() == ["written by hand"]
    assert not len(Wordless(alone)), "nothing is left to listen to"


def test_takedown_leaves_nothing_of_what_was_heard(alone: Workspace) -> None:
    [(clip_id, content)] = alone.clips().select("id", "content_hash").rows()
    add_speech(alone, clip_id, "a secret")
    cue = {"start_s": 0.0, "end_s": 0.5, "text": "a secret", "mean_logprob": 0.0, "no_speech": 0.0, "words": []}
    row = {"id": ASKED.file_key(content, whole=False), "content_hash": content, "source": "asr:1", "language": "en"}
    row |= {"start_s": 0.0, "end_s": 2.0, "track": "{}", "language_probability": 1.0, "speech_s": 1.0, "cues": [cue]}
    with alone.lock():
        alone.add_recognitions([row])
        taken = take_down(alone, [clip_id], "asked to", rewrite=lambda: None)
    assert (taken.removed["recognitions"], taken.removed["asr_transcripts"]) == (1, 1)
    left = [p for p in alone.root.rglob("*.parquet") if b"secret" in p.read_bytes()]
    assert not left


def test_a_file_that_could_not_be_heard_is_open_until_it_was(make_workspace: Make) -> None:
    w = make_workspace()
    w.add_clips([replace(clip(number), has_audio=True) for number in range(2)])
    for number in range(2):
        w.add_rejected(round=0, stage="transcribe", uri="a.mp4", clip_id=f"c{number}", reason="the file is gone")
    w.set_stage(2, "annotate", "done", {})
    assert w.rejected(open_only=True)["clip_id"].to_list() == ["c0", "c1"]
    add_speech(w, "c0", "")
    assert w.rejected(open_only=True)["clip_id"].to_list() == ["c1"]
    assert w.rejected().height == 2


def test_which_files_want_words(make_workspace: Make) -> None:
    w = make_workspace()
    spans = [(1, 0.0), (0, 0.0), (1, 5.0), (0, 5.0), (2, 0.0), (3, 0.0)]
    clips = [
        replace(clip(i), content_hash=f"h{file}", start_s=start_s, end_s=start_s + 5.0, has_audio=file != 3)
        for i, (file, start_s) in enumerate(spans)
    ]
    w.add_clips([replace(c, transcript="words" if c.id == "c4" else "") for c in clips])
    wordless = Wordless(w)
    assert (len(wordless), wordless.without_sound) == (2, 1)
    [(count, work)] = wordless.batches(ASKED)
    assert count == 2
    assert [[c.id for c in file.clips] for file in work] == [["c0", "c2"], ["c1", "c3"]], "file by file, in their order"
    assert [(file.row, file.span_s) for file in work] == [(None, (0.0, 11.0))] * 2
    add_speech(w, "c0", "one")
    add_speech(w, "c2", "")
    [(_, work)] = wordless.batches(ASKED)
    assert [[c.id for c in file.clips] for file in work] == [["c1", "c3"]]
    other = Asked(source="asr:1", language="de", track="")
    assert len(next(wordless.batches(other))[1]) == 2, "asked otherwise, it is another recognition"
