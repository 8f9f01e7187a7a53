"""Which stream of a file is its film, its sound and its words, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from av.stream import Disposition

from flywheel.core.errors import MediaError
from flywheel.ingest import ingest
from flywheel.media.audio import read_audio
from flywheel.media.encode import Quality, transcode
from flywheel.media.frames import read_frames
from flywheel.media.probe import MediaInfo, codecs, probe
from flywheel.media.scenes import scene_cuts
from flywheel.status import history_of
from flywheel.store import Workspace
from tests.media.made import Pictures, Texts, Tone, Track, write

TIMES = [i / 25 for i in range(25)]
FILM = Pictures(times_s=TIMES)
COVER = Pictures(times_s=[0.0], codec="mjpeg", pixels="yuvj420p", size=(96, 96), first=250)


def left(info: MediaInfo) -> dict[int, str]:
    """Why each stream that is not used was left."""
    return {track.index: track.left for track in info.tracks if track.left}


def pitch_hz(path: Path) -> float:
    """The strongest frequency of the first 0.8 s."""
    samples = read_audio(path, 0.1, 0.9)
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) / 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "tracks", "index"),
    [
        ("mkv", [COVER, FILM], 1),
        ("mkv", [FILM, COVER], 0),
        ("mkv", [Pictures(times_s=[0.0], size=(96, 96)), FILM], 1),
        ("mkv", [Pictures(times_s=TIMES, size=(96, 96)), Pictures(times_s=TIMES, flags=Disposition.default)], 1),
        ("mkv", [FILM, Pictures(times_s=TIMES, size=(96, 96))], 0),
        ("mov", [COVER, FILM], 1),
        ("webm", [Pictures(times_s=[0.0], size=(96, 96), codec="libvpx"), Pictures(times_s=TIMES, codec="libvpx")], 1),
    ],
)
def test_the_film_is_what_moves_and_is_the_default(
    suffix: str, tracks: list[Track], index: int, tmp_path: Path
) -> None:
    path = write(tmp_path / f"v.{suffix}", *tracks)
    info = probe(path)
    assert (info.width, info.height, info.duration_s) == (64, 48, pytest.approx(1.0, abs=0.02))
    assert left(info) == {1 - index: "another was chosen"}
    frames = read_frames(path, [0.0, 0.5, 0.9])
    assert frames.shape[1:] == (48, 64, 3)
    assert [round(float(f.mean())) for f in frames] == pytest.approx([20, 68, 108], abs=4)
    transcode(path, tmp_path / "copy.mp4", quality=Quality(crf=20, preset="ultrafast"))
    assert read_frames(tmp_path / "copy.mp4", [0.9])[0].mean() == pytest.approx(108, abs=6)
    assert scene_cuts(path) == []
    assert codecs(path).is_plain is (index == 0)


def test_a_film_that_nothing_decodes_gives_way_to_one_that_is(tmp_path: Path) -> None:
    damaged = Pictures(times_s=TIMES, size=(96, 96), damaged=range(25), codec="libvpx-vp9", flags=Disposition.default)
    info = probe(write(tmp_path / "v.mkv", damaged, FILM))
    assert (info.width, info.height) == (64, 48)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracks", "hz"),
    [
        ([Tone(seconds=1, hz=300), Tone(seconds=1, hz=600)], 300),
        ([Tone(seconds=1, hz=300), Tone(seconds=1, hz=600, flags=Disposition.default)], 600),
        ([Tone(seconds=1, hz=300, flags=Disposition.comment), Tone(seconds=1, hz=600)], 600),
        ([Tone(seconds=1, hz=300, tags={"title": "Director's commentary"}), Tone(seconds=1, hz=600)], 600),
        (
            [
                Tone(seconds=1, hz=300, flags=Disposition.default | Disposition.visual_impaired),
                Tone(seconds=1, hz=450, flags=Disposition.hearing_impaired),
                Tone(seconds=1, hz=600),
            ],
            600,
        ),
        ([Tone(seconds=1, hz=300, codec="aac", damaged=range(60)), Tone(seconds=1, hz=600)], 600),
        ([Tone(seconds=1, hz=300, flags=Disposition.comment)], 300),
    ],
)
def test_the_sound_is_the_default_and_the_main_one(tracks: list[Tone], hz: float, tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", FILM, *tracks)
    assert probe(path).has_audio
    assert pitch_hz(path) == pytest.approx(hz, abs=3)
    transcode(path, tmp_path / "copy.mp4", quality=Quality(crf=30, preset="ultrafast"))
    assert pitch_hz(tmp_path / "copy.mp4") == pytest.approx(hz, abs=3)
    assert codecs(path).is_plain is (hz == 300)


CUES = [(0.1, 0.3, "They stay at home")]
OTHERS = [(0.1, 0.3, "Something else")]


@pytest.mark.parametrize(
    "tracks",
    [
        [Texts(cues=OTHERS, flags=Disposition.forced), Texts(cues=CUES)],
        [Texts(cues=OTHERS), Texts(cues=CUES, flags=Disposition.default)],
        [Texts(cues=OTHERS, tags={"title": "Signs & Songs"}), Texts(cues=CUES)],
        [Texts(cues=OTHERS, flags=Disposition.comment), Texts(cues=CUES, flags=Disposition.hearing_impaired)],
        [Texts(cues=OTHERS, tags={"title": "English (SDH)"}), Texts(cues=CUES)],
        [Texts(cues=OTHERS, flags=Disposition.forced | Disposition.default), Texts(cues=CUES)],
        [Texts(cues=[]), Texts(cues=CUES, flags=Disposition.forced)],
    ],
)
def test_the_words_are_all_that_is_spoken(tracks: list[Texts], tmp_path: Path) -> None:
    info = probe(write(tmp_path / "v.mkv", FILM, *tracks))
    assert info.subtitles == ((0.1, pytest.approx(0.4), "They stay at home"),)


def test_what_was_chosen_and_left_is_told(tmp_path: Path) -> None:
    path = write(
        tmp_path / "v.mkv",
        FILM,
        Tone(seconds=1, tags={"language": "ger", "title": "Ton"}),
        Tone(seconds=1, flags=Disposition.comment),
        Texts(cues=CUES, tags={"language": "fre"}),
        Texts(cues=OTHERS, flags=Disposition.forced),
    )
    info = probe(path)
    assert [(t.kind, t.language, t.title) for t in info.tracks if not t.left] == [
        ("picture", "", ""),
        ("sound", "ger", "Ton"),
        ("subtitle", "fre", ""),
    ]
    assert left(info) == {2: "stands beside the main sound", 4: "forced"}


def test_the_choice_stands_on_the_clip(make_workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    main = Tone(seconds=1, tags={"language": "ger", "title": "Haupt\nton"})
    write(films / "several.mkv", FILM, Tone(seconds=1, flags=Disposition.comment), main)
    write(films / "plain.mkv", Pictures(times_s=TIMES, first=60), Tone(seconds=1, hz=700))
    workspace = make_workspace()
    with workspace.lock():
        assert ingest(workspace, [str(films)]).clips == 2
    ids = {Path(uri).name: clip for clip, uri in workspace.clips().select("id", "uri").rows()}
    history = history_of(workspace, ids["several.mkv"])
    assert [(t["kind"], t.get("language"), t.get("left")) for t in history.to_json()["tracks"]] == [
        ("picture", None, None),
        ("sound", None, "stands beside the main sound"),
        ("sound", "ger", None),
    ]
    assert "stream 1, sound: pcm_s16le, comment; left: stands beside the main sound" in str(history).splitlines()
    assert history_of(workspace, ids["plain.mkv"]).tracks == []
    with workspace.lock():
        workspace.takedowns.remove_records([ids["several.mkv"]])
    assert history_of(workspace, ids["several.mkv"]).tracks == []


def test_a_cover_is_no_film(tmp_path: Path) -> None:
    cover = Pictures(times_s=[0.0], codec="png", pixels="rgb24", size=(96, 96), flags=Disposition.attached_pic)
    path = write(tmp_path / "film.mp4", cover, FILM)
    info = probe(path)
    assert (info.width, info.duration_s) == (64, pytest.approx(1.0))
    assert "a picture that is no film" in left(info).values()
    write(tmp_path / "song.mp4", cover, Tone(seconds=1, codec="aac"))
    with pytest.raises(MediaError, match="holds only sound"):
        probe(tmp_path / "song.mp4")
    assert pitch_hz(tmp_path / "song.mp4") == pytest.approx(440, abs=3)
