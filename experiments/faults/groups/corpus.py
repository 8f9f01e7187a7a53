"""The corpus moved, away, or other than it was, under every stage: said, nothing wrong kept, and it goes on after."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import polars as pl

from experiments.faults.bed import Bed, problems
from experiments.faults.commands import run
from experiments.faults.fault import Fault
from flywheel.core.types import MEASURE
from flywheel.store import Workspace

_TRAIN = ("pretrain.num_steps=2", "pretrain.batch_size=2", "pretrain.eval_share=0", "loss.name=mle")
Harm = Callable[[Path, Path], object]


def faults(bed: Bed) -> Iterator[Fault]:
    """The whole corpus away, one file gone or changed."""
    group = "corpus moved, gone or changed"
    for name in _STAGES:
        yield Fault(group, f"away under {name}", partial(_away, bed, name))
    yield Fault(group, "moved, and taken in again", partial(_moved, bed))
    yield Fault(group, "a file renamed, and taken in again", partial(_renamed, bed))
    for name, harm in _HARMS.items():
        yield Fault(group, f"a file {name}, annotate", partial(_one, bed, harm))
        yield Fault(group, f"a file {name}, training", partial(_trained, bed, harm))
        yield Fault(group, f"a file {name}, export", partial(_exported, bed, harm))
    yield Fault(group, "a file replaced, and taken in again", partial(_replaced, bed))
    yield Fault(group, "files removed while annotate runs", partial(_removed_meanwhile, bed))


#: Name -> (state before it, words, settings).
_STAGES: dict[str, tuple[str, list[object], tuple[str, ...]]] = {
    "annotate": ("ingested", ["annotate"], ()),
    "pretrain": ("annotated", ["round"], _TRAIN),
    "evaluate": ("annotated", ["round"], ()),
    "round 2": ("done", ["round"], ()),
    "export llava": ("done", ["export", "--format", "llava", "--out", "OUT"], ()),
    "export webdataset": ("done", ["export", "--format", "webdataset", "--out", "OUT"], ()),
    "report": ("done", ["report", 1], ()),
    "status": ("done", ["status"], ()),
    "ingest": ("ingested", ["ingest", "CORPUS"], ()),
}
#: Those that can't do without; what the others need is on record.
_READ_VIDEOS = ("annotate", "pretrain", "export llava", "export webdataset")


def _own(bed: Bed, state: str) -> tuple[Path, Path]:
    """A workspace with a corpus of its own, and nothing of it in the cache."""
    root = bed.copy(state)
    corpus = root.with_name(root.name + "-videos")
    shutil.copytree(bed.corpus, corpus)
    with closing(sqlite3.connect(root / "flywheel.db")) as connection:
        connection.execute("UPDATE locations SET uri = replace(uri, ?, ?)", (str(bed.corpus), str(corpus)))
        connection.commit()
    shutil.rmtree(root / "cache", ignore_errors=True)
    return root, corpus


def _run(words: list[object], root: Path, corpus: Path, settings: tuple[str, ...]) -> tuple[int, str, str]:
    names = {"OUT": root / "taken", "CORPUS": corpus}
    given = [names.get(str(word), word) for word in words]
    outcome = run(*given, "--config", root, *(part for value in settings for part in ("--set", value)))
    return outcome.code, outcome.text, "" if outcome.clean else f"exit {outcome.code}: {outcome.last()}"


def _away(bed: Bed, name: str) -> str:
    state, words, settings = _STAGES[name]
    root, corpus = _own(bed, state)
    away = corpus.with_name("away-" + corpus.name)
    corpus.rename(away)
    before = _rejected(root)
    code, text, wrong = _run(words, root, corpus, settings)
    if wrong:
        return wrong
    if name in _READ_VIDEOS and (code != 1 or "mounted" not in text):
        return f"exit {code} without a word of the disk: {text.strip()[-160:]}"
    if _rejected(root) != before:
        return "rejects, where the disk was away"
    away.rename(corpus)
    code, text, wrong = _run(words, root, corpus, settings)
    if wrong or code not in (0, 3):
        return wrong or f"then exit {code}: {text.strip()[-160:]}"
    return _all_there(root) or "; ".join(problems(root))


def _rejected(root: Path) -> int:
    workspace = Workspace.open(root)
    try:
        return workspace.rejected().height
    finally:
        workspace.database.close()


def _all_there(root: Path) -> str:
    """Empty where every clip has the texts that it should have, and nothing is rejected."""
    workspace = Workspace.open(root)
    try:
        wanted = {split: len(set(workspace.clips(split)["id"])) for split in ("train", "anchor", "test")}
        wanted["train"] += wanted["anchor"]
        if workspace.rejected(open_only=True).height:
            return f"still rejected: {workspace.rejected(open_only=True)['reason'].to_list()}"
        if workspace.count_texts(1) not in (0, wanted["train"]):
            return f"{workspace.count_texts(1)} of {wanted['train']} texts"
        if workspace.count_texts(0, purpose=MEASURE) not in (0, wanted["test"]):
            return f"{workspace.count_texts(0, purpose=MEASURE)} of {wanted['test']} texts that measure"
        return ""
    finally:
        workspace.database.close()


def _moved(bed: Bed) -> str:
    root, corpus = _own(bed, "ingested")
    there = corpus.rename(corpus.with_name("moved-" + corpus.name))
    return _taken_in_again(root, there)


def _renamed(bed: Bed) -> str:
    root, corpus = _own(bed, "ingested")
    video = min(corpus.glob("*.mp4"))
    video.rename(corpus / "another name.mp4")
    return _taken_in_again(root, corpus)


def _taken_in_again(root: Path, corpus: Path) -> str:
    again = run("ingest", corpus, "--config", root)
    if again.code or "0 clips taken in" not in again.text:
        return f"exit {again.code}: {again.last()}"
    outcome = run("annotate", "--config", root)
    return _all_there(root) or "; ".join(problems(root)) if outcome.code == 0 else outcome.last()


def _other(corpus: Path, video: Path) -> Path:
    """A video that is not this one; both lie there with its side-car."""
    return next(path for path in sorted(corpus.glob("*.mp4")) if path != video)


def _swap(corpus: Path, video: Path) -> None:
    other, aside = _other(corpus, video), corpus / "aside"
    video.rename(aside)
    other.rename(video)
    aside.rename(other)


def _instead(make: Callable[[Path], object]) -> Harm:
    def harm(_: Path, video: Path) -> None:
        video.unlink()
        make(video)

    return harm


_HARMS: dict[str, Harm] = {
    "gone": lambda _, video: video.unlink(),
    "replaced by another": lambda corpus, video: shutil.copy(_other(corpus, video), video),
    "truncated": lambda _, video: os.truncate(video, video.stat().st_size // 2),
    "emptied": lambda _, video: os.truncate(video, 0),
    "with a byte changed": lambda _, video: _change(video),
    "made a FIFO": _instead(os.mkfifo),
    "made a folder": _instead(Path.mkdir),
    "made a link to a device": _instead(lambda video: video.symlink_to("/dev/zero")),
    "swapped with another": _swap,
}


def _change(video: Path) -> None:
    content = bytearray(video.read_bytes())
    content[len(content) // 2] ^= 255
    video.write_bytes(content)


def _first(root: Path, split: str) -> tuple[str, Path]:
    """Id and file of a clip."""
    workspace = Workspace.open(root)
    try:
        row = workspace.clips(split).sort("id").row(0, named=True)
        return row["id"], Path(row["uri"])
    finally:
        workspace.database.close()


def _one(bed: Bed, harm: Harm) -> str:
    root, corpus = _own(bed, "ingested")
    clip, video = _first(root, "train")
    harm(corpus, video)
    outcome = run("annotate", "--config", root, limit_s=120)
    if outcome.code:
        return f"exit {outcome.code}: {outcome.last()}"
    workspace = Workspace.open(root)
    try:
        open_rejects = workspace.rejected(open_only=True)
        if str(video) not in open_rejects["uri"].to_list():
            return f"not rejected: {open_rejects['uri'].to_list()}"
        if workspace.annotations(round=1).filter(pl.col("clip_id") == clip).height:
            return "a text of what the file is now"
    finally:
        workspace.database.close()
    _put_back(bed, corpus)
    again = run("annotate", "--retry-failed", "--config", root)
    return _all_there(root) or "; ".join(problems(root)) if again.code == 0 else again.last()


def _put_back(bed: Bed, corpus: Path) -> None:
    for path in corpus.glob("*.mp4"):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    for path in bed.corpus.glob("*.mp4"):
        shutil.copy2(path, corpus)


def _trained(bed: Bed, harm: Harm) -> str:
    root, corpus = _own(bed, "annotated")
    clip, video = _first(root, "train")
    harm(corpus, video)
    code, text, wrong = _run(["round", "--until", "pretrain"], root, corpus, (*_TRAIN, "pretrain.num_steps=6"))
    if wrong or code:
        return wrong or f"exit {code}: {text.strip()[-160:]}"
    workspace = Workspace.open(root)
    try:
        if clip in workspace.examples(round=1)["clip_id"].to_list():
            return "said to be learned"
        if str(video) not in workspace.rejected(open_only=True)["uri"].to_list():
            return "not on record"
    finally:
        workspace.database.close()
    return "; ".join(problems(root))


def _exported(bed: Bed, harm: Harm) -> str:
    root, corpus = _own(bed, "done")
    _, video = _first(root, "train")
    harm(corpus, video)
    code, text, wrong = _run(["export", "--format", "llava", "--out", "OUT"], root, corpus, ())
    if wrong:
        return wrong
    if code == 0 and video.name not in text:
        return f"no word of it: {text.strip()[-200:]}"
    if code and (root / "taken").exists():
        return "half an export"
    return "; ".join(problems(root))


def _replaced(bed: Bed) -> str:
    root, corpus = _own(bed, "ingested")
    clip, video = _first(root, "train")
    with open(video, "ab") as file:
        file.write(b"\0" * 64)
    before = run("ingest", corpus, "--config", root)
    if before.code:
        return f"exit {before.code}: {before.last()}"
    outcome = run("annotate", "--config", root)
    workspace = Workspace.open(root)
    try:
        texts = workspace.annotations(round=1).filter(pl.col("clip_id") == clip).height
    finally:
        workspace.database.close()
    if outcome.code:
        return f"annotate: exit {outcome.code}: {outcome.last()}"
    return "a text of the old content from the new file" if texts else "; ".join(problems(root))


def _removed_meanwhile(bed: Bed) -> str:
    from experiments.faults.commands import Running

    root, corpus = _own(bed, "ingested")
    running = Running("annotate", "--config", root)
    for path in sorted(corpus.glob("*.mp4")):
        running.process.join(0.15)
        path.unlink()
    first = running.end()
    if not first.clean:
        return f"exit {first.code}: {first.last()}"
    _put_back(bed, corpus)
    for words in (["annotate"], ["annotate", "--retry-failed"]):
        again = run(*words, "--config", root)
        if again.code:
            return f"then exit {again.code}: {again.last()}"
    return _all_there(root) or "; ".join(problems(root))
