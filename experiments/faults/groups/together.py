"""Several at once: rounds, invitations, imports, exports, and a running page whose database moves or is killed."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import Running
from experiments.faults.fault import Fault
from flywheel.store import Workspace

_SURE = ["--reason", "a try", "--yes"]
_PAGE = re.compile(r"http://127\.0\.0\.1:\d+")


def faults(bed: Bed) -> Iterator[Fault]:
    """Writers, readers, and a page, side by side."""
    attempts: dict[str, Callable[[Bed], str]] = {
        "3 rounds": _rounds,
        "20 invitations": _invitations,
        "4 imports of one file": _imports,
        "2 exports into one folder": _exports,
        "2 exports into two folders": _exports_apart,
        "2 ingests of one source": partial(_ingests, same=True),
        "2 ingests of two sources": partial(_ingests, same=False),
        "2 ingests into a new workspace": partial(_ingests, same=True, fresh=True),
        "an export beside a round": partial(_beside, "done", ["round"], ["export", "--out", "OUT"]),
        "an export beside a takedown": partial(
            _beside, "done", ["takedown", "CLIP", *_SURE], ["export", "--out", "OUT"]
        ),
        "corrections beside annotate": partial(_beside, "ingested", ["annotate"], ["corrections", "import", "SAID"]),
        "status beside annotate": partial(_beside, "ingested", ["annotate"], ["status"]),
        "doctor beside ingest": partial(_beside, "empty", ["ingest", "CORPUS"], ["doctor"]),
        "repair beside annotate": partial(_beside, "ingested", ["annotate"], ["doctor", "--repair"]),
        "prune beside a round": partial(_beside, "done", ["round"], ["prune", "--keep", 0]),
        "move-database under a running page": _move,
        "takedown under a running page": _takedown,
        "saves, and the server killed": _killed,
    }
    for name, attempt in attempts.items():
        yield Fault("at once", name, _bound(attempt, bed))


def _bound(attempt: Callable[[Bed], str], bed: Bed) -> Callable[[], str]:
    return lambda: attempt(bed)


def _codes(*commands: list[object]) -> tuple[list[int], str]:
    running = [Running(*words) for words in commands]
    ended = [one.end() for one in running]
    wrong = next((f"exit {o.code}: {o.last()}" for o in ended if not o.clean or o.code == 1), "")
    return [outcome.code for outcome in ended], wrong


def _rounds(bed: Bed) -> str:
    root = bed.copy("annotated")
    codes, wrong = _codes(*[["round", "--config", root]] * 3)
    if not wrong and not any(code in (0, 3) for code in codes):
        wrong = f"nobody did it: {codes}"
    return wrong or "; ".join(problems(root))


def _invitations(bed: Bed) -> str:
    root = bed.copy("annotated")
    codes, wrong = _codes(*(["invite", "--name", f"r{i}", "--config", root] for i in range(20)))
    return wrong or ("" if codes == [0] * 20 else f"{codes}") or "; ".join(problems(root))


def _imports(bed: Bed) -> str:
    root = bed.copy("annotated")
    _, wrong = _codes(*[["corrections", "import", bed.corrections, "--config", root]] * 4)
    workspace = Workspace.open(root)
    try:
        there = workspace.num_corrections()
    finally:
        workspace.database.close()
    wanted = len(bed.corrections.read_text().splitlines())
    return wrong or ("" if there == wanted else f"{there} of {wanted}")


def _exports_apart(bed: Bed) -> str:
    root = bed.copy("done")
    outs = [(root / form, form) for form in ("messages", "llava", "webvtt")]
    codes, wrong = _codes(*(["export", "--out", out, "--format", form, "--config", root] for out, form in outs))
    if not wrong and codes != [0, 0, 0]:
        wrong = f"{codes}"
    return wrong or next((f"{out.name} is not whole" for out, _ in outs if not (out / "dataset.json").exists()), "")


def _ingests(bed: Bed, same: bool, fresh: bool = False) -> str:
    root = bed.copy("empty")
    if not fresh:
        _codes(["status", "--config", root])
    halves = [root.with_name(f"{root.name}-{number}") for number in (0, 1)]
    for number, half in enumerate(halves):
        half.mkdir()
        for path in sorted(bed.corpus.glob("*.mp4"))[number::2]:
            shutil.copy2(path, half)
    sources = [bed.corpus, bed.corpus] if same else halves
    codes, wrong = _codes(*(["ingest", source, "--config", root] for source in sources))
    if wrong or 0 not in codes:
        return wrong or f"nobody did it: {codes}"
    # Who was refused comes again.
    again, wrong = _codes(["ingest", *sources, "--config", root])
    workspace = Workspace.open(root)
    try:
        there = workspace.count("clips")
    finally:
        workspace.database.close()
    wrong = wrong or ("" if there == len(bed.clips) else f"{there} of {len(bed.clips)} clips, {again}")
    return wrong or "; ".join(problems(root))


def _beside(state: str, words: list[object], others: list[object], bed: Bed) -> str:
    """A command, and twice another one while it runs; then both once more."""
    root = bed.copy(state)
    names = {"OUT": root / "taken", "CLIP": bed.clips[0], "CORPUS": bed.corpus, "SAID": bed.corrections}
    first, second = ([names.get(str(word), word) for word in command] for command in (words, others))
    running = Running(*first, "--config", root)
    running.process.join(0.8)
    for _ in range(2):
        _, wrong = _codes([*second, "--config", root])
        if wrong and "busy" not in wrong and "writes" not in wrong:
            return wrong
    ended = running.end()
    if not ended.clean or ended.code not in (0, 3):
        return f"exit {ended.code}: {ended.last()}"
    return "; ".join(problems(root))


def _exports(bed: Bed) -> str:
    root = bed.copy("done")
    codes, wrong = _codes(*[["export", "--out", root / "taken", "--config", root]] * 2)
    if not wrong and (0 not in codes or not (root / "taken" / "dataset.json").exists()):
        wrong = f"nobody did it: {codes}"
    return wrong


class _Person:
    """Somebody at the page, who sends what its script sends."""

    def __init__(self, address: str, root: Path) -> None:
        from human_refine.people import invite

        workspace = Workspace.open(root)
        try:
            token = invite(workspace, "ann", "refiner")
        finally:
            workspace.database.close()
        self.http = httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=30.0)
        self.saves = 0

    def next(self) -> Any:
        return self.http.post("/api/next", json={"without": ""}).json().get("item")

    def say(self, item: Any) -> httpx.Response:
        self.saves += 1
        body = {"annotation_id": item["annotation_id"], "verdict": "edit", "text": f"said {self.saves}"}
        more = {"seconds": 1.0, "base": item["base"], "save_id": f"save-{self.saves:06d}"}
        return self.http.post("/api/corrections", json={**body, **more})


@contextmanager
def page(root: Path) -> Iterator[tuple[Running, _Person]]:
    running = Running("review", "--port", 0, "--config", root)
    try:
        for _ in range(600):
            found = _PAGE.search(running.said())
            if found:
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"no page: {running.said()[-200:]}")
        yield running, _Person(found[0], root)
    finally:
        running.end(kill_after_s=0.0)


def _move(bed: Bed) -> str:
    root = bed.copy("annotated")
    with page(root) as (_, person):
        if (first := person.say(person.next())).status_code != 200:
            return f"before: {first.status_code}"
        item = person.next()
        moved = Running("move-database", f"sqlite:///{root}/moved.db", "--config", root).end()
        if moved.code:
            return f"move-database: exit {moved.code}: {moved.last()}"
        answer = person.say(item)
    there = Workspace.open(root, [f"store.database=sqlite:///{root}/moved.db"])
    try:
        kept = there.num_corrections()
    finally:
        there.database.close()
    taken = 1 + (answer.status_code == 200)
    return "" if kept == taken else f"{taken} words acknowledged, {kept} kept"


def _takedown(bed: Bed) -> str:
    root = bed.copy("annotated")
    with page(root) as (_, person):
        item = person.next()
        _, wrong = _codes(["takedown", item["clip_id"], "--reason", "a try", "--yes", "--config", root])
        answer = person.say(item)
    workspace = Workspace.open(root)
    try:
        kept = workspace.num_corrections()
    finally:
        workspace.database.close()
    return wrong or ("" if not kept else f"a word of a clip that is no more was kept ({answer.status_code})")


def _killed(bed: Bed) -> str:
    root = bed.copy("annotated")
    acknowledged = 0
    for _ in range(2):
        with page(root) as (_running, person):
            for _ in range(3):
                item = person.next()
                if item is not None and person.say(item).status_code == 200:
                    acknowledged += 1
    workspace = Workspace.open(root)
    try:
        kept = workspace.num_corrections()
    finally:
        workspace.database.close()
    return ("" if kept == acknowledged else f"{acknowledged} acknowledged, {kept} kept") or "; ".join(problems(root))
