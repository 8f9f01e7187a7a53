"""Several review servers on one workspace: what one took in counts for the other at once, and one may die."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from flywheel.core.types import Annotation, Correction, content_id
from flywheel.store import Workspace, leases
from flywheel.store.database import BUSY_MS
from flywheel.store.view import clip_of
from human_refine import service
from human_refine.people import csrf_of, invite
from human_refine.saving import SaveRequest
from human_refine.server import create_app
from human_refine.sessions import COOKIE
from tests.human_refine.page_bed import Refiner

NUM_REFINERS, TEXTS_EACH, NUM_CLIPS = 50, 2, 200
#: Until the refiners have kept what a step of the test waits for, in seconds.
MOST_S = 120.0


@pytest.mark.slow
def test_what_one_server_took_in_is_given_to_nobody_by_the_other(workspace: Workspace, app: object) -> None:
    """Though it looks at the records every five seconds alone."""
    ann, bob = Refiner(app, workspace, "ann"), Refiner(create_app(workspace), workspace, "bob")
    settled = set()
    for person in (ann, bob, ann, bob):
        item = person.next()
        assert item["annotation_id"] not in settled
        assert person.say(item, "accept").status_code == 200
        settled.add(item["annotation_id"])
    opened = ann.http.post("/api/open", json={"annotation_id": item["annotation_id"]})
    assert opened.status_code == 409, "bob settled it on the other server"


@pytest.mark.slow
def test_two_servers_keep_one_word_on_a_text(
    workspace: Workspace, app: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the lock of writing was had is read again with it."""
    ann, bob = Refiner(app, workspace, "ann"), Refiner(create_app(workspace), workspace, "bob")
    item = ann.next()
    with workspace.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET until = 1")
    assert bob.next()["annotation_id"] == item["annotation_id"]
    assert bob.say(item, "edit", "A cat.").status_code == 200
    monkeypatch.setattr(service, "corrections_of", lambda *_: [])
    late = ann.say(item, "edit", "A dog.")
    assert late.status_code == 409
    assert late.json()["other"]["text"] == "A cat."
    # The same request again, whose answer was lost with a server, is what stands already.
    bob.saves -= 1
    assert bob.say(item, "edit", "A cat.").status_code == 200
    assert workspace.corrections().height == 1


@pytest.mark.slow
def test_wrong_links_are_counted_by_all_servers_together(workspace: Workspace, app: object) -> None:
    servers = [TestClient(app), TestClient(create_app(workspace))]  # type: ignore[arg-type]
    answers = [servers[i % 2].get(f"/invite/{i:043d}").status_code for i in range(12)]
    assert answers == [401] * 10 + [429] * 2


def test_who_saves_and_who_asks_do_not_wait_for_each_other(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one has SQLite's lock of writing; the other waits for it, for its lease."""
    page = service.ReviewService(workspace)
    item = page.queue.next("ann")
    assert item is not None
    is_writing, is_leasing = threading.Event(), threading.Event()
    add_checked, take_lease = service.add_checked, leases.take_lease

    def add(workspace: Workspace, correction: Correction, lease: str, check: Callable[..., None]) -> None:
        def checked(*now: Any) -> None:
            is_writing.set()
            assert is_leasing.wait(10)
            check(*now)

        add_checked(workspace, correction, lease, checked)

    def take(*of: Any) -> bool:
        is_leasing.set()
        return take_lease(*of)

    monkeypatch.setattr(service, "add_checked", add)
    monkeypatch.setattr(leases, "take_lease", take)
    request = SaveRequest(annotation_id=item.annotation_id, verdict="accept", seconds=1.0, save_id="save-ann-0001")
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        save = pool.submit(page.save, "ann", request)
        assert is_writing.wait(10)
        other = pool.submit(page.queue.next, "bob")
        assert save.result().verdict == "accept"
        found = other.result()
    assert found is not None
    assert found.annotation_id != item.annotation_id
    assert time.monotonic() - began < BUSY_MS / 2000


def test_a_host_whose_clock_is_wrong_takes_nobodys_lease(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leases.take_lease(workspace, "a", "ann", 60)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not leases.take_lease(workspace, "a", "bob", 60)
    assert leases.holder_of(workspace, "a") == "ann"


class Address:
    """One address before several servers: each connection goes to the next of them that answers."""

    def __init__(self, ports: list[int]) -> None:
        self._turns = itertools.cycle(ports)
        self._count = len(ports)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._count):
            with contextlib.suppress(OSError):
                behind = await asyncio.open_connection("127.0.0.1", next(self._turns))
                await asyncio.gather(_pump(reader, behind[1]), _pump(behind[0], writer))
                return
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.close()


@dataclass(kw_only=True)
class Work:
    """What the refiners were given, and what was acknowledged: correction id -> text's id and words."""

    given: list[str] = field(default_factory=list)
    kept: dict[str, tuple[str, str]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)


async def refine(number: int, url: str, token: str, work: Work, barrier: asyncio.Event) -> None:
    """One refiner: opens the link once, then takes and edits texts; what failed on the way is sent again."""
    # A connection for each request, so that they go to all servers.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, verify=False) as http:

        async def send(path: str, body: dict[str, object]) -> httpx.Response:
            while True:
                try:
                    return await http.post(path, json=body)
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)

        await http.get(f"/invite/{token}")
        http.headers["X-CSRF-Token"] = csrf_of(http.cookies[COOKIE])
        for turn in range(TEXTS_EACH):
            if turn == 1:
                await barrier.wait()
            answer = await send("/api/next", {})
            work.statuses[answer.status_code] += 1
            item = answer.json()["item"]
            work.given.append(item["annotation_id"])
            text = f"Seen by {number} in turn {turn}."
            body = {"annotation_id": item["annotation_id"], "verdict": "edit", "text": text, "seconds": 1.0}
            body |= {"base": item["base"], "save_id": f"save-{number:04d}-{turn:04d}"}
            answer = await send("/api/corrections", body)
            work.statuses[answer.status_code] += 1
            work.kept[answer.json()["id"]] = (item["annotation_id"], text)


async def kept(work: Work, count: int, tasks: list[asyncio.Task[None]]) -> None:
    """Waits until so many texts are kept. Raises what ended a refiner, and TimeoutError after two minutes."""
    async with asyncio.timeout(MOST_S):
        while len(work.kept) < count:
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)


def test_a_wait_for_refiners_ends_where_one_of_them_failed() -> None:
    async def fail() -> None:
        raise KeyError("item")

    async def run() -> None:
        await kept(Work(), 1, [asyncio.create_task(fail())])

    with pytest.raises(KeyError, match="item"):
        asyncio.run(run())


@pytest.fixture
def on_postgresql(annotated: Path, tmp_path: Path, postgresql: Callable[[], str]) -> Iterator[Workspace]:
    """A workspace with its database in PostgreSQL, and captions of 200 clips."""
    root, url = tmp_path / "shared", postgresql()
    shutil.copytree(annotated, root, ignore=shutil.ignore_patterns("cache"))
    with Workspace.open(root).lock() as w:
        w.move_database(url)
    w.database.close()
    config = root / "flywheel.yaml"
    config.write_text(config.read_text().replace("\n  database: ''", f"\n  database: {url}"))
    workspace = Workspace.open(root)
    clip = next(clip_of(row) for row in workspace.clips().iter_rows(named=True))
    clips = [replace(clip, id=content_id("c", i), start_s=i / 1000, split="train") for i in range(NUM_CLIPS)]
    texts = [
        Annotation(
            id=content_id("a", c.id),
            round=1,
            kind="caption",
            clip_id=c.id,
            generation_id="",
            source="model",
            text=f"Number {i}.",
            mean_logprob=-1.0,
        )
        for i, c in enumerate(clips)
    ]
    with workspace.lock():
        workspace.add_clips(clips)
        workspace.add_annotations(texts, 1)
    yield workspace
    workspace.database.close()


def served(root: Path) -> tuple[subprocess.Popen[str], int]:
    """A review server as a process of its own, and its port."""
    options = ["--config", str(root), "--port", "0", "--set=review.overlap_share=0"]
    command = [sys.executable, "-m", "flywheel.cli", "review", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline().split()[0].rsplit(":", 1)[1])


@pytest.mark.slow
def test_two_servers_behind_one_address_and_one_is_killed(on_postgresql: Workspace) -> None:
    tokens = [invite(on_postgresql, f"refiner {i}", "refiner") for i in range(NUM_REFINERS)]
    servers = [served(on_postgresql.root) for _ in range(2)]
    work = Work()

    async def run() -> None:
        address = await asyncio.start_server(Address([port for _, port in servers]), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{address.sockets[0].getsockname()[1]}"
        barrier = asyncio.Event()
        tasks = [asyncio.create_task(refine(i, url, token, work, barrier)) for i, token in enumerate(tokens)]
        await kept(work, NUM_REFINERS, tasks)
        barrier.set()
        await kept(work, NUM_REFINERS + 5, tasks)
        # While the others' requests are on their way through it.
        os.killpg(servers[0][0].pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*tasks), 300)
        address.close()

    try:
        asyncio.run(run())
    finally:
        for server, _ in servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert work.statuses == {200: 2 * NUM_REFINERS * TEXTS_EACH}, "sessions go on, and nobody met another's word"
    assert len(set(work.given)) == len(work.given) == NUM_REFINERS * TEXTS_EACH
    rows = on_postgresql.corrections()
    on_record = {key: (a, text) for key, a, text in rows.select("id", "annotation_id", "text").iter_rows()}
    assert {key: on_record.get(key) for key in work.kept} == work.kept, "nothing is lost"
    assert rows["annotation_id"].n_unique() == rows.height == len(work.kept), "nothing is given to two"
