"""What FFmpeg calls invalid data is said so that somebody knows what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.core.errors import MediaError
from flywheel.media.diagnosis import diagnosis
from flywheel.media.probe import probe


@pytest.fixture(scope="module")
def whole(corpus: Path) -> bytes:
    return next(iter((corpus / "corpus").glob("*.mp4"))).read_bytes()


def without_index(whole: bytes) -> bytes:
    """All boxes of the MP4 but its index."""
    out, at = b"", 0
    while at < len(whole):
        length, name = int.from_bytes(whole[at : at + 4]), whole[at + 4 : at + 8]
        out += whole[at : at + length] if name != b"moov" else b""
        at += length
    return out


def test_the_cause_stands_in_the_reason(whole: bytes, tmp_path: Path) -> None:
    broken = {
        "zeros.mp4": (bytes(5000), "begins with zeros alone: the copy failed, copy it again"),
        "lfs.mp4": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "it is a pointer of Git LFS and no video: fetch it with 'git lfs pull'",
        ),
        "page.mp4": (b"\n <!DOCTYPE html><title>404</title>", "it is a web page and no video: download it again"),
        "index.mp4": (without_index(whole), "it has no index (moov): the recording was cut off"),
        "cut.mp4": (without_index(whole)[:-500], "it is cut off after"),
        "junk.mp4": (b"nothing of all that" * 50, "not a readable video (Invalid data found when processing input)"),
    }
    for name, (content, wanted) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError) as raised:
            probe(tmp_path / name)
        assert wanted in str(raised.value), name
        assert str(raised.value).startswith("not a readable video (Invalid data"), name
    (tmp_path / "whole.mp4").write_bytes(whole)
    assert (diagnosis(tmp_path / "whole.mp4"), diagnosis(tmp_path / "gone.mp4")) == ("", "")
