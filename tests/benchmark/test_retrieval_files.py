"""Files of retrieval benchmarks as their users have them, and what an encoder finds by them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flywheel.benchmark.described import read
from flywheel.benchmark.retrieval import Described
from flywheel.benchmark.retrieving import MediaFiles, best_of_several, retrieve
from flywheel.cli import app
from flywheel.core.errors import MediaError, UserError
from flywheel.media.encode import Quality, write_video
from flywheel.metrics.retrieval import recall_at
from flywheel.models import encoders
from flywheel.models.encoder_files import save_encoder

_TINY = {"width": 16, "heads": 2, "layers": 1, "decoder_width": 8, "frames": 1, "frame_size": 16, "patch": 8}
_TINY |= {"bands": 8, "times": 8, "sound_patch": 8}


def _msrvtt(folder: Path) -> list[Described]:
    (folder / "MSRVTT_JSFUSION_test.csv").write_text(
        "key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person connects a cable\n"
        'ret1,msr9771,video9771,"two men, one of them sings"\nret2,msr7020,,nothing\nret3,msr7021,video7021,\n'
    )
    return [
        Described(key="video9770", text="a person connects a cable", names=("video9770",)),
        Described(key="video9771", text="two men, one of them sings", names=("video9771",)),
    ]


def _audiocaps(folder: Path) -> list[Described]:
    rows = ("1,-abc_1,30,A dog barks", "2,-abc_1,30,Barking", "3,,30,x", "4,b,late,y")
    (folder / "test.csv").write_text("\n".join(("audiocap_id,youtube_id,start_time,caption", *rows)))
    parts = ("-abc_1_30_40", "-abc_1_30000_40000", "-abc_1_30")
    names = (*parts, *(f"Y{part}" for part in parts), "-abc_1", "Y-abc_1")
    return [Described(key="-abc_1_30", text=text, names=names) for text in ("A dog barks", "Barking")]


def _sounddescs(folder: Path) -> list[Described]:
    values = {"nhu05001": "Wind in trees", "07076051": [["Rain", "on", "a", "roof"]], "other": "Of no test", "x": 3}
    (folder / "descriptions.pkl").write_bytes(pickle.dumps(values))
    (folder / "test_list.txt").write_text("nhu05001\n07076051\nx\n")
    pairs = [("nhu05001", "Wind in trees"), ("07076051", "Rain on a roof")]
    return [Described(key=key, text=text, names=(key, key, key.upper())) for key, text in pairs]


def _youcook2(folder: Path) -> list[Described]:
    step = {"segment": [41, 54], "id": 0, "sentence": "place bacon on a pan"}
    videos = {
        "GLd3": {
            "subset": "validation",
            "annotations": [step, {"segment": [0, 1]}, 7, {**step, "segment": [60, 70.5], "id": 1}],
        },
        "bad": {"subset": "validation", "annotations": [{**step, "segment": [9, 3]}]},
        "none": {"subset": "validation", "annotations": {}},
        "train": {"subset": "training", "annotations": [step]},
    }
    (folder / "youcookii_annotations_trainval.json").write_text(json.dumps({"database": videos}))
    text = "place bacon on a pan"
    return [
        Described(key="GLd3_0", text=text, names=("GLd3",), span_s=(41.0, 54.0)),
        Described(key="GLd3_1", text=text, names=("GLd3",), span_s=(60.0, 70.5)),
    ]


@pytest.mark.parametrize(
    ("format", "write", "rejected"),
    [
        ("msrvtt-1ka", _msrvtt, 2),
        ("audiocaps", _audiocaps, 2),
        ("sounddescs", _sounddescs, 1),
        ("youcook2", _youcook2, 4),
    ],
)
def test_a_benchmark_is_read_as_its_users_have_it(
    format: str, write: Callable[[Path], list[Described]], rejected: int, tmp_path: Path
) -> None:
    wanted = write(tmp_path)
    found = read(tmp_path, format)
    assert list(found.described) == wanted
    assert len(found.rejected) == rejected
    assert all(one.place and one.reason for one in found.rejected)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("format", "name", "content", "wanted"),
    [
        ("msrvtt-1ka", "MSRVTT_JSFUSION_test.csv", b"a,b\n1,2\n", "video_id"),
        ("audiocaps", "test.csv", b"", ""),
        ("sounddescs", "descriptions.pkl", pickle.dumps({"a": _Evil()}), "names builtins.print"),
        ("sounddescs", "descriptions.pkl", b"\x80\x04torn", "no pickle of plain texts"),
        ("youcook2", "youcookii_annotations_trainval.json", b'{"database": ', ""),
        ("youcook2", "youcookii_annotations_trainval.json", b"[]", "no 'database'"),
    ],
)
def test_a_broken_file_is_one_line(
    format: str, name: str, content: bytes, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=wanted or name) as error:
        read(tmp_path, format)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert "it ran" not in capsys.readouterr().out


def test_of_several_right_texts_the_most_similar_counts() -> None:
    # Texts 0 and 1 are right of clip 0, text 2 of clip 1.
    of = np.array([0, 0, 1])
    similarity, target = best_of_several(np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.8]], np.float32), of)
    assert target.tolist() == [0, 2]
    assert recall_at(similarity, target, 1) == 1.0
    similarity, target = best_of_several(np.array([[0.4, 0.3, 0.5], [0.2, 0.9, 0.8]], np.float32), of)
    assert recall_at(similarity, target, 1) == 0.0
    assert recall_at(similarity, target, 2) == 1.0, "the other right text is in nobody's way"


def test_a_video_counts_where_its_sound_lies_beside_it(tmp_path: Path) -> None:
    for name in ("videos/a.mp4", "audio/a.wav", "audio/b.wav", "more/b.flac", "videos/c.mp4", "more/c.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = MediaFiles(tmp_path)
    assert files.file(("none", "a")) == tmp_path / "videos" / "a.mp4"
    for name in ("b", "c"):
        with pytest.raises(MediaError, match="several files"):
            files.file((name,))


@pytest.mark.slow
def test_an_encoder_is_asked_for_what_texts_describe(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_encoder(encoders.build("trimodal", **_TINY), tmp_path / "encoder")
    videos = tmp_path / "videos"
    videos.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        frame = np.full((32, 48, 3), 60 * number, np.uint8)
        sound = None if number == 3 else (rng.normal(0, 0.1, 16_000).astype(np.float32), 16_000)
        quality = Quality(crf=30, preset="ultrafast", threads=1)
        write_video(videos / f"video{number}.mp4", [frame] * 8, size=(48, 32), fps=8, quality=quality, sound=sound)
    (videos / "video4.mp4").write_bytes(b"torn")
    rows = "".join(f"ret{n},msr{n},video{n},a wall of grey {n}\n" for n in range(6))
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text("key,vid_key,video_id,sentence\n" + rows)
    words = ["benchmark", "retrieve", str(tmp_path), "--format", "msrvtt-1ka", "--videos", str(videos)]
    result = CliRunner().invoke(app, [*words, "--encoder", str(tmp_path / "encoder"), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["described"], found["clips"], sum(found["reasons"].values())) == (6, 4, 2)
    sizes = {name: (one["queries"], one["items"]) for name, one in found["directions"].items()}
    assert sizes == {"text → video": (4, 4), "video → text": (4, 4), "text → sound": (3, 3), "sound → text": (3, 3)}
    assert found["directions"]["text → video"]["figures"]["recall@5"]["value"] == 1.0
    descriptions = read(tmp_path, "msrvtt-1ka")
    with pytest.raises(UserError, match="could be read"):
        retrieve(descriptions, MediaFiles(tmp_path / "encoder"), encoders.build("trimodal", **_TINY))
    with pytest.raises(UserError, match=r"--limit 1: .*2 or more"):
        retrieve(descriptions, MediaFiles(videos), encoders.build("trimodal", **_TINY), limit=1)
    with pytest.raises(UserError, match="knows no texts"):
        retrieve(descriptions, MediaFiles(videos), encoders.build("dual"))
    with pytest.raises(MediaError, match="not there"):
        MediaFiles(videos).file(("video9",))
