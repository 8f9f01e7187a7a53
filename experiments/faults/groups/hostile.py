"""Files that no ingest should be ended, held up or deceived by; each lies beside a good video, which is taken in."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import polars as pl

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.store import Workspace

_FOLLOW = "corpus.links=follow"
_LIMIT_S, _MOST_MIB = 120.0, 1500.0


@dataclass(frozen=True)
class _Hostile:
    """``make`` puts it into a folder in which ``good.mp4`` lies.

    ``reason`` stands in what is said of its rejection; empty where it may be taken in as well. ``source`` is named to
    ingest on top of the folder, and ``code`` how that ends.
    """

    name: str
    make: Callable[[Path], object]
    reason: str = ""
    settings: tuple[str, ...] = ()
    source: str = ""
    code: int = 0


def faults(bed: Bed) -> Iterator[Fault]:
    """Files, names, links, time stamps, tables and tars."""
    for hostile in [*_contents(), *_times(), *_places(), *_beside(), *_playlists(), *_tables(), *_tars()]:
        yield Fault("hostile files", hostile.name, partial(_taken, bed, hostile))


def _taken(bed: Bed, hostile: _Hostile) -> str:
    root = bed.copy("empty")
    folder = root.with_name(root.name + "-in")
    folder.mkdir()
    shutil.copy(min(bed.corpus.glob("*.mp4")), folder / "good.mp4")
    hostile.make(folder)
    settings = [part for value in hostile.settings for part in ("--set", value)]
    sources = [folder, *([folder / hostile.source] if hostile.source else [])]
    outcome = run("ingest", *sources, "--config", root, *settings, limit_s=_LIMIT_S)
    if not outcome.clean or outcome.code != hostile.code:
        return f"exit {outcome.code}: {outcome.last()}"
    if outcome.peak_mib > _MOST_MIB:
        return f"{outcome.peak_mib:.0f} MiB"
    if "\x1b" in outcome.text:
        return "an escape reaches the terminal"
    return _wrong(root, hostile) or "; ".join(problems(root))


def _wrong(root: Path, hostile: _Hostile) -> str:
    workspace = Workspace.open(root)
    try:
        clips, reasons = workspace.clips(), workspace.rejected()["reason"].to_list()
    finally:
        workspace.database.close()
    taken = [Path(uri).name for uri in clips["uri"]]
    if "good.mp4" not in taken and not hostile.name.startswith("beside"):
        return f"the good one is not taken in: {reasons}"
    if clips.filter(pl.col("transcript").str.contains("root:x")).height:
        return "a file of the machine became a transcript"
    if hostile.reason and not any(hostile.reason in reason for reason in reasons):
        return f"not rejected for '{hostile.reason}': {reasons or taken}"
    return ""


def _write(name: str, content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content((folder / "good.mp4").read_bytes()))


def _contents() -> Iterator[_Hostile]:
    flips = random.Random(4)
    yield _Hostile("empty", _write("bad.mp4", lambda _: b""), "empty (0 bytes)")
    yield _Hostile("junk", _write("bad.mp4", lambda _: flips.randbytes(5000)), "not a readable video")
    yield _Hostile("text", _write("bad.mkv", lambda _: b"words " * 900), "not a readable video")
    for share in (0.02, 0.5, 0.97):
        yield _Hostile(f"truncated to {share}", _write("bad.mp4", lambda good, s=share: good[: int(s * len(good))]))  # type: ignore[misc]
    for number in range(3):
        yield _Hostile(f"200 bytes changed ({number})", _write("bad.mp4", partial(_changed, flips)))
    yield _Hostile("GIF of 16k x 16k", _write("bad.gif", lambda _: _gif(16_384)), "no frame can be decoded")
    yield _Hostile("GIF cut off", _write("bad.gif", lambda _: _gif(64)[:20]), "no frame can be decoded")
    yield _Hostile("PNG of 16k x 16k", _write("bad.mp4", lambda _: _png(16_384)), "not a readable video")
    pixels = ("corpus.max_pixels=40000",)
    yield _Hostile("larger than max_pixels", lambda f: _video(f / "bad.mkv", range(3), size=512), "pixels", pixels)
    yield _Hostile("60,000 pictures a second", lambda f: _video(f / "bad.mp4", range(24), rate=60_000))
    yield _Hostile("3,000 tiny files", lambda f: [(f / f"t{i}.mp4").write_bytes(b"x") for i in range(3000)], "readable")


def _changed(rng: random.Random, good: bytes) -> bytes:
    out = bytearray(good)
    for _ in range(200):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _gif(side: int) -> bytes:
    size = struct.pack("<HH", side, side)
    return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\x02\x02\x4c\x01\0;"


def _png(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pack = zlib.compressobj(9)
    rows = b"".join(pack.compress(bytes(1 + side // 8)) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _video(path: Path, times: range | list[int], *, size: int = 32, rate: int = 10) -> None:
    """A black video whose pictures stand at these times, in parts of a second."""
    base = Fraction(1, rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", base
        for at in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _times() -> Iterator[_Hostile]:
    for split_by in ("none", "length", "scene"):
        for name, last in (("31 years", 10_000_000_000), ("10 hours", 360_000)):
            make = partial(_times_to, last)
            yield _Hostile(f"{name} by time stamp, {split_by}", make, "it holds 25", (f"corpus.split_by={split_by}",))
    length = ("corpus.split_by=length", "corpus.max_clips=8")
    yield _Hostile("10 hours in the header", _write("bad.mp4", _ten_hours), "", length)
    yield _Hostile("more clips than max_clips", lambda f: _video(f / "bad.mkv", range(0, 1000, 10)), "9 clips", length)


def _times_to(last: int, folder: Path) -> None:
    _video(folder / "bad.mkv", [*range(24), last])


def _ten_hours(good: bytes) -> bytes:
    """The file with another length in its headers."""
    out = bytearray(good)
    for box in (b"mvhd", b"mdhd"):
        at = good.find(box) + 4
        (scale,) = struct.unpack(">I", good[at + 12 : at + 16])
        out[at + 16 : at + 20] = struct.pack(">I", min(scale * 36_000, 2**32 - 1))
    return bytes(out)


def _places() -> Iterator[_Hostile]:
    yield _Hostile("folders in a loop", lambda f: (f / "around").symlink_to(f), "", (_FOLLOW,))
    yield _Hostile("a file in a loop", lambda f: (f / "loop.mp4").symlink_to(f / "loop.mp4"), "can't be read")
    yield _Hostile("a link to nothing", lambda f: (f / "gone.mp4").symlink_to("nowhere.mp4"), "can't be read")
    yield _Hostile("FIFO", lambda f: os.mkfifo(f / "pipe.mp4"), "no regular file")
    yield _Hostile("folder with a FIFO", _folder_with_fifo, "no regular file")
    yield _Hostile("socket", _socket, "no regular file")
    for device in ("zero", "random", "tty"):
        make = partial(_link, "device.mp4", f"/dev/{device}")
        yield _Hostile(f"link to /dev/{device}, followed", make, "no regular file", (_FOLLOW,))
    yield _Hostile("link to /dev/zero", partial(_link, "device.mp4", "/dev/zero"), "link out of its source")
    yield _Hostile("link out of the source", partial(_link, "out.mp4", "/etc/passwd"), "link out of its source")
    yield _Hostile("folder named as a video", lambda f: (f / "folder.mp4").mkdir())
    yield _Hostile("a terabyte of holes", _holes, "takes longer than 2 s", ("corpus.max_seconds=2",))
    yield _Hostile("name that is no UTF-8", partial(_named, b"caf\xe9.mp4"), "rename it")
    for name in (
        b"new\nline\x1b[2J\x1b]0;title\x07.mp4",
        b"a" * 251 + b".mp4",
        b"--set.mp4",
        b"'; DROP TABLE shards;--.mp4",
        "\u202egpm.4pm".encode() + b".mp4",
        b"%s{x}$HOME`id`.mp4",
    ):
        yield _Hostile(f"name {ascii(name.decode())[:24]}", partial(_named, name))


def _named(name: bytes, folder: Path) -> None:
    with open(os.fsencode(folder) + b"/" + name, "wb") as file:
        file.write((folder / "good.mp4").read_bytes() + b"\0" * 8)


def _link(name: str, target: str, folder: Path) -> None:
    (folder / name).symlink_to(target)


def _folder_with_fifo(folder: Path) -> None:
    (folder / "below").mkdir()
    os.mkfifo(folder / "below" / "pipe.mkv")


def _socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # A socket's path may have about a hundred characters.
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.mp4")
    finally:
        os.chdir(here)


def _holes(folder: Path) -> None:
    with open(folder / "holes.mp4", "wb") as file:
        file.truncate(1 << 40)


def _beside() -> Iterator[_Hostile]:
    digits = "\n".join(["1" * 1000] * 64)
    for ending in ("srt", "vtt"):
        yield _Hostile(f"beside: digits in .{ending}", _write(f"good.{ending}", lambda _: digits.encode()))
        yield _Hostile(f"beside: a line of digits in .{ending}", _write(f"good.{ending}", lambda _: b"1" * 900_000))
        yield _Hostile(f"beside: a line of < in .{ending}", _write(f"good.{ending}", lambda _: b"<" * 900_000))
    yield _Hostile(
        "beside: 17 MiB of words", _write("good.txt", lambda _: b"x" * (17 << 20)), "larger than 16 MiB", code=1
    )
    yield _Hostile("beside: bytes that are no text", _write("good.txt", lambda _: bytes(range(256)) * 9))
    yield _Hostile("beside: FIFO", lambda f: os.mkfifo(f / "good.srt"), "no regular file", code=1)
    zero = partial(_link, "good.srt", "/dev/zero")
    yield _Hostile("beside: link to /dev/zero, followed", zero, "no regular file", (_FOLLOW,), code=1)
    yield _Hostile(
        "beside: link to /etc/passwd", partial(_link, "good.txt", "/etc/passwd"), "link out of its source", code=1
    )


_HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:3.0,\ngood.mp4\n#EXT-X-ENDLIST\n"


def _playlists() -> Iterator[_Hostile]:
    concat = b"ffconcat version 1.0\nfile good.mp4\n"
    yield _Hostile("ffconcat named .mp4", _write("bad.mp4", lambda _: concat), "playlist")
    yield _Hostile("HLS named .ts", _write("bad.ts", lambda _: _HLS.encode()), "not a readable video")
    yield _Hostile("HLS in a table", _playlist_in_a_table, "not a readable video", source="rows.jsonl")
    sdp = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    yield _Hostile("SDP named .mp4", _write("bad.mp4", lambda _: sdp), "not a readable video")


def _playlist_in_a_table(folder: Path) -> None:
    (folder / "list.m3u8").write_text(_HLS)
    (folder / "rows.jsonl").write_text('{"video": "list.m3u8"}\n')


def _row(line: str) -> Callable[[Path], object]:
    return _write("rows.jsonl", lambda _: f"{line}\n".encode())


def _tables() -> Iterator[_Hostile]:
    rows = partial(_Hostile, source="rows.jsonl")
    yield rows("row: 100,000 brackets", _row("[" * 100_000), "nested too deeply")
    yield rows("row: 200,000 digits", _row('{"video": "good.mp4", "start_s": ' + "1" * 200_000 + "}"), "digits")
    yield rows("row: NaN seconds", _row('{"video": "good.mp4", "start_s": NaN, "end_s": 1}'), "")
    yield rows("row: a span beyond the end", _row('{"video": "good.mp4", "start_s": 1, "end_s": 1e300}'), "end_s")
    yield rows("row: NUL in a name", _row('{"video": "a\\u0000.mp4"}'), "can be no file's name")
    yield rows("row: lone surrogate", _row('{"video": "a\\ud800.mp4"}'), "rename it")
    yield rows("row: a device", _row('{"video": "/dev/zero"}'), "no regular file")
    yield rows("row: a file of the machine", _row('{"video": "/etc/passwd"}'), "not a readable video")
    yield rows("row: up and out", _row('{"video": "../../../../../../etc/passwd"}'), "not a readable video")
    yield rows("table that is no table", _row(json.dumps(None)), "must be an object")
    yield _Hostile("20 million rows", _many_rows, source="rows.parquet", code=2)
    yield _Hostile("Parquet that is none", _write("rows.parquet", lambda _: b"PAR1"), source="rows.parquet", code=2)


def _many_rows(folder: Path) -> None:
    pl.select(pl.repeat("good.mp4", 20_000_001).alias("video")).write_parquet(folder / "rows.parquet")


def _tars() -> Iterator[_Hostile]:
    yield _Hostile("tar that is compressed", partial(_tar, "w:gz", b"0.mp4", b""), source="bad.tar", code=2)
    yield _Hostile("tar: up and out", partial(_tar, "w", b"../../../out.mp4", b"x"), source="bad.tar")
    yield _Hostile("tar: a link", partial(_tar, "w", b"0.mp4", b"/etc/passwd"), source="bad.tar")
    yield _Hostile("tar: no video", partial(_tar, "w", b"0.mp4", b"x" * 999), "readable", source="bad.tar")
    yield _Hostile(
        "tar cut off", lambda f: (_tar("w", b"0.mp4", b"x" * 9999, f), _cut(f / "bad.tar")), source="bad.tar"
    )


def _tar(mode: str, name: bytes, content: bytes, folder: Path) -> None:
    with tarfile.open(folder / "bad.tar", mode) as tar:  # type: ignore[call-overload]
        member = tarfile.TarInfo(name.decode())
        if content.startswith(b"/"):
            member.type, member.linkname = tarfile.SYMTYPE, content.decode()
        else:
            member.size = len(content)
        tar.addfile(member, BytesIO(content))


def _cut(path: Path) -> None:
    os.truncate(path, 4000)
