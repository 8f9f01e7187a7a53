"""Two hosts write one workspace on an object store by turns, and each is killed at a moment drawn at random.

    python -m experiments.object_store.kills --database postgresql://postgres@/name?host=DIR --kills 20

An S3 server (moto) runs on this machine; each host has a folder of its own for its copies. A writer takes the lock,
adds texts, writes a model's file and ends a stage, over and over, and tells of each commit once it is acknowledged. One
JSON line: kills, commits that were acknowledged, of those lost or doubled, stages that are done without the model's
file, objects that no commit names after the next writer, and shards whose bytes are not what was written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from flywheel.core.types import Annotation, content_id
from flywheel.store import Workspace, mirror, records
from flywheel.store.columns import SCHEMAS
from flywheel.store.objects import Objects

URL = "s3://corpus/wheels/kills"
_SERVER = """
import boto3, os, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
import logging
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.server_port}").create_bucket(Bucket="corpus")
print(server.server_port, flush=True)
sys.stdin.read()
"""


def texts(turn: int, part: int) -> list[Annotation]:
    """Ten texts of a part of a writer's turn."""
    return [
        Annotation(
            id=content_id("a", turn, part, i),
            round=1,
            kind="caption",
            clip_id=content_id("c", turn, part, i),
            generation_id="",
            source="model",
            text=f"Turn {turn}, part {part}, number {i}.",
            mean_logprob=-1.0,
        )
        for i in range(10)
    ]


def write(host: Path, turn: int, acknowledged: int) -> None:
    """A writer on a host, until it is killed."""
    os.environ["FLYWHEEL_CACHE"] = str(host)
    workspace = Workspace.open(URL)
    part = 0
    while True:
        with workspace.lock():
            for _ in range(3):
                workspace.add_annotations(texts(turn, part), 1)
                os.write(acknowledged, f"{turn} {part}\n".encode())
                part += 1
            name = f"t{turn}p{part}"
            folder = workspace.model_folder(1)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
            workspace.set_stage(turn, name, "done", {})
            os.write(acknowledged, f"{turn} {name}\n".encode())


def killed(host: Path, turn: int, rng: random.Random) -> list[tuple[int, str]]:
    """Returns the commits that a writer acknowledged before it was killed, moments after its first one."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        try:
            write(host, turn, writing)
        except BaseException as error:
            print(f"turn {turn}: {type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os.close(writing)
    lines = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        lines += pipe.read(4096)
        until = time.monotonic() + rng.uniform(0, 6)
        while (left := until - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
            if not (more := pipe.read(4096)):
                break
            lines += more
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := pipe.read(4096):
            lines += more
    return [(int(t), what) for t, what in (line.split() for line in lines.decode().splitlines())]


def checked(host: Path, acknowledged: list[tuple[int, str]], kills: int) -> dict[str, object]:
    """What is lost, doubled, half or left, after one more writer's lock on a host."""
    os.environ["FLYWHEEL_CACHE"] = str(host)
    mirror._mirror.cache_clear()
    # Files of merged shards stay some minutes for readers, of whom there are none.
    records._GRACE_S = 0.0
    workspace = Workspace.open(URL)
    with workspace.lock():
        pass
    ids = Counter(workspace.annotations()["id"])
    expected = {a.id for turn, part in acknowledged if part.isdecimal() for a in texts(turn, int(part))}
    stages = [(turn, name) for turn, name in acknowledged if not name.isdecimal()]
    there = set(Objects(URL).listing())
    named = {shard.name for kind in SCHEMAS for shard in workspace.records.shards(kind)}
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "texts": sum(ids.values()),
        "lost": len(expected - set(ids)) + sum(workspace.stage(t, n)[0] != "done" for t, n in stages),
        "doubled": sum(count > 1 for count in ids.values()),
        "stages without their file": sum(f"models/round=001/{name}" not in there for _, name in stages),
        "objects that no commit names": len({n for n in there if n.split("/")[0] in SCHEMAS} - named),
        "moved to lost/": sum(name.startswith("lost/") for name in there),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, help="URL of an empty PostgreSQL database.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    config = {"store": {"database": options.database}, "tracking": {"enabled": False}}
    rng = random.Random(options.seed)
    acknowledged: list[tuple[int, str]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: a client that was used can't be forked.
            make = "import sys; from flywheel.store import Workspace; Workspace.create(*sys.argv[1:])"
            subprocess.run([sys.executable, "-c", make, URL, json.dumps(config)], check=True)
            hosts = [Path(folder) / "a", Path(folder) / "b"]
            for turn in range(options.kills):
                acknowledged += killed(hosts[turn % 2], turn, rng)
            for host in hosts:
                row = {"host": host.name, "seed": options.seed, **checked(host, acknowledged, options.kills)}
                print(json.dumps(row))
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        server.wait()


if __name__ == "__main__":
    main()
