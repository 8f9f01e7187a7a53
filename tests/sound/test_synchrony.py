"""What sound and picture tell of each other, on rendered clips whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, write_video
from flywheel.media.grey import read_grey
from flywheel.sound.motion import visual_events
from flywheel.sound.onsets import TRACK_HZ, onset_envelope
from flywheel.sound.quality import sound_quality
from flywheel.sound.repetition import repeats, sound_print
from flywheel.sound.synchrony import Synchrony, synchrony
from tests.rendered import RATE_HZ, impacts, picture, tones

SECONDS = 6.0


def auc(good: list[float], bad: list[float]) -> float:
    return float(mannwhitneyu(good, bad).statistic / (len(good) * len(bad)))


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Synchrony]]:
    """12 clips at 12 to 30 frames a second, each with its own sound, one shifted by .5 to 1 s, and another clip's."""
    out: dict[str, list[Synchrony]] = {"own": [], "shifted": [], "other": []}
    for seed in range(12):
        at_s, rng = impacts(seed), np.random.default_rng([seed, 4])
        times_s = np.arange(0, SECONDS, 1 / (12, 15, 25, 30)[seed % 4])
        times_s, events = visual_events(picture(at_s, times_s, seed), times_s)
        late_s = float(rng.uniform(0.5, 1) * rng.choice([-1, 1]))
        sounds = {"own": at_s, "shifted": at_s + late_s, "other": impacts(seed + 100)}
        for name, heard_at_s in sounds.items():
            found = synchrony(onset_envelope(tones(heard_at_s, seed), RATE_HZ), events, times_s)
            out[name].append(found)
        out.setdefault("late", []).append(Synchrony(offset_s=late_s, contrast=0, together=0, doubt=""))
    return out


def test_shifted_and_foreign_sounds_fit_less_than_a_clips_own(measured: dict[str, list[Synchrony]]) -> None:
    own, shifted, other = ([s.together for s in measured[name]] for name in ("own", "shifted", "other"))
    assert auc(own, shifted) >= 0.95
    assert auc(own, other) >= 0.95


def test_the_offset_of_a_shifted_sound_is_found_within_40_ms(measured: dict[str, list[Synchrony]]) -> None:
    pairs = zip(measured["shifted"], measured["late"])
    errors_s = np.abs([found.offset_s - truth.offset_s for found, truth in pairs if not found.doubt])
    assert len(errors_s) >= 10
    assert np.median(errors_s) <= 0.01
    assert np.quantile(errors_s, 0.95) <= 0.04


def test_of_a_foreign_sound_the_offset_can_mostly_not_be_told(measured: dict[str, list[Synchrony]]) -> None:
    assert sum(s.doubt == "no peak" for s in measured["other"]) >= 10


@pytest.mark.parametrize("doubt", ["no onsets", "still picture", "periodic", "too short"])
def test_what_cannot_be_told_is_said(doubt: str) -> None:
    at_s = np.arange(0.5, SECONDS, 0.6) if doubt == "periodic" else impacts(3)
    length_s = 0.7 if doubt == "too short" else SECONDS
    times_s = np.arange(0, length_s, 1 / 25)
    frames = picture(at_s, times_s, 3)
    if doubt == "still picture":
        frames[:] = frames[0]
    samples = tones(np.zeros(0) if doubt == "no onsets" else at_s, 3, length_s=length_s)
    if doubt == "no onsets":
        samples *= 0
    drawn_s, events = visual_events(frames, times_s)
    found = synchrony(onset_envelope(samples, RATE_HZ), events, drawn_s)
    assert found.doubt == doubt
    assert np.isnan(found.offset_s)
    assert np.isnan(found.contrast) == (doubt != "periodic")


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_an_onsets_time_is_told_within_a_value_of_the_track(rate_hz: int) -> None:
    samples = tones(np.array([1.003]), 5, length_s=2.0, rate_hz=rate_hz)
    samples[100] = np.nan
    assert onset_envelope(samples, rate_hz).argmax() / TRACK_HZ == pytest.approx(1.003, abs=1.5 / TRACK_HZ)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_frames_are_too_short(count: int) -> None:
    times_s, events = visual_events(np.zeros((count, 8, 8), np.uint8), np.arange(count) / 25)
    assert synchrony(onset_envelope(tones(impacts(1), 1), RATE_HZ), events, times_s).doubt == "too short"


def test_a_file_gives_what_its_arrays_give(tmp_path: Path) -> None:
    at_s, times_s = impacts(7), np.arange(0, SECONDS, 1 / 25)
    frames = picture(at_s, times_s, 7, height=72, width=128)
    file = tmp_path / "late.mp4"
    quality = Quality(crf=28, preset="veryfast", threads=1)
    colour = (np.repeat(frame[:, :, None], 3, axis=2) for frame in frames)
    sound = (tones(at_s + 0.7, 7), RATE_HZ)
    write_video(file, colour, size=(128, 72), fps=25, quality=quality, sound=sound)
    for start_s in (0.0, 1.02):
        drawn_s, grey = read_grey(file, start_s, SECONDS)
        assert grey.shape == (len(drawn_s), 36, 64)
        assert np.allclose(drawn_s, np.arange(int(start_s * 25), SECONDS * 25) / 25 - start_s, atol=1e-3)
        onsets = onset_envelope(read_audio(file, start_s, SECONDS), RATE_HZ)
        drawn_s, events = visual_events(grey, drawn_s)
        assert synchrony(onsets, events, drawn_s).offset_s == pytest.approx(0.7, abs=0.02)


# Quality.


def test_quality_tells_clipping_silence_band_and_floor_apart() -> None:
    rng = np.random.default_rng(0)
    hiss = (0.1 * rng.normal(size=4 * RATE_HZ)).astype(np.float32)
    plain = sound_quality(hiss, RATE_HZ)
    assert plain.level_db == pytest.approx(-20, abs=0.3)
    assert plain.clipped == plain.silent == plain.damaged == 0
    assert plain.band_hz == 8000
    loud = sound_quality(np.clip(hiss * 20, -1, 1), RATE_HZ)
    assert loud.clipped > 0.5
    paused = hiss.copy()
    paused[: len(hiss) // 2] = 0
    half = sound_quality(paused, RATE_HZ)
    assert half.silent == pytest.approx(0.5, abs=0.02)
    assert half.level_db == pytest.approx(plain.level_db, abs=0.3)
    assert half.floor_db == -100
    # As from a telephone.
    narrow = np.fft.irfft(np.where(np.fft.rfftfreq(len(hiss), 1 / RATE_HZ) < 4000, np.fft.rfft(hiss), 0))
    assert sound_quality(narrow.astype(np.float32), RATE_HZ).band_hz == pytest.approx(4000, abs=100)
    assert sound_quality(np.zeros(RATE_HZ, np.float32), RATE_HZ).silent == 1


def test_samples_that_are_no_numbers_are_counted_and_left_out() -> None:
    samples = tones(impacts(1), 1)
    broken = samples.copy()
    broken[::10] = np.nan
    broken[5] = np.inf
    figures = sound_quality(broken, RATE_HZ)
    assert figures.damaged == pytest.approx(0.1, abs=0.001)
    assert np.isfinite([figures.level_db, figures.floor_db, figures.band_hz]).all()
    assert sound_quality(broken[:0], RATE_HZ).silent == 1


# Repetition.


def test_a_sound_that_lies_under_many_clips_is_counted_whatever_its_loudness_and_noise() -> None:
    rng = np.random.default_rng(1)
    jingle = tones(impacts(50), 50) + tones(impacts(51), 51)
    prints = []
    for number in range(24):
        noise = rng.normal(0, 1e-4, len(jingle)).astype(np.float32)
        sound = jingle * rng.uniform(0.3, 1) + noise if number < 10 else tones(impacts(number + 200), number)
        found = sound_print(sound, RATE_HZ)
        assert found is not None
        prints.append(found)
    counts = repeats(np.stack(prints))
    assert (counts[:10] >= 7).all()
    assert (counts[10:] == 0).all()


def test_silence_has_no_print() -> None:
    assert sound_print(np.zeros(4 * RATE_HZ, np.float32), RATE_HZ) is None
    assert sound_print(tones(impacts(1), 1)[: RATE_HZ // 2], RATE_HZ) is None
