"""DNSMOS' columns from an ONNX file of the same signature as its own: windows, mapping, records, bad files.

The network is made here: it answers with the mean loudness of its window, three times scaled. DNSMOS itself is another
project's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from flywheel.core.errors import UserError
from flywheel.curation import speech
from flywheel.curation.columns import dnsmos as column
from flywheel.ingest import ingest
from flywheel.sound import dnsmos
from flywheel.store import Workspace
from flywheel.store.clip_index import ClipIndex
from tests.curation.test_measuring import write

pytest.importorskip("onnxruntime")
SCALE, SHIFT = (1.0, 2.0, 3.0), (1.0, 0.5, 2.0)


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protocol buffer: whole numbers and bytes are all that a network needs."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def network(inputs: tuple[int, ...] = (144_160,)) -> bytes:
    """ONNX of |x|, its mean along the last axis, times SCALE and SHIFT added: (batch, *inputs) to (batch, 3)."""

    def shaped(name: bytes, dims: tuple[int, ...]) -> bytes:
        shape = field(1, field(2, b"batch")) + b"".join(field(1, field(1, n)) for n in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    def node(kind: bytes, *names: bytes, attributes: bytes = b"") -> bytes:
        return b"".join(field(1, name) for name in names[:-1]) + field(2, names[-1]) + field(4, kind) + attributes

    def values(name: bytes, numbers: tuple[float, ...], dims: tuple[int, ...]) -> bytes:
        raw = field(9, struct.pack("<3f", *numbers))
        return b"".join(field(1, n) for n in dims) + field(2, 1) + field(8, name) + raw

    axes = field(5, field(1, b"axes") + field(8, len(inputs)) + field(20, 7))
    graph = b"".join(
        [
            field(1, node(b"Abs", b"input_1", b"a")),
            field(1, node(b"ReduceMean", b"a", b"m", attributes=axes)),
            field(1, node(b"Gemm", b"m", b"w", b"b", b"out")),
            field(2, b"g"),
            field(5, values(b"w", SCALE, (1, 3))),
            field(5, values(b"b", SHIFT, (3,))),
            field(11, shaped(b"input_1", inputs)),
            field(12, shaped(b"out", (3,))),
        ]
    )
    return field(1, 8) + field(8, field(1, b"") + field(2, 13)) + field(7, graph)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dnsmos") / "sig_bak_ovr.onnx"
    path.write_bytes(network())
    return path


def test_windows_of_nine_seconds_are_mapped_as_its_authors_do_and_averaged(file: Path) -> None:
    found = dnsmos.Dnsmos(file)
    loud = np.full(16_000 * 3, -0.5, np.float32)
    short = found.of(loud)
    assert short is not None
    raw = [0.5 * scale + shift for scale, shift in zip(SCALE, SHIFT)]
    assert short.signal == pytest.approx(-0.08397278 * raw[0] ** 2 + 1.22083953 * raw[0] + 0.0052439)
    assert short.background == pytest.approx(-0.13166888 * raw[1] ** 2 + 1.60915514 * raw[1] - 0.39604546)
    assert short.overall == pytest.approx(-0.06766283 * raw[2] ** 2 + 1.11546468 * raw[2] + 0.04602535)
    # Eleven seconds: windows begin at 0 and 1 s, as the second second's end is reached; the last second is in neither.
    long = np.zeros(16_000 * 11, np.float32)
    long[16_000 * 10 + 160 :] = 1
    silent = found.of(np.zeros(16_000 * 11, np.float32))
    assert found.of(long) == silent
    long[16_000 * 9 + 2000] = np.nan
    assert found.of(long) == silent, "what is no number counts as silence"
    assert found.of(np.zeros(0, np.float32)) is None


def test_windows_are_those_of_its_authors_script(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: n whole seconds have int(n - 9.01) + 1 windows; 3.5 s are doubled to 14 s, and so have 5."""
    found, starts = dnsmos.Dnsmos(file), list[float]()

    def noted(windows: NDArray[np.float32]) -> NDArray[np.float64]:
        starts.extend(windows[:, 0].tolist())
        return np.zeros((len(windows), 3))

    monkeypatch.setattr(found, "_raw", noted)
    for seconds, expected in ((9.5, [0]), (10.5, [0]), (11.02, [0, 1]), (3.5, [0, 1, 2, 3, 0.5])):
        starts.clear()
        found.of((np.arange(int(seconds * 16_000)) / 16_000).astype(np.float32))
        assert starts == pytest.approx(expected), seconds


def test_what_is_no_such_network_is_one_line(file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "mels.onnx").write_bytes(network((900, 120)))
    for name, words in (("away", "can't be read"), ("text", "is no DNSMOS network"), ("mels", "is no DNSMOS")):
        with pytest.raises(UserError, match=words) as error:
            dnsmos.Dnsmos(tmp_path / f"{name}.onnx")
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_clips_have_its_columns_once_and_none_where_nothing_can_be_read(
    file: Path, tmp_path: Path, make_workspace: Callable[..., Workspace]
) -> None:
    for seed in (1, 2):
        write(tmp_path / f"{seed}.mp4", seed)
    w = make_workspace(f"curate.dnsmos={file}")
    with w.lock():
        ingest(w, [str(tmp_path)])
        clips = [*ClipIndex(w).of("train", "test", "anchor").by_id()]
        Path(clips[1].uri).unlink()
        found = speech.network_of(w)
        for _ in range(2):
            speech.measure_speech(w, [*clips, replace(clips[0], id="f" * 20, has_audio=False)], found)
    rows = column.read(w)
    assert rows["clip_id"].to_list() == [clips[0].id]
    assert rows.columns == ["clip_id", "dnsmos_signal", "dnsmos_background", "dnsmos_overall"]
    assert 1 < rows["dnsmos_signal"][0] < 2
    assert w.count("speech_quality") == 1
    assert {kind for name, kind in rows.schema.items() if name != "clip_id"} == {pl.Float32}


def test_without_onnx_runtime_its_columns_are_left_out_and_it_is_said(
    file: Path,
    make_workspace: Callable[..., Workspace],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speech, "installed", lambda: False)
    assert speech.network_of(make_workspace(f"curate.dnsmos={file}")) is None
    assert "onnxruntime is missing: pip install 'flywheel[dnsmos]'" in capsys.readouterr().err
    assert speech.network_of(make_workspace(name="other")) is None
