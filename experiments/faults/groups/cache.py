"""The cache damaged, full, removed or in the way: it costs time, and no text is another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from experiments.faults.bed import Bed, problems, small_disk
from experiments.faults.commands import Running
from experiments.faults.fault import Fault
from experiments.faults.groups.disks import fill
from flywheel.store import Workspace

_CLAIM = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 999, 999, 3), }"
Harm = Callable[[Path, ExitStack], object]


def faults(bed: Bed) -> Iterator[Fault]:
    """What may become of the folder and of what lies in it."""
    harms: dict[str, Harm] = {
        "removed": lambda cache, _: shutil.rmtree(cache),
        "removed again and again while it is used": _removing,
        "every entry cut": _each(lambda content: content[: len(content) // 2]),
        "every entry empty": _each(lambda _: b""),
        "every entry junk": _each(lambda content: b"junk" * (len(content) // 4)),
        "every header junk": _each(lambda content: content[:10] + b"(" * 118 + content[128:]),
        "every header cut open": _each(lambda content: content[:10] + b"{'descr'".ljust(118) + content[128:]),
        "every header of ten terabytes": _each(lambda content: content[:10] + _CLAIM.ljust(118)[:118] + content[128:]),
        "every entry another's shape": _each(lambda content: content.replace(b"(8, ", b"(4, ", 1)),
        "every entry a folder": _folders,
        "a file where the folder was": lambda cache, _: (shutil.rmtree(cache), cache.write_text("")),
        "a link to nowhere": lambda cache, _: (shutil.rmtree(cache), cache.symlink_to("/nowhere/at/all")),
        "read-only": _read_only,
        "on a full disk": _full,
    }
    for name, harm in harms.items():
        yield Fault("cache damaged, full or removed", name, partial(_try, bed, harm))


def _try(bed: Bed, harm: Harm) -> str:
    root = bed.copy("annotated")
    wanted = _texts(root)
    shutil.copytree(root / "cache", root.with_name(root.name + "-cache"))
    fresh = bed.copy("ingested")
    shutil.rmtree(fresh / "cache", ignore_errors=True)
    shutil.move(root.with_name(root.name + "-cache"), fresh / "cache")
    with ExitStack() as until_done:
        harm(fresh / "cache" / "frames", until_done)
        outcome = Running("annotate", "--config", fresh).end()
    if outcome.code:
        return f"exit {outcome.code}: {outcome.last()}"
    if outcome.peak_mib > 1500:
        return f"{outcome.peak_mib:.0f} MiB"
    return "other texts" if _texts(fresh) != wanted else "; ".join(problems(fresh))


def _texts(root: Path) -> set[tuple[str, str]]:
    workspace = Workspace.open(root)
    try:
        if (rejected := workspace.rejected(open_only=True)).height:
            return {("rejected", str(rejected["reason"].to_list()))}
        return set(workspace.annotations(round=1).select("clip_id", "text").rows())
    finally:
        workspace.database.close()


def _each(change: Callable[[bytes], bytes]) -> Harm:
    def harm(cache: Path, _: ExitStack) -> None:
        for entry in cache.rglob("*.npy"):
            entry.write_bytes(change(entry.read_bytes()))

    return harm


def _folders(cache: Path, _: ExitStack) -> None:
    for entry in list(cache.rglob("*.npy")):
        entry.unlink()
        entry.mkdir()


def _removing(cache: Path, until_done: ExitStack) -> None:
    done = threading.Event()

    def remove() -> None:
        while not done.wait(0.01):
            shutil.rmtree(cache, ignore_errors=True)

    thread = threading.Thread(target=remove)
    thread.start()
    until_done.callback(thread.join)
    until_done.callback(done.set)


def _read_only(cache: Path, until_done: ExitStack) -> None:
    shutil.rmtree(cache)
    disk = until_done.enter_context(small_disk(cache))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def _full(cache: Path, until_done: ExitStack) -> None:
    shutil.rmtree(cache)
    fill(until_done.enter_context(small_disk(cache)))
    os.sync()
