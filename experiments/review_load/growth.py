"""How the review page grows with the number of texts: one refiner and one lead on 2 k to a million.

    python experiments/review_load/growth.py --folder /tmp/growth [--sizes 2000 20000 200000 1000000] [--turns 100]

For each size a workspace is written as ingest and annotation do, in shards of 128 rows: clips are spans of 20 files
that nobody opens, each with one text of round 1. It is kept in ``--folder`` and used again. The real server is a
process of its own on loopback; each command of the CLI is one, too. Prints one JSON line per size: seconds and
milliseconds as measured, CPU seconds of the process, memory in MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from flywheel.core.config import template
from flywheel.store import Workspace
from flywheel.store.records import SCHEMAS
from human_refine.people import invite

BATCH = 128
SPAN_S = 2.0
WORDS = ("a", "red", "blue", "green", "ball", "dog", "cat", "bell", "rings", "rolls", "jumps", "sleeps", "left", "then")
ROWS = 10_000


def key(what: str, number: int) -> str:
    return hashlib.sha256(f"{what} {number}".encode()).hexdigest()[:20]


FILES = [key("file", number) for number in range(20)]


def clip(number: int) -> dict[str, Any]:
    start_s = SPAN_S * (number // 20)
    return {
        "id": key("clip", number),
        "uri": f"/corpus/{number % 20}.mp4",
        "content_hash": FILES[number % 20],
        "start_s": start_s,
        "end_s": start_s + SPAN_S,
        "fps": 25.0,
        "width": 64,
        "height": 64,
        "has_audio": False,
        "transcript": words(number, 11),
        "sounds": "",
        "split": "test" if number % 10 < 2 else "anchor" if number % 10 == 2 else "train",
        "cues": [],
    }


def words(number: int, count: int) -> str:
    return " ".join(WORDS[(number * 7 + number // 19 * place + place * place) % len(WORDS)] for place in range(count))


def text(number: int) -> dict[str, Any]:
    return {
        "id": key("text", number),
        "round": 1,
        "kind": "caption",
        "clip_id": key("clip", number),
        "generation_id": "",
        "source": "model",
        "text": f"{words(number, 12)} {number}",
        "mean_logprob": -(number * 7_919 % 1_000_003) / 1_000_003,
        "payload": "",
        "purpose": "learn",
    }


def write(workspace: Workspace, numbers: range) -> None:
    workspace.records.append("clips", [clip(i) for i in numbers])
    workspace.records.append("annotations", [text(i) for i in numbers], round=1)


def write_all(workspace: Workspace, size: int) -> None:
    """The files and rows that :func:`write` makes in batches of 128, all in one transaction: a million in a minute."""
    root = workspace.records.root
    for kind, folder, round, row_of in (
        ("clips", "clips", None, clip),
        ("annotations", "annotations/round=001", 1, text),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        with workspace.database.transaction() as connection:
            for start in range(0, size, BATCH * 500):
                numbers = range(start, min(start + BATCH * 500, size))
                rows = [row_of(i) for i in numbers]
                frame = pl.DataFrame(
                    {name: [row[name] for row in rows] for name in SCHEMAS[kind]}, schema=SCHEMAS[kind]
                )
                shards, keys = [], []
                for part in frame.iter_slices(BATCH):
                    name = f"{folder}/part-{uuid.uuid4().hex}.parquet"
                    part.write_parquet(root / name)
                    position = start // BATCH + len(shards) + 1 + (size if round else 0)
                    shards.append((name, kind, round, part.height, position))
                    keys += [(kind, key, name) for key in part["id"]]
                connection.exec_driver_sql("INSERT INTO shards VALUES (?, ?, ?, ?, ?)", shards)
                connection.exec_driver_sql("INSERT INTO keys VALUES (?, ?, ?)", keys)


def prepared(folder: Path, size: int) -> Workspace:
    root = folder / str(size)
    if (root / "whole").exists():
        return Workspace.open(root)
    shutil.rmtree(root, ignore_errors=True)
    Workspace.create(root, template())
    workspace = Workspace.open(root)
    with workspace.lock():
        write_all(workspace, size)
    (root / "whole").touch()
    return workspace


def memory_mib(pid: int, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return round(int(found[1]) / 1024, 1)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def command(root: Path, *words: str) -> dict[str, float]:
    """CPU seconds and peak memory of one command."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", *words, "--config", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert process.stderr is not None
    assert os.waitstatus_to_exitcode(status) == 0, process.stderr.read().decode()
    return {"CPU s": round(usage.ru_utime + usage.ru_stime, 1), "peak MiB": round(usage.ru_maxrss / 1024)}


class Person:
    def __init__(self, url: str, workspace: Workspace, name: str, role: str) -> None:
        headers = {"Authorization": f"Bearer {invite(workspace, name, role)}"}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=600)
        self.name, self.saves = name, 0

    def next(self) -> dict[str, Any]:
        answer = self.http.post("/api/next", json={})
        assert answer.status_code == 200, answer.text
        return answer.json()["item"]  # type: ignore[no-any-return]

    def save(self, item: dict[str, Any], **more: Any) -> None:
        self.saves += 1
        body = {
            "annotation_id": item["annotation_id"],
            "verdict": "edit",
            "text": f"Seen {time.time_ns()}.",
            "base": item["base"],
            "save_id": f"{time.time_ns()}",
            **more,
        }
        answer = self.http.post("/api/corrections", json=body)
        assert answer.status_code == 200, answer.text

    def upload(self) -> None:
        file = json.dumps({"annotation_id": "nope", "verdict": "accept"}).encode()
        answer = self.http.post("/api/corrections/import", files={"file": ("c.jsonl", file)})
        assert answer.json()["num_refused"] == 1, answer.text


def milliseconds(seconds: list[float]) -> dict[str, float]:
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "most": round(max(seconds) * 1000, 1)}


class Server:
    """The review page as a process of its own; what was asked of it is measured in seconds and in its CPU seconds."""

    def __init__(self, root: Path) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-m", "flywheel.cli", "review", "--config", str(root), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[0]
        self.start = {"s": round(time.perf_counter() - began, 1), "CPU s": cpu_s(self.process.pid)}

    def asked(self, work: Callable[[], Any]) -> dict[str, float]:
        before = cpu_s(self.process.pid)
        seconds, _ = timed(work)
        return {"s": round(seconds, 3), "CPU s": round(cpu_s(self.process.pid) - before, 2)}

    def memory_mib(self, name: str) -> float:
        return memory_mib(self.process.pid, name)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def page(workspace: Workspace, size: int, turns: int) -> dict[str, Any]:
    server = Server(workspace.root)
    try:
        refiner, lead = (Person(server.url, workspace, role, role) for role in ("refiner", "lead"))
        result: dict[str, Any] = {
            "start": server.start,
            "first page": server.asked(lambda: refiner.http.get("/")),
            "RSS after start": server.memory_mib("VmRSS"),
            "first next": server.asked(refiner.next),
        }
        nexts: list[float] = []
        saves: list[float] = []
        used = server.asked(lambda: work(refiner, turns, nexts, saves))
        result |= {"next, ms": milliseconds(nexts), "save, ms": milliseconds(saves)}
        result["next and save, CPU ms"] = round(1000 * used["CPU s"] / turns, 1)
        result["lead's page"] = server.asked(lambda: lead.http.get("/lead"))
        result["upload of one bad row"] = server.asked(refiner.upload)
        item = lead.next()
        while workspace.records.rows("clips", [item["clip_id"]])["split"][0] != "train":
            lead.save(item)
            item = lead.next()
        result["a lead's gold text"] = server.asked(lambda: lead.save(item, gold=True))
        result["next after it"] = server.asked(refiner.next)
        waits: list[float] = []
        result["128 new texts are seen"] = server.asked(lambda: refresh(workspace, size, refiner, waits))
        result["next meanwhile, ms"] = milliseconds(waits or [0.0])
        result |= {"RSS at the end": server.memory_mib("VmRSS"), "peak": server.memory_mib("VmHWM")}
    finally:
        server.stop()
    return result


def work(refiner: Person, turns: int, nexts: list[float], saves: list[float]) -> None:
    for _ in range(turns):
        waited, item = timed(refiner.next)
        nexts.append(waited)
        saves.append(timed(lambda item=item: refiner.save(item))[0])


def refresh(workspace: Workspace, size: int, refiner: Person, waits: list[float]) -> None:
    """Commits 128 new texts and takes texts until the page counts the new ones."""
    first = size + BATCH * (1 + time.time_ns() // 10**6)
    before = refiner.http.get("/api/progress").json()["of"]
    with workspace.lock():
        write(workspace, range(first, first + BATCH))
    while refiner.http.get("/api/progress").json()["of"] == before:
        waits.append(timed(refiner.next)[0])
        time.sleep(0.05)


def files(workspace: Workspace, size: int) -> dict[str, Any]:
    out = workspace.root / "queue.jsonl"
    result = {"export": command(workspace.root, "corrections", "export", str(out), "--limit", str(ROWS))}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    out.write_text("\n".join(json.dumps({**row, "verdict": "accept", "refiner": "file"}) for row in rows))
    result["import"] = command(workspace.root, "corrections", "import", str(out))
    result["import again"] = command(workspace.root, "corrections", "import", str(out))
    return {f"corrections {name}, {len(rows)} rows": value for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 20_000, 200_000, 1_000_000])
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--only-prepare", action="store_true", help="write the workspaces and stop")
    options = parser.parse_args()
    for size in options.sizes:
        workspace = prepared(options.folder, size)
        if options.only_prepare:
            continue
        result = {"texts": size, "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
        result |= page(workspace, size, options.turns) | files(workspace, size)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
