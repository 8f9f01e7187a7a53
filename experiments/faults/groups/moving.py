"""A database moved to PostgreSQL, killed half-way or without its server; and the server restarted under commands."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import Running, run
from experiments.faults.fault import Fault
from experiments.faults.groups.together import page
from experiments.faults.postgresql import Server, server
from flywheel.store import Workspace

_KILLS = 8


def faults(bed: Bed) -> Iterator[Fault]:
    """Kills of the move, and servers that go."""
    group, rng = "database moved to PostgreSQL", random.Random(9)
    for number in range(_KILLS):
        at = (number + rng.random()) / _KILLS
        yield Fault(group, f"kill -9 at {at:.2f}", _with_server(bed, partial(_killed, at=at)))
    attempts: dict[str, Callable[[Bed, Server], str]] = {
        "the server stops meanwhile": _stops,
        "the server is away": _away,
        "the target holds another workspace": _taken,
        "a page saves meanwhile": _page,
        "the server restarts under annotate": partial(_restarts, "ingested", ["annotate"]),
        "the server restarts under ingest": partial(_restarts, "empty", ["ingest", "CORPUS"]),
        "the server restarts under corrections import": partial(_restarts, "annotated", ["corrections", "import", "C"]),
        "the old database is asked afterwards": _old,
        "kill -9 of annotate": _killed_after,
    }
    for name, attempt in attempts.items():
        yield Fault(group, name, _with_server(bed, attempt))


def _with_server(bed: Bed, attempt: Callable[[Bed, Server], str]) -> Callable[[], str]:
    def attempted() -> str:
        with server() as one:
            return attempt(bed, one)

    return attempted


def _rows(root: Path, url: str = "") -> dict[str, list[str]]:
    workspace = Workspace.open(root, [f"store.database={url}"] if url else [])
    try:
        kinds = ("clips", "generations", "annotations")
        rows = {kind: sorted(workspace.records.read(kind, columns=["id"])["id"]) for kind in kinds}
        return rows | {"corrections": sorted(workspace.corrections()["id"])}
    finally:
        workspace.database.close()


def _whole(root: Path, url: str, wanted: dict[str, list[str]]) -> str:
    if _rows(root, url) != wanted:
        return "other rows than before"
    return "; ".join(problems(root, f"store.database={url}"))


def _said(bed: Bed) -> Path:
    """A workspace at the end of a round, with corrections."""
    root = bed.copy("done")
    run("corrections", "import", bed.corrections, "--config", root)
    return root


def _killed(bed: Bed, one: Server, at: float) -> str:
    root = _said(bed)
    wanted, copy = _rows(root), root.with_name(root.name + "-whole")
    shutil.copytree(root, copy)
    whole = run("move-database", one.new(), "--config", copy)
    if whole.code:
        return f"without a kill: exit {whole.code}: {whole.last()}"
    url = one.new()
    run("move-database", url, "--config", root, kill_after_s=at * whole.seconds)
    again = run("move-database", url, "--config", root)
    if not again.clean or (again.code and "was moved to" not in again.text):
        return f"exit {again.code}: {again.last()}"
    return _whole(root, url, wanted)


def _stops(bed: Bed, one: Server) -> str:
    root, url = _said(bed), one.new()
    wanted = _rows(root)
    moving = Running("move-database", url, "--config", root)
    moving.process.join(1.2)
    one.stop()
    first = moving.end()
    one.start()
    if not first.clean:
        return f"exit {first.code}: {first.last()}"
    again = run("move-database", url, "--config", root)
    if not again.clean or (again.code and "was moved to" not in again.text):
        return f"then exit {again.code}: {again.last()}"
    return _whole(root, url, wanted)


def _away(bed: Bed, one: Server) -> str:
    root, url = _said(bed), one.new()
    wanted = _rows(root)
    one.stop()
    first = run("move-database", url, "--config", root)
    if not first.clean or not first.code:
        return f"exit {first.code}: {first.last()}"
    if _rows(root) != wanted:
        return "the old one is no more what it was"
    one.start()
    again = run("move-database", url, "--config", root)
    return _whole(root, url, wanted) if again.code == 0 else f"then exit {again.code}: {again.last()}"


def _taken(bed: Bed, one: Server) -> str:
    other, url = bed.copy("annotated"), one.new()
    if (first := run("move-database", url, "--config", other)).code:
        return f"exit {first.code}: {first.last()}"
    root = _said(bed)
    wanted, others = _rows(root), _rows(other, url)
    second = run("move-database", url, "--config", root)
    if not second.clean or not second.code:
        return f"exit {second.code}: {second.last()}"
    return "rows are lost" if _rows(root) != wanted or _rows(other, url) != others else ""


def _page(bed: Bed, one: Server) -> str:
    root, url = bed.copy("annotated"), one.new()
    with page(root) as (_, person):
        acknowledged, moving = 0, Running("move-database", url, "--config", root)
        while moving.process.is_alive():
            item = person.next()
            if item is None:
                break
            acknowledged += person.say(item).status_code == 200
        moved = moving.end()
        if (item := person.next()) is not None:
            acknowledged += person.say(item).status_code == 200
    if moved.code:
        return f"move-database: exit {moved.code}: {moved.last()}"
    kept = len(_rows(root, url)["corrections"])
    return "" if kept == acknowledged else f"{acknowledged} words acknowledged, {kept} kept"


def _restarts(state: str, words: list[object], bed: Bed, one: Server) -> str:
    root, url = bed.copy(state), one.new()
    if state != "empty" and (first := run("move-database", url, "--config", root)).code:
        return f"move-database: exit {first.code}: {first.last()}"
    names = {"CORPUS": bed.corpus, "C": bed.corrections}
    command = [*(names.get(str(word), word) for word in words), "--config", root, "--set", f"store.database={url}"]
    running = Running(*command)
    running.process.join(1.0)
    one.stop()
    running.process.join(0.3)
    one.start()
    ended = running.end()
    if not ended.clean:
        return f"exit {ended.code}: {ended.last()}"
    again = run(*command)
    if again.code:
        return f"then exit {again.code}: {again.last()}"
    return "; ".join(problems(root, f"store.database={url}"))


def _old(bed: Bed, one: Server) -> str:
    root, url = _said(bed), one.new()
    if (first := run("move-database", url, "--config", root)).code:
        return f"exit {first.code}: {first.last()}"
    for words in (["status"], ["ingest", bed.corpus], ["annotate"]):
        asked = run(*words, "--config", root)
        if not asked.clean or not asked.code or "moved" not in asked.text:
            return f"{words[0]}: exit {asked.code}: {asked.last()}"
    return ""


def _killed_after(bed: Bed, one: Server) -> str:
    root, url = bed.copy("ingested"), one.new()
    settings = ["--config", root, "--set", f"store.database={url}"]
    if (first := run("move-database", url, "--config", root)).code:
        return f"exit {first.code}: {first.last()}"
    run("annotate", *settings, kill_after_s=2.0)
    again = run("annotate", *settings)
    if again.code:
        return f"then exit {again.code}: {again.last()}"
    return "; ".join(problems(root, f"store.database={url}"))
