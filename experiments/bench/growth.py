"""How time and memory of each command grow with the corpus:
2 k, 20 k, 200 k and 1 M clips, each command a process of its own.

    python experiments/bench/growth.py --out figures.jsonl [--sizes 2000,20000]
        [--commands ingest,annotate,status] [--src TREE]
    python experiments/bench/growth.py --table docs/scale.md --out figures.jsonl --label NAME

One JSON line per figure, added to ``--out``: CPU seconds (user and system) and peak memory as the kernel counts them
for the process and what it waited for, wall seconds, and milliseconds for the review page. ``--src`` measures another
tree.

Clips are spans of 20 silent videos of 64 x 64, with a transcript of eleven words each; 20 % test, 10 % anchors.

- ``ingest`` is the real command on a JSONL of N different spans, ``ingest-again`` the same once more.
- All else is measured on a workspace whose clips the store's own writer wrote, in ingest's batches. There all clips of
  a video share one span, so that decoding, which no command does twice, is not what is measured.
- ``annotate`` is round 1 with the base's evaluation, by the fake engine; ``annotate-2`` round 2 with new texts.
- ``round`` is what is left of round 1 (review, pretrain, evaluate, gate) with one training step on two clips and
  nothing held out: its time is what the stages do before and after training.
- ``review`` is the real server: until it answers, the first next, and 200 more over HTTP with a token.

A size may be measured several times (``--sizes 2000,2000,20000``): of time the least counts, since other work on the
machine only ever adds to it, of memory the most.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import quantiles
from typing import Any

SIZES = (2_000, 20_000, 200_000, 1_000_000)
NUM_VIDEOS = 20
NUM_NEXT = 200
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "HF_HUB_OFFLINE": "1"}
#: Read by the tree that is measured; keys that a later one renames are understood there for a release.
CONFIG: dict[str, Any] = {
    "corpus": {"frames": 2, "max_side": 64, "test_share": 0.2, "anchor_share": 0.1},
    "annotate": {"engine": "fake"},
    "pretrain": {"num_steps": 1, "batch_size": 2, "eval_share": 0.0},
    "finetune": {"num_steps": 0},
    "evaluate": {"agreement_pairs": 0, "resamples": 200},
    "tracking": {"enabled": False},
}
#: In the order in which they can be measured on one workspace.
#: Those in brackets prepare others, and are measured as well.
COMMANDS = (
    "ingest",
    "ingest-again",
    "annotate",
    "status",
    "show",
    "corrections-export",
    "corrections-import",
    "review",
    "round",
    "promote",
    "export",
    "annotate-2",
    "takedown",
)
#: What stands in the way of a command that is asked for, and is then run before it.
NEEDS = {
    "ingest-again": ("ingest",),
    "show": ("annotate",),
    "corrections-export": ("annotate",),
    "corrections-import": ("annotate", "corrections-export"),
    "review": ("annotate",),
    "round": ("annotate",),
    "promote": ("annotate", "round"),
    "export": ("annotate", "round", "promote"),
    "annotate-2": ("annotate", "round"),
}
#: The bars: growth of time per clip from 20 k clips on, bytes of peak memory per clip, and at a million clips the peak
#: memory of each command, seconds of ``status``, and milliseconds until the review page's next clip.
BARS = {"time_growth": 1.3, "bytes_per_clip": 200.0, "rss_mib": 1536.0, "status_s": 2.0, "next_ms": 150.0}
#: CPU seconds that processes of the same work vary by.
NOISE_S = 0.5


# -- measuring one process ---------------------------------------------------------------------------------------------


class Measured:
    """A ``flywheel`` process of a tree, and what it took once it has ended."""

    def __init__(self, src: Path, arguments: Sequence[str], log: Path) -> None:
        self._began = time.perf_counter()
        self._log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flywheel.cli", *arguments],
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(src)},
            stdout=subprocess.PIPE,
            stderr=open(log, "w"),  # noqa: SIM115
            text=True,
        )

    def end(self) -> dict[str, float]:
        """Wait for the end. Raises SystemExit where the command failed."""
        assert self.process.stdout is not None
        self.output = self.process.stdout.read()
        _, status, used = os.wait4(self.process.pid, 0)
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        if code not in (0, 3, -signal.SIGINT, 130):
            raise SystemExit(f"{self.process.args}: exit {code}\n{self._log.read_text()[-3000:]}")
        return {
            "cpu_s": round(used.ru_utime + used.ru_stime, 2),
            "wall_s": round(time.perf_counter() - self._began, 2),
            "peak_rss_mib": round(used.ru_maxrss / 1024, 1),
        }

    def now(self) -> dict[str, float]:
        """CPU seconds and resident MiB of the process while it runs."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert resident is not None
        return {"cpu_s": (int(fields[11]) + int(fields[12])) / ticks, "rss_mib": round(int(resident[1]) / 1024, 1)}


# -- a workspace of a size ---------------------------------------------------------------------------------------------


def write_videos(folder: Path) -> list[Path]:
    """Twenty silent videos of 64 x 64 and three seconds, of scenes of the playground."""
    import av

    from flywheel.playground import scenes

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"video-{number:02d}.mp4" for number in range(NUM_VIDEOS)]
    for number, path in enumerate(paths):
        frames = scenes.draw(scenes.sample_scene(number), [i / 10 for i in range(30)], width=64, height=64)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    return paths


def transcript(number: int) -> str:
    """Eleven words, no two alike."""
    return f"a red ball number {number} rolls slowly to the left side"


def spans(videos: Sequence[Path], count: int) -> Iterator[dict[str, Any]]:
    """``count`` different spans of about a second."""
    for number in range(count):
        turn, video = divmod(number, len(videos))
        start_s = turn % 15_000 * 1e-4
        end_s = start_s + 1 + turn // 15_000 * 0.05
        yield {
            "video": str(videos[video]),
            "start_s": round(start_s, 4),
            "end_s": round(end_s, 4),
            "transcript": transcript(number),
        }


def build(root: Path, size: int) -> None:
    """Write a workspace's clips and the texts that came with them, in ingest's batches.
    Runs in the tree that is measured."""
    ingest = importlib.import_module("flywheel.ingest")
    from flywheel.core.types import Annotation, Clip, Cue, content_id
    from flywheel.ingest.clips import split_of
    from flywheel.store import Workspace

    workspace = Workspace.open(root)
    batch = getattr(ingest, "_BATCH", 128)
    with workspace.lock(), tempfile.TemporaryDirectory() as folder:
        videos = write_videos(root.parent / "videos")
        table = Path(folder) / "videos.jsonl"
        rows = [
            {"video": str(v), "start_s": 0.0, "end_s": 2.0, "transcript": transcript(i)} for i, v in enumerate(videos)
        ]
        table.write_text("\n".join(json.dumps(row) for row in rows))
        ingest.ingest(workspace, [str(table)])
        first = [
            Clip(**{**row, "cues": tuple(Cue(**cue) for cue in row["cues"])})
            for row in workspace.clips().iter_rows(named=True)
        ]
        for start in range(NUM_VIDEOS, size, batch):
            clips = []
            for number in range(start, min(start + batch, size)):
                like = first[number % len(first)]
                clip_id = content_id(like.content_hash, "growth", number)
                split = split_of(clip_id, workspace.config.corpus)
                clips.append(replace(like, id=clip_id, split=split, transcript=transcript(number)))
            texts = [
                Annotation(
                    id=content_id(0, "caption", clip.id, "transcript"),
                    round=0,
                    kind="caption",
                    clip_id=clip.id,
                    generation_id="",
                    source="transcript",
                    text=clip.transcript,
                    mean_logprob=0.0,
                )
                for clip in clips
            ]
            workspace.add_annotations(texts, 0)
            workspace.add_clips(clips)


def new_workspace(folder: Path) -> Path:
    folder.mkdir(parents=True)
    # A subset of JSON is YAML.
    (folder / "flywheel.yaml").write_text(json.dumps(CONFIG))
    return folder


# -- the commands ------------------------------------------------------------------------------------------------------


class Bench:
    """Workspaces of one size, and the figures of the commands that are run on them."""

    def __init__(self, src: Path, work: Path, size: int, out: Path, label: str) -> None:
        self.src, self.size, self._out, self._label = src, size, out, label
        self.folder = work / f"{label}-{size}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._root: Path | None = None

    @property
    def root(self) -> Path:
        """The workspace that the store's writer wrote; made when it is first asked for."""
        if self._root is None:
            self._root = new_workspace(self.folder / "w")
            began = time.perf_counter()
            environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(self.src)}
            command = [sys.executable, __file__, "--build", str(self._root), str(self.size)]
            subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
            print(f"{self.size} clips written in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        return self._root

    def note(self, command: str, **figures: float) -> None:
        line = json.dumps({"label": self._label, "size": self.size, "command": command, **figures})
        print(line, flush=True)
        with open(self._out, "a") as out:
            out.write(line + "\n")

    def run(self, command: str, *arguments: str, root: Path | None = None) -> str:
        """Run ``flywheel`` with these arguments on the workspace and note what it took; returns what it printed."""
        at = self.root if root is None else root
        measured = Measured(self.src, [*arguments, "--config", str(at)], self.folder / f"{command}.log")
        figures = measured.end()
        self.note(command, **figures)
        return measured.output

    def ingest(self) -> None:
        videos = write_videos(self.folder / "videos")
        with open(self.folder / "spans.jsonl", "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in spans(videos, self.size))
        new_workspace(self.folder / "ingested")
        self.run("ingest", "ingest", str(self.folder / "spans.jsonl"), root=self.folder / "ingested")

    def ingest_again(self) -> None:
        self.run("ingest-again", "ingest", str(self.folder / "spans.jsonl"), root=self.folder / "ingested")

    def annotate(self) -> None:
        self.run("annotate", "annotate")

    def annotate_2(self) -> None:
        # With another seed the fake engine writes other texts under other keys.
        self.run("annotate-2", "annotate", "--set", "annotate.seed=1")

    def status(self) -> None:
        self.run("status", "status", "--json")

    def show(self) -> None:
        self.run("show", "show", self.a_clip())

    def corrections_export(self) -> None:
        self.run("corrections-export", "corrections", "export", str(self.folder / "queue.jsonl"), "--limit", "10000")

    def corrections_import(self) -> None:
        lines = []
        for line in (self.folder / "queue.jsonl").read_text().splitlines():
            row = json.loads(line)
            text = f"{row['text']} It is {row['annotation_id'][:4]}."
            lines.append({"annotation_id": row["annotation_id"], "verdict": "edit", "text": text, "refiner": "bench"})
        # Few enough that what people said is not what grows.
        (self.folder / "said.jsonl").write_text("\n".join(map(json.dumps, lines[:500])))
        self.run("corrections-import", "corrections", "import", str(self.folder / "said.jsonl"))

    def round(self) -> None:
        self.run("round", "round")

    def promote(self) -> None:
        self.run("promote", "promote", "1", "--force", "to be measured")

    def export(self) -> None:
        self.run("export", "export", "--out", str(self.folder / "export"), "--format", "messages")

    def takedown(self) -> None:
        self.run("takedown", "takedown", self.a_clip(), "--reason", "to be measured", "--keep-exports", "--yes")

    def review(self) -> None:
        token = json.loads(self.run("invite", "invite", "--name", "bench", "--json"))["token"]
        began = time.perf_counter()
        server = Measured(self.src, ["review", "--config", str(self.root), "--port", "0"], self.folder / "review.log")
        assert server.process.stdout is not None
        url = server.process.stdout.readline().split()[0]
        started_s = time.perf_counter() - began
        try:
            waits = []
            for number in range(NUM_NEXT + 1):
                asked = time.perf_counter()
                item = next_item(url, token)
                waits.append(1000 * (time.perf_counter() - asked))
                if number == 0:
                    ready = {**server.now(), "wall_s": round(time.perf_counter() - began, 2)}
                assert item is not None, "the queue is empty"
        finally:
            server.process.send_signal(signal.SIGINT)
            figures = server.end()
        cuts = quantiles(waits[1:], n=20)
        self.note(
            "review",
            **{**figures, "cpu_s": ready["cpu_s"], "wall_s": ready["wall_s"]},
            rss_ready_mib=ready["rss_mib"],
            start_s=round(started_s, 2),
            first_next_ms=round(waits[0], 1),
            next_p50_ms=round(cuts[9], 1),
            next_p95_ms=round(cuts[18], 1),
        )

    def a_clip(self) -> str:
        """The id of a clip in the middle of the corpus."""
        import polars as pl

        files = sorted((self.root / "clips").rglob("part-*.parquet"))
        return str(pl.read_parquet(files[len(files) // 2], columns=["id"])["id"][0])


def next_item(url: str, token: str) -> dict[str, Any] | None:
    """The next text of the review page, over HTTP."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/next", data=b"{}", headers=headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        item: dict[str, Any] | None = json.load(answer)["item"]
    return item


def measure(src: Path, work: Path, size: int, asked: Sequence[str], out: Path, label: str) -> None:
    wanted = {*asked, *(before for command in asked for before in NEEDS.get(command, ()))}
    bench = Bench(src, work, size, out, label)
    for command in COMMANDS:
        if command in wanted:
            getattr(bench, command.replace("-", "_"))()
    shutil.rmtree(bench.folder)


# -- what the figures say ----------------------------------------------------------------------------------------------


def by_command_and_size(figures: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """The figures of each command at each size; of several measurements the least time and the most memory."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for new in figures:
        known = found.setdefault((new["command"], new["size"]), dict(new))
        for name, value in new.items():
            if name.endswith("_mib"):
                known[name] = max(known[name], value)
            elif name.endswith(("_s", "_ms")):
                known[name] = min(known[name], value)
    return found


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: CPU seconds and peak memory of each command by size, and how they grow."""
    newest = by_command_and_size(figures)
    sizes = sorted({size for _, size in newest})
    head = " / ".join(f"{size:,}" for size in sizes)
    lines = [
        f"| command | CPU s: {head} | peak MiB: {head} | ms a clip, its growth | bytes a clip |",
        "|---|---|---|---|---|",
    ]
    for command in COMMANDS:
        rows = {size: newest[command, size] for size in sizes if (command, size) in newest}
        if rows:
            cpu, rss = (" / ".join(_cell(rows.get(s), name) for s in sizes) for name in ("cpu_s", "peak_rss_mib"))
            lines.append(f"| {command} | {cpu} | {rss} | {_growth(rows)} | {_bytes(rows)} |")
    pages = {size: newest["review", size] for size in sizes if ("review", size) in newest}
    if pages:
        lines += ["", f"| review page | {' | '.join(f'{size:,}' for size in pages)} |", "|---|" + "---|" * len(pages)]
        for name, words in (
            ("wall_s", "first text after, s"),
            ("first_next_ms", "first next, ms"),
            ("next_p50_ms", "next, p50, ms"),
            ("next_p95_ms", "next, p95, ms"),
            ("rss_ready_mib", "resident then, MiB"),
        ):
            lines.append(f"| {words} | {' | '.join(_cell(page, name) for page in pages.values())} |")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None, name: str) -> str:
    return "–" if row is None else f"{row[name]:.3g}" if row[name] < 100 else f"{row[name]:,.0f}"


def time_growth(cpu_s: Mapping[int, float]) -> tuple[float, float] | None:
    """Seconds a clip at the largest size, and the most that time per clip grows between two sizes from 20 k on.

    What 2 k clips take counts as start-up. Sizes that take hardly more than that are left out, for a process varies by
    as much; None where fewer than two are left.
    """
    start_s = cpu_s.get(2_000, 0.0)
    per_clip = {
        size: (seconds - start_s) / (size - 2_000)
        for size, seconds in sorted(cpu_s.items())
        if size >= 20_000 and seconds - start_s >= NOISE_S
    }
    if 2_000 not in cpu_s or len(per_clip) < 2:
        return None
    growth = max(per_clip[large] / per_clip[small] for small, large in combinations(per_clip, 2))
    return per_clip[max(per_clip)], growth


def bytes_per_clip(rows: Mapping[int, Mapping[str, Any]]) -> float | None:
    """By how much peak memory grows, between the two largest sizes from 20 k on."""
    sizes = [size for size in sorted(rows) if size >= 20_000][-2:]
    if len(sizes) < 2:
        return None
    grown = (rows[sizes[1]]["peak_rss_mib"] - rows[sizes[0]]["peak_rss_mib"]) * 2**20
    return float(grown / (sizes[1] - sizes[0]))


def _growth(rows: Mapping[int, Mapping[str, Any]]) -> str:
    found = time_growth({size: row["cpu_s"] for size, row in rows.items()})
    return "–" if found is None else f"{1000 * found[0]:.2g}, x {found[1]:.2f}"


def _bytes(rows: Mapping[int, Mapping[str, Any]]) -> str:
    grown = bytes_per_clip(rows)
    return "–" if grown is None else f"{grown:,.0f}"


def missed(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each bar that is missed."""
    newest = by_command_and_size(figures)
    lines = []
    for command in COMMANDS:
        rows = {size: row for (name, size), row in newest.items() if name == command}
        growth, per_clip = time_growth({size: row["cpu_s"] for size, row in rows.items()}), bytes_per_clip(rows)
        large = rows.get(1_000_000, {})
        values = {
            "time_growth": growth[1] if growth else 0.0,
            "bytes_per_clip": per_clip or 0.0,
            "rss_mib": large.get("peak_rss_mib", 0.0),
            "status_s": large.get("wall_s", 0.0) if command == "status" else 0.0,
            "next_ms": large.get("next_p95_ms", 0.0),
        }
        lines += [f"{command}: {name} {v:.4g}, at most {BARS[name]:g}" for name, v in values.items() if v > BARS[name]]
    return lines


def write_table(page: Path, label: str, text: str) -> None:
    """Put a table between the marks of its label, or at the end of the page where there are none."""
    begin, end = f"<!-- growth: {label} -->", f"<!-- /growth: {label} -->"
    whole = page.read_text()
    block = f"{begin}\n{text}\n{end}"
    if begin in whole:
        before, _, rest = whole.partition(begin)
        whole = before + block + rest.partition(end)[2]
    else:
        whole = f"{whole.rstrip()}\n\n## {label}\n\n{block}\n"
    page.write_text(whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("growth.jsonl"), help="file that figures are added to")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--src", type=Path, default=Path(__file__).parents[2], help="the tree to measure")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "growth", help="scratch folder")
    parser.add_argument("--label", default="now", help="name of these figures")
    parser.add_argument(
        "--table", type=Path, help="page to write the table of the label's figures into; measures nothing"
    )
    parser.add_argument("--build", nargs=2, metavar=("FOLDER", "SIZE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.build:
        build(Path(chosen.build[0]), int(chosen.build[1]))
        return
    if chosen.table:
        lines = [json.loads(line) for line in chosen.out.read_text().splitlines()]
        figures = [line for line in lines if line["label"] == chosen.label]
        write_table(chosen.table, chosen.label, table(figures))
        print("\n".join(missed(figures)) or "no bar is missed")
        return
    asked = chosen.commands.split(",")
    if unknown := set(asked) - set(COMMANDS):
        parser.error(f"--commands: {', '.join(sorted(unknown))} is unknown. There are {', '.join(COMMANDS)}.")
    for size in map(int, chosen.sizes.split(",")):
        measure(chosen.src.resolve(), chosen.work, size, asked, chosen.out, chosen.label)


if __name__ == "__main__":
    main()
