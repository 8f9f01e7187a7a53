"""Sound stays with its picture through every container: as read, cut, made smaller, edited and written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy
from numpy.typing import NDArray

from flywheel.curation.repair.plan import Step, plan
from flywheel.curation.repair.rendering import render
from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode, write_clip, write_video
from flywheel.media.grey import read_grey
from flywheel.sound import actions
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from tests.media.made import Pictures, Tone, write

FPS, SECONDS, RATE_HZ, SOURCE_HZ = 25, 2.2, 16_000, 48_000
NUM_PICTURES = round(FPS * SECONDS)
STEP = 4
FAST = Quality(crf=12, preset="ultrafast", threads=1)
#: Containers with their codecs of picture and sound.
CONTAINERS = {
    "mp4": ("libx264", "aac"),
    "mkv": ("libx264", "aac"),
    "mov": ("libx264", "pcm_s16le"),
    "ts": ("libx264", "aac"),
    "webm": ("libvpx-vp9", "libopus"),
}
CUT_S = (0.32, 2.08)
WINDOW_S = 0.35


def noise(offset_s: float) -> NDArray[np.float32]:
    """Noise of the voice's band that is the same each time, later by ``offset_s``."""
    rng = np.random.default_rng(5)
    wave = rng.normal(size=round((SECONDS + 1) * SOURCE_HZ))
    band = scipy.signal.sosfilt(scipy.signal.butter(4, (300, 3000), "band", fs=SOURCE_HZ, output="sos"), wave)
    begin = round((0.5 - offset_s) * SOURCE_HZ)
    return (0.2 * band[begin : begin + round(SECONDS * SOURCE_HZ)] / band.std()).astype(np.float32)


def sound_late_s(samples: NDArray[np.float32], begins_s: float) -> list[float]:
    """By how much the noise is late at several places of a sound that begins at ``begins_s`` of the film."""
    truth = scipy.signal.resample_poly(noise(0.0), RATE_HZ, SOURCE_HZ)
    found, size, most = [], round(WINDOW_S * RATE_HZ), round(0.1 * RATE_HZ)
    for at in range(most, len(samples) - size - most, size):
        wanted = round(begins_s * RATE_HZ) + at
        if wanted + size > len(truth):
            break
        curve = scipy.signal.correlate(samples[at - most : at + size + most], truth[wanted : wanted + size], "valid")
        # To a tenth of a sample: 6 microseconds.
        fine = scipy.signal.resample_poly(curve, 10, 1)
        found.append(float(np.argmax(fine)) / 10 / RATE_HZ - most / RATE_HZ)
    return found


def pictures_late_s(path: Path, begins_s: float) -> list[float]:
    """By how much each picture is late, as its brightness tells which one it is; the first and last are left out."""
    times_s, grey = read_grey(path, 0, SECONDS)
    numbers = np.rint((grey.mean(axis=(1, 2)) - 20) / STEP)
    return (times_s + begins_s - numbers / FPS)[1:-1].tolist()


def drift_s(path: Path, begins_s: float) -> list[float]:
    """By how much the sound is later than the pictures, at several places."""
    pictures = pictures_late_s(path, begins_s)
    assert max(pictures) - min(pictures) < 1e-3, pictures
    sounds = sound_late_s(read_audio(path, 0, SECONDS - begins_s, rate_hz=RATE_HZ), begins_s)
    assert len(sounds) >= 3
    return [late - float(np.median(pictures)) for late in sounds]


@pytest.mark.slow
@pytest.mark.parametrize("planted_s", [0.04, -0.04])
@pytest.mark.parametrize("ending", CONTAINERS)
def test_sound_stays_within_a_millisecond_of_its_picture(ending: str, planted_s: float, tmp_path: Path) -> None:
    """Planted offsets are read back; cut, proxy and repair move the sound by no more than a millisecond."""
    picture, sound = CONTAINERS[ending]
    film = Pictures(times_s=[i / FPS for i in range(NUM_PICTURES)], codec=picture, step=STEP)
    source = write(tmp_path / f"film.{ending}", film, Tone(samples=noise(planted_s), codec=sound, rate_hz=SOURCE_HZ))
    assert drift_s(source, 0.0) == pytest.approx([planted_s] * len(drift_s(source, 0.0)), abs=2e-3)
    before = float(np.median(drift_s(source, 0.0)))

    cut = tmp_path / "cut.mp4"
    write_clip(source, *CUT_S, cut)
    proxy = tmp_path / "proxy.mp4"
    transcode(cut, proxy, quality=FAST, max_side=48)
    for path in (cut, proxy):
        assert drift_s(path, CUT_S[0]) == pytest.approx([before] * len(drift_s(path, CUT_S[0])), abs=1e-3), path.name

    repaired = tmp_path / "repaired.mp4"
    samples = read_audio(cut, 0, CUT_S[1] - CUT_S[0], rate_hz=SOURCE_HZ)
    edited = actions.build("shift", seconds=-planted_s)(samples, SOURCE_HZ)
    _, grey = read_grey(cut, 0, SECONDS)
    write_video(
        repaired,
        (np.repeat(frame[:, :, None], 3, axis=2) for frame in grey),
        size=(64, 48),
        fps=FPS,
        quality=FAST,
        sound=(edited, SOURCE_HZ),
    )
    gone = drift_s(repaired, CUT_S[0])
    assert gone == pytest.approx([before - planted_s] * len(gone), abs=1e-3)


@pytest.mark.slow
def test_ingest_and_repair_keep_sound_and_picture_together(
    tmp_path: Path, make_workspace: Callable[..., Workspace]
) -> None:
    """Of a film in each container: as its clip is read after ingest, and as the edited sound is written."""
    (tmp_path / "films").mkdir()
    for ending, (picture, sound) in CONTAINERS.items():
        film = Pictures(times_s=[i / FPS for i in range(NUM_PICTURES)], codec=picture, step=STEP)
        tone = Tone(samples=noise(0.04), codec=sound, rate_hz=SOURCE_HZ)
        write(tmp_path / "films" / f"film-{ending}.{ending}", film, tone)
    w = make_workspace("corpus.near_duplicates=false")
    with w.lock():
        ingest(w, [str(tmp_path / "films")])
    clips = {Path(clip.uri).suffix[1:]: clip for clip in ClipIndex(w).values()}
    assert set(clips) == set(CONTAINERS)
    late = plan([Step(action="shift", parameters={"seconds": -0.04})])
    for ending, clip in clips.items():
        times_s, grey = read_grey(Path(clip.uri), clip.start_s, clip.end_s)
        numbers = np.rint((grey.mean(axis=(1, 2)) - 20) / STEP)
        pictures_s = float(np.median((times_s - numbers / FPS)[1:-1])) + clip.start_s
        kept, _ = render(clip, late, w.sound_files, lambda: None)
        for file, start_s, end_s, planted_s in (
            (Path(clip.uri), clip.start_s, clip.end_s, 0.04),
            (w.sound_files.place(kept), 0.0, clip.duration_s, 0.0),
        ):
            places = sound_late_s(read_audio(file, start_s, end_s, rate_hz=RATE_HZ), clip.start_s)
            off_s = [place - pictures_s for place in places]
            assert len(off_s) >= 3
            assert off_s == pytest.approx([planted_s] * len(off_s), abs=1e-3), (ending, file.name)
