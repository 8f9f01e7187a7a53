"""Edited sounds as files: their original's rate and channels, the same bytes each time; which stay, and which go."""

from __future__ import annotations

import os
import random
import wave
from pathlib import Path

import numpy as np
import pytest

from flywheel.core.errors import MediaError
from flywheel.core.types import Clip
from flywheel.curation.repair import rendering
from flywheel.curation.repair.plan import Plan, Step, plan
from flywheel.curation.repair.recogniser import _others
from flywheel.media.probe import file_hash
from flywheel.media.wav import write_wav
from flywheel.sound import actions
from flywheel.store.sound_files import SoundFiles

LATER = plan([Step(action="shift", parameters={"seconds": 0.05})])


def clip_at(path: Path, start_s: float, end_s: float) -> Clip:
    words = {"id": "c", "uri": str(path), "content_hash": "h", "transcript": "", "sounds": "", "split": "train"}
    return Clip(**words, start_s=start_s, end_s=end_s, fps=25.0, width=8, height=8, has_audio=True)


def recorded(path: Path, rate_hz: int, channels: int) -> np.ndarray:
    """Half a second of noise as a WAV; its samples as they are read back."""
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, (rate_hz // 2, channels)).astype(np.float32)
    write_wav(path, [noise], length=len(noise), channels=channels, rate_hz=rate_hz)
    return (np.rint(noise * 32767) / 32768).astype(np.float32)


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (192_000, 2)])
def test_an_edit_has_the_rate_and_channels_of_its_original_and_the_same_bytes_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate_hz: int, channels: int
) -> None:
    samples, files = recorded(tmp_path / "original.wav", rate_hz, channels), SoundFiles(tmp_path)
    clip, asked = clip_at(tmp_path / "original.wav", 0.1, 0.4), list[int]()
    made = rendering.render(clip, LATER, files, lambda: asked.append(1))
    assert len(asked) == 2, "before and after"
    with wave.open(str(files.place(made[0]))) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (rate_hz, channels)
        assert sound.getnframes() == round(0.3 * rate_hz)
        found = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").reshape(-1, channels) / 32767
    span = samples[round(0.1 * rate_hz) : round(0.4 * rate_hz)]
    assert np.abs(found - actions.build("shift", seconds=0.05)(span, rate_hz)).max() < 1e-4
    # In a mapped file, as long sounds are.
    monkeypatch.setattr(rendering, "_IN_MEMORY", 0)
    assert rendering.render(clip, LATER, files, lambda: None) == made
    assert made == (file_hash(files.place(made[0])), files.place(made[0]).stat().st_size)
    assert [path.name for path in files.folder.iterdir()] == [made[0][:2]], "nothing is left of the work"


def test_what_cannot_be_read_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    files = SoundFiles(tmp_path)
    with pytest.raises(MediaError):
        rendering.render(clip_at(tmp_path / "broken.wav", 0.0, 1.0), Plan(), files, lambda: None)
    assert not list(files.folder.rglob("*")) if files.folder.exists() else True
    with pytest.raises(MediaError, match="longer than a WAV can hold"):
        write_wav(tmp_path / "long.wav", [], length=1 << 31, channels=2, rate_hz=48_000)
    assert not (tmp_path / "long.wav").exists()


def test_the_files_used_longest_ago_go_and_those_without_a_record(tmp_path: Path) -> None:
    files = SoundFiles(tmp_path)
    made = [files.add(lambda out, n=number: out.write_bytes(bytes([n]) * 1000) and None) for number in range(4)]
    for age, (content_hash, _) in enumerate(made):
        place = files.place(content_hash)
        os.utime(place, ns=(10**18 + age, place.stat().st_mtime_ns))
    # Used now: it goes last.
    assert files.has(*made[0])
    assert files.trim(2500) == 2
    assert [files.place(content_hash).exists() for content_hash, _ in made] == [True, False, False, True]
    assert files.trim(2500) == 0
    assert files.sweep([made[0][0]]) == 1
    assert [files.place(content_hash).exists() for content_hash, _ in made] == [True, False, False, False]
    # Written to by others: another time, and other bytes.
    files.place(made[0][0]).write_bytes(b"x" * 1000)
    assert not files.has(*made[0])
    assert not files.place(made[0][0]).exists()


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ("In the clean room.", "in the clean room", 0.0),
        ("one two three four", "one two tree four", 0.25),
        ("one two three four", "one two", 0.5),
        ("one", "one and more", 2.0),
        ("one", "", 1.0),
    ],
)
def test_words_that_an_edit_changes_are_counted(before: str, after: str, share: float) -> None:
    assert _others(before, after) == share


def test_changed_words_are_counted_as_by_the_table_of_all_pairs() -> None:
    rng = random.Random()
    for words in (1, 2, 9) * 30:
        one, other = ([str(rng.randrange(words)) for _ in range(rng.randrange(30))] for _ in range(2))
        row = list(range(len(other) + 1))
        for i, word in enumerate(one, 1):
            last, row[0] = row[0], i
            for j, there in enumerate(other, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != there))
        assert _others(" ".join(one), " ".join(other)) == row[-1] / max(1, len(one)), (one, other)
