"""Decoding by time: variable frame rate, rotation, pixel aspect, odd containers, damage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from flywheel.core.errors import MediaError
from flywheel.core.timing import fps_times, frame_index, uniform_times
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode, write_clip
from flywheel.media.frames import read_frames
from flywheel.media.probe import probe


def write_video(
    path: Path,
    times_s: list[float],
    *,
    size: tuple[int, int] = (64, 48),
    aspect: Fraction | None = None,
    codec: str = "libx264",
) -> None:
    """Frames whose grey level is their index times ten, shown at these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"crf": "5"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for index, time_s in enumerate(times_s):
            picture = np.full((size[1], size[0], 3), 20 + index * 10, dtype=np.uint8)
            picture[:, : size[0] // 2] //= 2
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def indices(frames: np.ndarray) -> list[int]:
    """Which of write_video's frames these are."""
    return [round((float(f[:, -8:].mean()) - 20) / 10) for f in frames]


def test_variable_frame_rate_is_read_by_time(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 1.0, 1.1, 3.0, 3.5]
    write_video(tmp_path / "v.mp4", times)
    asked = [0.0, 0.15, 0.99, 1.0, 2.9, 3.0, 3.4, 3.5, 9.0]
    wanted = [max(i for i, t in enumerate(times) if t <= a) for a in asked]
    assert indices(read_frames(tmp_path / "v.mp4", asked)) == wanted


def test_far_times_are_sought_and_equal_the_sequential(tmp_path: Path) -> None:
    times = [i * 0.5 for i in range(21)]
    write_video(tmp_path / "v.mp4", times)
    assert indices(read_frames(tmp_path / "v.mp4", [0.0, 6.2, 9.9])) == [0, 12, 19]


def test_pixel_aspect_makes_square_pixels(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [0, 0.04, 0.08], aspect=Fraction(2, 1))
    info = probe(tmp_path / "v.mp4")
    assert (info.width, info.height) == (128, 48)
    assert read_frames(tmp_path / "v.mp4", [0.0]).shape == (1, 48, 128, 3)


def test_rotation_is_undone(tmp_path: Path) -> None:
    """A file whose display matrix says a quarter turn is as high as it was wide."""
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    write_video(plain, [0, 0.04, 0.08])
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd")
    # The matrix of the track header: 40 bytes after the version (version 0), nine fixed-point numbers.
    matrix = at + 4 + 40
    one = (1 << 16).to_bytes(4, "big")
    minus_one = (-(1 << 16)).to_bytes(4, "big", signed=True)
    data[matrix : matrix + 36] = b"".join(
        (bytes(4), one, bytes(4), minus_one, bytes(4), bytes(4), bytes(4), bytes(4), (1 << 30).to_bytes(4, "big"))
    )
    turned.write_bytes(bytes(data))
    before = read_frames(plain, [0.0])[0]
    after = read_frames(turned, [0.0])[0]
    transcode(turned, tmp_path / "copy.mp4", quality=Quality(crf=20, preset="veryfast"))
    assert np.abs(read_frames(tmp_path / "copy.mp4", [0.0])[0].astype(int) - after).mean() < 6, (
        "a copy for browsers stands upright too"
    )
    assert after.shape == (64, 48, 3)
    # Shown a quarter turn clockwise, what was left (dark) is on top.
    assert after[:20].mean() < after[-20:].mean()
    assert before[:, :20].mean() < before[:, -20:].mean()


def test_a_span_becomes_a_video_of_its_own(corpus: Path, tmp_path: Path) -> None:
    source = sorted((corpus / "corpus").glob("*.mp4"))[0]
    info = probe(source)
    assert write_clip(source, 0.0, info.duration_s, tmp_path / "whole") == ".mp4"
    assert (tmp_path / "whole").read_bytes() == source.read_bytes(), "a whole file goes out as it is"
    start, end = 0.4 * info.duration_s, 0.8 * info.duration_s
    for name in ("one", "two"):
        assert write_clip(source, start, end, tmp_path / name) == ".mp4"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    part = probe(tmp_path / "one")
    assert abs(part.duration_s - (end - start)) <= 2 / info.fps
    assert part.has_audio == info.has_audio
    wanted = read_frames(source, [start + 0.5])[0].astype(int)
    found = read_frames(tmp_path / "one", [0.5])[0].astype(int)
    assert np.abs(wanted - found).mean() < 8
    heard, was = (read_audio(p, a, a + 0.5) for p, a in ((tmp_path / "one", 0.2), (source, start + 0.2)))
    if np.abs(was).max() > 0.05:
        lag = int(np.argmax(np.correlate(heard, was, "full"))) - len(was) + 1
        assert abs(lag) < 16_000 * 0.005, "the sound stays with the picture"


def test_scaling_keeps_the_shape(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [0, 0.04], size=(640, 360))
    assert read_frames(tmp_path / "v.mp4", [0.0], max_side=320).shape == (1, 180, 320, 3)


def test_a_single_frame_is_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [0.0])
    assert probe(tmp_path / "v.mp4").duration_s > 0
    assert read_frames(tmp_path / "v.mp4", [0.0, 0.01]).shape[0] == 2


def test_what_is_no_video_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        block.sample_rate = 16000
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    for name, reason in (
        ("empty", "0 bytes"),
        ("text", "not a readable video"),
        ("sound", "only sound"),
        ("gone", "can't be read|No such file"),
    ):
        with pytest.raises(MediaError, match=reason):
            probe(tmp_path / f"{name}.mp4")


def test_a_truncated_file_gives_what_it_has(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mkv", [i * 0.04 for i in range(22)], size=(320, 240))
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    info = probe(tmp_path / "cut.mkv")
    assert 0 < info.duration_s < probe(tmp_path / "whole.mkv").duration_s
    assert len(read_frames(tmp_path / "cut.mkv", uniform_times(0, info.duration_s, 4))) == 4


def test_sound_lies_where_it_belongs(corpus: Path) -> None:
    from flywheel.playground import scenes

    path = sorted((corpus / "corpus").glob("*.mp4"))[0]
    scene = scenes.sample_scene(5 * 20_000)
    samples = read_audio(path, 0.0, 3.2)
    assert samples.shape == (51_200,)
    onset = np.flatnonzero(np.abs(samples) > 0.05)[0] / 16_000
    assert onset == pytest.approx(scene.start_s, abs=0.05)
    later = read_audio(path, 1.0, 2.0)
    assert np.corrcoef(later, samples[16_000:32_000])[0, 1] > 0.99


def test_time_to_frames() -> None:
    assert frame_index(0.3, 10) == 3, "0.3 * 10 is 2.9999 in floating point"
    assert uniform_times(2.0, 4.0, 4) == [2.25, 2.75, 3.25, 3.75]
    assert len(fps_times(0, 10, 2, 8)) == 8
    assert len(fps_times(0, 0.1, 2, 8)) == 1


def test_real_files(real_clips: Path) -> None:
    wanted = {
        "nasa_13013.mp4": (13.0, 25.0, True, 4),
        "dj_video11.mp4": (12.0, 24.0, True, 0),
        "av1_video.mkv": (5.0, 25.0, False, 0),
        "h265_video.mp4": (1.0, 10.0, False, 0),
        "h264_10bits.mp4": (1.0, 30.0, False, 0),
    }
    for name, (duration_s, fps, has_audio, num_cues) in wanted.items():
        info = probe(real_clips / name)
        assert info.duration_s == pytest.approx(duration_s, abs=0.15), name
        assert info.fps == pytest.approx(fps, rel=0.01), name
        assert info.has_audio is has_audio, name
        assert len(info.subtitles) >= num_cues, name
        frames = read_frames(real_clips / name, uniform_times(0, info.duration_s, 8), max_side=448)
        assert len(frames) == 8
        assert frames.std() > 5
