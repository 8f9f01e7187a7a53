"""Pictures and sound at the times at which a player shows and plays them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe
from tests.media.made import Pictures, Texts, Tone, set_edits, write

RATE_HZ = 16_000
FAST = Quality(crf=20, preset="ultrafast", threads=1)
FILM = Pictures(times_s=[i / 25 for i in range(50)])


def shades(path: Path, times_s: list[float]) -> list[int]:
    """Which of the film's pictures are on screen at these times."""
    return [round((float(f.mean()) - 20) / 4) for f in read_frames(path, times_s)]


def loud(samples: NDArray[np.float32], step_s: float = 0.1) -> str:
    """A sign for each tenth of a second: ``#`` for a tone, ``.`` for silence, ``?`` for what is neither."""
    blocks = samples[: len(samples) // round(step_s * RATE_HZ) * round(step_s * RATE_HZ)]
    levels = np.sqrt((blocks.reshape(-1, round(step_s * RATE_HZ)) ** 2).mean(1))
    return "".join("#" if level > 0.3 else "." if level < 0.01 else "?" for level in levels)


def test_what_an_edit_list_hides_does_not_count(tmp_path: Path) -> None:
    """Negative times in MP4 become an edit list: pictures that only lead in."""
    path = write(tmp_path / "v.mp4", FILM, shift_s=-0.6, options={"avoid_negative_ts": "disabled"})
    assert probe(path).duration_s == pytest.approx(1.4, abs=0.01)
    assert shades(path, [0.0, 0.4, 1.3]) == [15, 25, 47]
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    assert shades(tmp_path / "copy.mp4", [0.0, 0.4, 1.3]) == [15, 25, 47]


def test_several_edits_are_shown_in_their_order(tmp_path: Path) -> None:
    """Picture and sound each have their own list, with a pause in one of them."""
    long = Pictures(times_s=[i / 25 for i in range(100)], step=2, gop=10)
    path = write(tmp_path / "v.mp4", long, Tone(seconds=4, codec="aac"))
    set_edits(path, 0, [(1.0, 0.52), (1.0, 2.4)])
    set_edits(path, 1, [(0.7, None), (0.8, 1.0)])
    assert probe(path).duration_s == pytest.approx(2.0, abs=0.05)
    seen = [(f.mean() - 20) / 2 for f in read_frames(path, [0.01, 0.9, 1.1, 1.9])]
    assert seen == pytest.approx([13, 35, 62, 82], abs=1.5)
    for index, at_s in enumerate([0.01, 0.9, 1.1, 1.9]):
        assert (read_frames(path, [at_s])[0].mean() - 20) / 2 == pytest.approx(seen[index], abs=0.1)
    assert loud(read_audio(path, 0, 2)).replace("?", ".") == 7 * "." + 8 * "#" + 5 * "."
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    assert loud(read_audio(tmp_path / "copy.mp4", 0, 2)).replace("?", ".") == 7 * "." + 8 * "#" + 5 * "."


@pytest.mark.parametrize("shift_s", [0.0, 100.0])
def test_times_count_from_the_first_picture(shift_s: float, tmp_path: Path) -> None:
    """Whatever the file's clock says then; sound and words are on the same clock."""
    tone = Tone(seconds=2, moved=lambda at_s: at_s if 0.5 <= at_s < 1.5 else None)
    texts = Texts(cues=[(0.3, 0.4, "One"), (1.0, 0, "Two"), (1.5, 0, "Three")])
    path = write(tmp_path / "v.mkv", FILM, tone, texts, shift_s=shift_s)
    info = probe(path)
    assert info.duration_s == pytest.approx(2.0, abs=0.02)
    assert [(round(a, 2), round(b, 2)) for a, b, _ in info.subtitles] == [
        (0.3, 0.7),
        (1.0, 1.5),
        (1.5, 2.0),
    ]
    assert shades(path, [0.0, 1.0, 1.9]) == [0, 25, 47]
    assert loud(read_audio(path, 0, 2)) == "....." + 10 * "#" + "....."
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    assert loud(read_audio(tmp_path / "copy.mp4", 0, 2)).replace("?", ".") == "....." + 10 * "#" + "....."


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["pcm_s16le", "aac", "libopus"])
def test_a_gap_in_the_sound_is_silence(codec: str, tmp_path: Path) -> None:
    tone = Tone(seconds=2, codec=codec, moved=lambda at_s: at_s if not 0.6 <= at_s < 1.2 else None)
    path = write(tmp_path / "v.mkv", FILM, tone)
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    for file in (path, tmp_path / "copy.mp4"):
        heard = loud(read_audio(file, 0, 1.9))
        assert (heard[:5], heard[7:11], heard[13:]) == ("#####", "....", "######"), (file, heard)


def test_jitter_of_time_stamps_makes_no_clicks(tmp_path: Path) -> None:
    """Recorders of calls round and jitter; what follows within a twentieth of a second follows."""
    plain = write(tmp_path / "plain.mkv", FILM, Tone(seconds=2))
    moved = Tone(seconds=2, moved=lambda at_s: at_s + 0.02 * (round(at_s * 50) % 3 == 2))
    jitter = write(tmp_path / "jitter.mkv", FILM, moved)
    assert np.array_equal(read_audio(plain, 0, 2), read_audio(jitter, 0, 2))


@pytest.mark.slow
def test_overlapping_sound_stays_at_its_time(tmp_path: Path) -> None:
    """Sound of 1.0 s comes again at its end, as where a call is joined anew: what is later stays later."""
    tone = Tone(seconds=2, moved=lambda at_s: at_s if at_s < 1 else at_s - 0.3)
    path = write(tmp_path / "v.mkv", FILM, tone)
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    for file in (path, tmp_path / "copy.mp4"):
        assert loud(read_audio(file, 0, 2)).replace("?", ".") == 17 * "#" + "...", file


def joined(tmp_path: Path, *parts: tuple[float, tuple[int, int]]) -> Path:
    """Transport streams in a row, each of a second, at these times and sizes."""
    content = b""
    for number, (shift_s, size) in enumerate(parts):
        film = Pictures(times_s=[i / 25 for i in range(25)], size=size, first=20 + 100 * number, options={"bf": "0"})
        tone = Tone(seconds=1, codec="mp2")
        content += write(tmp_path / f"{number}.ts", film, tone, shift_s=shift_s).read_bytes()
    (tmp_path / "joined.ts").write_bytes(content)
    return tmp_path / "joined.ts"


@pytest.mark.slow
@pytest.mark.parametrize("second_s", [0.0, 500.0, 1.0])
def test_a_clock_that_jumps_goes_on(second_s: float, tmp_path: Path) -> None:
    """Two files in a row, whose clocks begin anew, or far ahead, or where the first one's ended."""
    path = joined(tmp_path, (0.0, (64, 48)), (second_s, (64, 48)))
    assert probe(path).duration_s == pytest.approx(2.0, abs=0.1)
    assert shades(path, [0.0, 0.6, 0.9, 1.2, 1.9]) == pytest.approx([0, 15, 22, 30, 47], abs=1)
    assert loud(read_audio(path, 0, 1.9)).count("#") >= 18
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    assert probe(tmp_path / "copy.mp4").duration_s == pytest.approx(2.0, abs=0.1)
    assert shades(tmp_path / "copy.mp4", [0.6, 1.2, 1.9]) == pytest.approx([15, 30, 47], abs=1)
    assert loud(read_audio(tmp_path / "copy.mp4", 0, 1.9)).count("#") >= 18


@pytest.mark.slow
def test_a_size_that_changes_within_a_file(tmp_path: Path) -> None:
    path = joined(tmp_path, (0.0, (64, 48)), (1.0, (96, 32)))
    frames = read_frames(path, [0.1, 1.5])
    assert frames.shape == (2, 48, 64, 3)
    assert frames[1][:10].max() < 8, "borders above a wider picture"
    assert frames[1][24].mean() > 120
    assert read_frames(path, [1.5]).shape == (1, 32, 96, 3)
    transcode(path, tmp_path / "copy.mp4", quality=FAST)
    assert read_frames(tmp_path / "copy.mp4", [1.5])[0][:8].max() < 24


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "mpeg4"])
def test_a_damaged_packet_costs_what_depends_on_it(codec: str, tmp_path: Path) -> None:
    times = [i / 25 for i in range(50)]
    pictures = {"codec": codec, "times_s": times, "gop": 20}
    good = write(tmp_path / "good.mkv", Pictures(**pictures))
    bad = write(tmp_path / "bad.mkv", Pictures(**pictures, damaged=[25]))
    asked = [0.1, 0.5, 1.7, 1.9]
    assert np.array_equal(read_frames(good, asked), read_frames(bad, asked))
    assert probe(bad).duration_s == probe(good).duration_s


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["aac", "libopus", "mp2", "flac"])
def test_a_damaged_packet_of_sound_costs_no_more(codec: str, tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", FILM, Tone(seconds=2, codec=codec, damaged=[40]))
    heard = loud(read_audio(path, 0, 1.9))
    assert heard.count("#") >= 16, heard
    assert heard[-5:] == "#####", heard


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("avi", "mpeg4", {"bf": "2", "b": "4000000"}),
        ("vob", "mpeg2video", {"bf": "2", "b": "4000000"}),
        ("ts", "libx264", {"bf": "2"}),
        ("mkv", "libx264", {"bf": "2"}),
        ("mp4", "libx264", {"bf": "3"}),
        ("webm", "libvpx", {}),
    ],
)
def test_a_frame_is_the_same_whether_sought_or_come_to(
    suffix: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    """AVI holds no times of pictures, and what FFmpeg makes of a disc's after a seek is another picture's."""
    times = [i / 25 for i in range(150)]
    film = Pictures(times_s=times, codec=codec, options=options, step=1, gop=12)
    path = write(tmp_path / f"v.{suffix}", film, Tone(seconds=6, codec="libopus" if suffix == "webm" else "mp2"))
    asked = [t + 0.01 for t in times[:148]]
    in_order = read_frames(path, asked)
    brightness = in_order.reshape(len(asked), -1).mean(1)
    assert np.abs(brightness - (20 + np.arange(148))).max() < 4, "each picture at its time"
    for index in (0, 17, 35, 36, 37, 75, 147):
        assert np.array_equal(read_frames(path, [asked[index]])[0], in_order[index]), index
    later = read_audio(path, 4.5, 5.5)
    assert np.abs(later).min() < 0.1 < np.abs(later).max()


def test_the_last_picture_is_shown_as_long_as_the_file_says(tmp_path: Path) -> None:
    """Packets say how far decoding times lie apart, which is another thing where the rate varies."""
    times = [0.0, 0.04, 0.08, 0.12, 0.9, 0.94, 0.98, 1.8, 1.84, 1.88, 1.92]
    path = write(tmp_path / "v.mp4", Pictures(times_s=times, options={"bf": "2"}))
    assert probe(path).duration_s == pytest.approx(1.96, abs=0.05)
    assert shades(path, [0.5, 0.95, 1.7, 1.93]) == [3, 5, 6, 10]
