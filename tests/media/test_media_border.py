"""Whatever is wrong with a file comes out of ``flywheel.media`` as MediaError, in one line; with damaged files."""

from __future__ import annotations

import ast
import os
import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import flywheel.media
from flywheel.core.errors import BorderError, MediaError
from flywheel.media import audio, encode, frames, probe, resounded, scenes
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode, write_clip, write_video
from flywheel.media.frames import read_frames
from flywheel.media.scenes import scene_cuts

ROOT = Path(__file__).resolve().parents[2]
FAST = Quality(crf=30, preset="ultrafast", threads=1)

_MONO = audio.SoundForm(rate_hz=16_000, channels=1, layout="mono")

#: All that read a file, as this test calls them: source and a place to write to.
READERS: dict[str, Callable[[Path, Path], object]] = {
    "file_hash": lambda source, out: probe.file_hash(source),
    "codecs": lambda source, out: probe.codecs(source),
    "probe": lambda source, out: probe.probe(source),
    "read_frames": lambda source, out: read_frames(source, [0.0, 0.5, 1.5], max_side=64),
    "iter_frames": lambda source, out: list(frames.iter_frames(source, iter([0.0, 1.0]))),
    "read_audio": lambda source, out: read_audio(source, 0.2, 1.0),
    "read_blocks": lambda source, out: list(audio.read_blocks(source, 0.2, 1.0)),
    "sound_choice": lambda source, out: audio.sound_choice(source),
    "sound_form": lambda source, out: audio.sound_form(source),
    "read_channels": lambda source, out: audio.read_channels(source, 0.2, np.zeros((12_800, 1), np.float32), _MONO),
    "scene_cuts": lambda source, out: scene_cuts(source),
    "write_clip": lambda source, out: write_clip(source, 0.4, 1.2, out),
    "transcode": lambda source, out: transcode(source, out, quality=FAST, max_side=64),
    "write_resounded": lambda source, out: resounded.write_resounded(source, out, None),
}
#: What a file's bytes alone are asked for, and the sound of a file without sound.
_READS_ANYTHING = {"file_hash"}
#: What asks for the sound and for no film; a file without sound is nothing for them.
_OF_SOUND = {"read_blocks", "read_channels", "sound_choice", "sound_form"}


def _video(path: Path, *, codec: str = "libx264", sound: tuple[int, str] = (16_000, "mono"), start_s: int = 0) -> None:
    """Two seconds of 64 x 48 with a tone, its ``sound`` being (rate in Hz, layout)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        tone = container.add_stream("aac", rate=sound[0], layout=sound[1])
        for index in range(20):
            picture = np.full((48, 64, 3), 30 + 10 * index, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = 10 * start_s + index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        samples = np.sin(np.arange(2 * sound[0]) / 5).astype(np.float32)
        for start in range(0, len(samples), 1024):
            part = np.ascontiguousarray(np.tile(samples[start : start + 1024], (1 + (sound[1] == "stereo"), 1)))
            block = av.AudioFrame.from_ndarray(part, format="fltp", layout=sound[1])
            block.pts, block.time_base = start_s * sound[0] + start, Fraction(1, sound[0])
            block.sample_rate = sound[0]
            container.mux(tone.encode(block))
        container.mux(tone.encode(None))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    for suffix in ("mp4", "mkv", "ts", "avi"):
        _video(folder / f"v.{suffix}", codec="mpeg4" if suffix == "avi" else "libx264")
    return {path.suffix[1:]: path for path in folder.iterdir()}


def _outcome(name: str, source: Path, out: Path) -> str:
    """What a function says of a file: "" where it read it, else its one line. Any other exception fails the test."""
    try:
        READERS[name](source, out)
    except MediaError as error:
        line = str(error)
        assert line, name
        assert "\n" not in line, name
        assert len(line) < 400, name
        return line
    return ""


def test_no_function_that_reads_files_is_left_out() -> None:
    readers = {
        name
        for module in (audio, encode, frames, probe, resounded, scenes)
        for name, function in vars(module).items()
        if getattr(function, "__module__", "") == module.__name__
        and not name.startswith("_")
        and {"path", "source"} & set(getattr(getattr(function, "__code__", None), "co_varnames", ())[:2])
    }
    assert readers == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_video(name: str, tmp_path: Path, good: dict[str, Path]) -> None:
    assert _outcome(name, good["mp4"], tmp_path / "out.mp4") == "", "a good file is read"
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "noise.mkv").write_bytes(random.Random(1).randbytes(5000))
    (tmp_path / "head.mp4").write_bytes(good["mp4"].read_bytes()[:300])
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for file in ("empty.mp4", "text.mp4", "noise.mkv", "head.mp4"):
        assert (_outcome(name, tmp_path / file, tmp_path / "out.mp4") == "") is (name in _READS_ANYTHING), file
    for file in ("gone.mp4", "folder.mp4", "dangling.mp4", "loop.mp4", "text.mp4/below.mp4", "x" * 300, "nul\0.mp4"):
        assert _outcome(name, tmp_path / file, tmp_path / "out.mp4"), file


@pytest.mark.parametrize("name", READERS)
@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(name: str, tmp_path: Path, good: dict[str, Path]) -> None:
    (tmp_path / "locked.mp4").write_bytes(good["mp4"].read_bytes())
    (tmp_path / "locked.mp4").chmod(0)
    assert "Permission denied" in _outcome(name, tmp_path / "locked.mp4", tmp_path / "out.mp4")


def _damaged(content: bytes, seed: int) -> Iterator[bytes]:
    """The content cut off, with a hole, and with bytes overwritten: few, and many."""
    rng = random.Random(seed)
    for share in (0.1, 0.5, 0.95):
        yield content[: int(share * len(content))]
    hole = len(content) // 3
    yield content[:hole] + bytes(hole) + content[2 * hole :]
    for count in (1, 1, 5, 20, 60):
        changed = bytearray(content)
        for _ in range(count):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_damaged_files_give_what_they_have_or_one_line(suffix: str, tmp_path: Path, good: dict[str, Path]) -> None:
    lines = set()
    for number, content in enumerate(_damaged(good[suffix].read_bytes(), seed=7)):
        source = tmp_path / f"{number}.{suffix}"
        source.write_bytes(content)
        for name in READERS:
            lines.add(_outcome(name, source, tmp_path / "out.mp4"))
    assert "" in lines


def test_a_file_with_sound_alone_holds_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        block.sample_rate = 16000
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    for name in READERS:
        line = _outcome(name, tmp_path / "sound.mp4", tmp_path / "out.mp4")
        assert (line == "") is (name in {"file_hash", "read_audio", *_OF_SOUND}), name


def test_sound_that_changes_its_format_midway_is_read_on(tmp_path: Path) -> None:
    """Broadcasts do so; two transport streams in a row are one."""
    _video(tmp_path / "one.ts", sound=(16_000, "mono"))
    _video(tmp_path / "two.ts", sound=(44_100, "stereo"), start_s=3)
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "one.ts").read_bytes() + (tmp_path / "two.ts").read_bytes())
    with av.open(str(both)) as container:
        rates = {frame.sample_rate for frame in container.decode(audio=0)}
    assert rates == {16_000, 44_100}, "the file is what this test is about"
    samples = read_audio(both, 0.0, 5.0)
    assert np.abs(samples[2_000:30_000]).max() > 0.5
    assert np.abs(samples[50_000:76_000]).max() > 0.5, "what comes after the change"
    transcode(both, tmp_path / "copy.mp4", quality=FAST)
    assert probe.probe(tmp_path / "copy.mp4").has_audio


def test_tags_that_are_no_utf8_do_not_matter(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        container.metadata["title"] = "Stra sse"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    content = (tmp_path / "v.mp4").read_bytes()
    assert content.count(b"Stra sse") == 1
    (tmp_path / "v.mp4").write_bytes(content.replace(b"Stra sse", b"Stra\xdfsse"))
    for name in READERS.keys() - _OF_SOUND:
        assert _outcome(name, tmp_path / "v.mp4", tmp_path / "out.mp4") == "", name


def test_a_disk_that_fails_is_not_the_videos_fault(tmp_path: Path, good: dict[str, Path]) -> None:
    out = tmp_path / "no folder" / "out.mp4"
    picture = np.zeros((48, 64, 3), dtype=np.uint8)
    sound = np.zeros(1024, dtype=np.float32), 16_000
    for write in (
        lambda: write_clip(good["mp4"], 0.4, 1.2, out),
        lambda: write_clip(good["mp4"], 0.0, 99.0, out),
        lambda: transcode(good["mp4"], out, quality=FAST),
        lambda: write_video(out, [picture], size=(64, 48), fps=10, quality=FAST, sound=sound),
    ):
        with pytest.raises(BorderError, match=r"out\.mp4: can't be written \(No such file or directory\)\. Check"):
            write()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_says_so(good: dict[str, Path]) -> None:
    with pytest.raises(BorderError, match=r"No space left on device\)\. Free space"):
        transcode(good["mp4"], Path("/dev/full"), quality=FAST)


def test_nobody_else_imports_ffmpeg() -> None:
    """import-linter says the same; this finds imports within functions of files that it does not build a graph of."""
    room = Path(flywheel.media.__file__).parent
    for package in ("flywheel", "noise_control", "annotators", "trainers", "human_refine"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            # Parsing every file takes seconds.
            for node in ast.walk(ast.parse(text)) if re.search(r"(import|from)\s.*\b(av|scenedetect)\b", text) else ():
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                foreign = {name.split(".")[0] for name in names} & {"av", "scenedetect"}
                assert not foreign or path.is_relative_to(room), path
