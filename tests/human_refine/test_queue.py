"""The queue over records that grow: what it reads, and that it is always what a new start would give."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.core.types import Annotation, Clip, Correction, Verdict, content_id, standing
from flywheel.metrics import token_f1
from flywheel.rounds.takedown import take_down
from flywheel.store import Workspace, parts
from flywheel.store.columns import SCHEMAS
from human_refine import export_queue, import_corrections, import_gold, signals
from human_refine.effort import effort
from human_refine.gold import add_gold
from human_refine.people import exclude, invite
from human_refine.queue import Queue
from human_refine.saving import SaveRequest
from human_refine.service import Gone, ReviewService
from human_refine.texts import TextIndex
from tests.human_refine.test_order import by_the_rule
from tests.plugins import installed

Make = Callable[..., Workspace]
WORDS = ["a", "red", "ball", "rolls", "dog", "barks"]


def clip(number: int) -> Clip:
    split = "test" if number % 5 == 0 else "anchor" if number % 5 == 1 else "train"
    return Clip(
        id=f"c{number}",
        uri=f"/v/{number}.mp4",
        content_hash=f"h{number}",
        start_s=0.0,
        end_s=4.0,
        fps=25.0,
        width=64,
        height=64,
        has_audio=False,
        transcript="",
        sounds="",
        split=split,  # type: ignore[arg-type]
    )


def text(number: int, round: int, kind: str = "caption") -> Annotation:
    rng = random.Random(f"{number} {round} {kind}")
    words = " ".join(rng.choices(WORDS, k=4)) if number % 4 else "always the same"
    payload = json.dumps({"cues": [{"start_s": 0, "end_s": 1, "text": words}]}) if kind == "dense_caption" else ""
    return Annotation(
        id=f"{kind[0]}{round}-{number}",
        round=round,
        kind=kind,
        clip_id=f"c{number}",
        generation_id="",
        source="model",
        text=words,
        mean_logprob=-rng.choice([0.25, 0.5, rng.random()]),
        payload=payload,
    )


def write(workspace: Workspace, numbers: range, round: int) -> None:
    """Clips with captions, dense captions of every third, and what nobody is shown: transcripts, texts that measure."""
    with workspace.lock():
        workspace.add_clips([clip(i) for i in numbers])
        rows = [text(i, round) for i in numbers] + [text(i, round, "dense_caption") for i in numbers if i % 3 == 0]
        rows += [replace(text(i, 0), id=f"t-{i}", source="transcript") for i in numbers]
        rows += [replace(text(i, round), id=f"m{round}-{i}", purpose="measure") for i in numbers]
        workspace.add_annotations(rows, round)


def say(workspace: Workspace, annotation_id: str, verdict: Verdict, refiner: str = "ann") -> None:
    at = datetime.now(UTC)
    clip_id = f"c{annotation_id.split('-')[1]}"
    workspace.add_corrections(
        [
            Correction(
                id=content_id(annotation_id, at.isoformat(), refiner),
                annotation_id=annotation_id,
                clip_id=clip_id,
                verdict=verdict,
                text="",
                refiner=refiner,
                at=at,
            )
        ]
    )


def expected(workspace: Workspace, left_out: set[str], gold: set[str]) -> list[tuple[str, str]]:
    """The order of the newest round by its rule, from whole tables."""
    texts = workspace.annotations(purpose="learn").filter(
        (pl.col("source") == "model") & pl.col("kind").is_in(["caption", "dense_caption"])
    )
    newest = max(texts["round"])
    current = texts.filter(pl.col("round") == newest)
    given: dict[str, list[Correction]] = {}
    for correction in workspace.correction_records():
        if correction.refiner not in left_out:
            given.setdefault(correction.annotation_id, []).append(correction)
    settled = {i for i, corrections in given.items() if standing(corrections)}
    pairs = set(
        texts.filter((pl.col("round") < newest) & pl.col("id").is_in(list(settled))).select("clip_id", "kind").rows()
    )
    rows = [r for r in current.to_dicts() if (r["clip_id"], r["kind"]) not in pairs and r["clip_id"] not in gold]
    before = {
        (r["clip_id"], r["kind"]): r["text"]
        for r in texts.filter(pl.col("round") < newest).sort("round", maintain_order=True).to_dicts()
    }
    changes = {
        r["id"]: 1 - token_f1(r["text"], before[r["clip_id"], r["kind"]])
        for r in rows
        if (r["clip_id"], r["kind"]) in before
    }
    splits = dict(workspace.clips().select("id", "split").iter_rows())
    by_signal = {
        "doubt": {r["id"]: -r["mean_logprob"] for r in rows},
        "change": {i: value for i, value in changes.items() if value > 0},
    }
    return by_the_rule([r["id"] for r in rows], {r["id"]: splits[r["clip_id"]] for r in rows}, 0.3, by_signal)


def order_of(queue: Queue) -> list[tuple[str, str]]:
    return [(place.annotation_id, place.why) for place in queue.places()]


@pytest.fixture
def workspace(make_workspace: Make) -> Workspace:
    w = make_workspace("review.random_share=0.3", "review.gold_share=0", "annotate.engine=fake")
    write(w, range(40), 1)
    return w


@pytest.fixture
def shards_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """Kind and number of shards of each read."""
    seen: list[tuple[str, int]] = []
    scan = pl.scan_parquet

    def counted(files: list[Path], **options: Any) -> pl.LazyFrame:
        seen.append((next(part for part in files[0].parts if part in SCHEMAS), len(files)))
        return scan(files, **options)

    monkeypatch.setattr(parts.pl, "scan_parquet", counted)
    return seen


@pytest.mark.slow
def test_a_look_gives_what_a_new_start_gives(workspace: Workspace) -> None:
    """New texts of the round and of the next, words in any round, gold, exclusions and a takedown, one after
    another."""
    gold: set[str] = set()
    left_out: set[str] = set()
    queue = Queue(workspace)
    invite(workspace, "bob", "refiner")

    def make_gold() -> None:
        gold.add("c2")
        add_gold(workspace, {"c2": "What is right."}, "lead")

    def leave_out() -> None:
        left_out.add("bob")
        exclude(workspace, "bob", "does not look")

    def take_away() -> None:
        with workspace.lock():
            take_down(workspace, ["c8"], "asked for", rewrite=lambda: None)

    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: write(workspace, range(40, 53), 1),
        lambda: say(workspace, "c1-3", "accept"),
        lambda: say(workspace, "d1-3", "skip"),
        lambda: say(workspace, "c1-4", "reject", "bob"),
        lambda: write(workspace, range(20), 2),
        lambda: write(workspace, range(20, 53), 2),
        make_gold,
        lambda: say(workspace, "d1-6", "accept"),
        lambda: say(workspace, "c1-3", "withdraw"),
        leave_out,
        take_away,
        lambda: write(workspace, range(53, 60), 2),
    ]
    for number, step in enumerate(steps):
        step()
        queue._look()
        assert order_of(queue) == expected(workspace, left_out, gold) == order_of(Queue(workspace)), number
    assert queue.progress() == Queue(workspace).progress()


def test_a_look_reads_what_is_new_and_nothing_else(workspace: Workspace, shards_read: list[tuple[str, int]]) -> None:
    for start in range(40, 100, 10):
        write(workspace, range(start, start + 10), 1)
    queue = Queue(workspace)
    assert sum(count for kind, count in shards_read if kind == "annotations") == 7
    shards_read.clear()
    queue._look()
    add_gold(workspace, {"c2": "What is right."}, "lead")
    shards_read.clear()
    queue._look()
    assert shards_read == [], "gold is no reason to read a text"
    write(workspace, range(100, 110), 1)
    shards_read.clear()
    queue._look()
    assert sorted(shards_read) == [("annotations", 1), ("clips", 1)]
    shards_read.clear()
    assert queue.next("ann") is not None
    assert shards_read == [("annotations", 1)], "a text is looked up in its shard"


def test_a_file_is_checked_against_the_texts_it_names(
    workspace: Workspace, tmp_path: Path, shards_read: list[tuple[str, int]]
) -> None:
    for start in range(40, 100, 10):
        write(workspace, range(start, start + 10), 1)
    file = tmp_path / "c.jsonl"
    file.write_text(json.dumps({"annotation_id": "c1-42", "verdict": "accept", "refiner": "ann"}))
    shards_read.clear()
    assert import_corrections(workspace, file).added == 1
    assert shards_read == [("annotations", 1), ("clips", 1)]
    shards_read.clear()
    assert import_gold(workspace, file, "lead").added == 1
    assert {count for _, count in shards_read} == {1}
    file.write_text(json.dumps({"annotation_id": "nope", "verdict": "accept"}))
    shards_read.clear()
    assert "annotation 'nope' is unknown" in import_corrections(workspace, file).refused[0]
    assert shards_read == []


def test_effort_reads_corrected_texts_alone(workspace: Workspace, shards_read: list[tuple[str, int]]) -> None:
    for start in range(40, 70, 10):
        write(workspace, range(start, start + 10), 1)
    say(workspace, "c1-42", "accept")
    say(workspace, "c1-43", "reject", "bob")
    shards_read.clear()
    found = effort(workspace, 1)
    assert shards_read == [("annotations", 1)]
    assert (found.texts, found.overlap, effort(workspace, 2).texts) == (2, 0, 0)
    rows = {row.pop("refiner"): row for row in found.to_json()["refiners"]}
    assert set(rows) == {"ann", "bob"}
    assert rows["ann"].pop("last")
    assert rows["ann"] == {"said": 1, "seconds": 0.0, "accept": 1, "gold": None, "seconds_each": 0.0, "edit_rate": 0.0}
    assert set(found.to_json()) == {"texts", "overlap", "refiners", "seconds_each", "edit_rate"}, "None is left out"


def test_a_text_that_is_taken_down_is_gone_at_once(workspace: Workspace) -> None:
    """Before the page's next look: it is not saved, and not laid before anybody."""
    service = ReviewService(workspace)
    shown = service.take("ann")
    assert shown is not None
    waits = order_of(service.queue)[1][0]
    clips = [shown["clip_id"], f"c{waits.split('-')[1]}"]
    with workspace.lock():
        take_down(workspace, clips, "asked for", rewrite=lambda: None)
    request = SaveRequest(annotation_id=shown["annotation_id"], verdict="accept", save_id="0123456789", base="")
    with pytest.raises(Gone):
        service.save("ann", request)
    assert workspace.corrections().is_empty()
    again = service.take("ann")
    assert again is not None
    assert again["clip_id"] not in clips
    assert service.queue.clip(clips[0]) is None


def test_an_old_page_goes_on_with_its_text(workspace: Workspace) -> None:
    """A text that is open while the next round's are written stays that person's, and can be saved."""
    service = ReviewService(workspace)
    shown = service.take("ann")
    assert shown is not None
    write(workspace, range(40), 2)
    service.queue._look()
    again = service.take("ann")
    assert again is not None
    assert again["annotation_id"] == shown["annotation_id"]
    request = SaveRequest(annotation_id=shown["annotation_id"], verdict="accept", save_id="0123456789", base="")
    service.save("ann", request)
    following = service.take("ann")
    assert following is not None
    assert following["round"] == 2


def test_who_comes_after_a_round_wrote_is_given_its_texts(workspace: Workspace) -> None:
    """At once, not with the queue's next look some seconds later: an old text would stay with them until they save."""
    service = ReviewService(workspace)
    kept = service.take("ann")
    assert kept is not None
    write(workspace, range(40), 2)
    for name, round in (("bob", 2), ("ann", 1)):
        shown = service.take(name)
        assert shown is not None
        assert shown["round"] == round, name


def test_earlier_texts_are_of_the_clip_and_its_kind(workspace: Workspace) -> None:
    write(workspace, range(40), 2)
    write(workspace, range(40), 3)
    queue = Queue(workspace)
    item = queue.item("d3-6")
    assert item is not None
    assert queue.earlier(item) == [(round, "model", text(6, round, "dense_caption").text) for round in (2, 1)]
    item = queue.item("c3-6")
    assert item is not None
    assert queue.earlier(item) == [
        (2, "model", text(6, 2).text),
        (1, "model", text(6, 1).text),
        (0, "transcript", text(6, 0).text),
    ]


def test_a_limited_export_is_the_front_of_the_whole(workspace: Workspace, tmp_path: Path) -> None:
    captions = [i for i, _ in order_of(Queue(workspace)) if i.startswith("c")]
    say(workspace, captions[0], "skip")
    for form in ("jsonl", "csv"):
        whole, front = tmp_path / f"whole.{form}", tmp_path / f"front.{form}"
        count = export_queue(workspace, whole, form=form)
        assert export_queue(workspace, front, limit=7, form=form) == 7
        assert whole.read_text().startswith(front.read_text())
        assert count == len(whole.read_text().splitlines()) - (form == "csv")
    ids = [json.loads(line)["annotation_id"] for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert ids == captions[1:]


@pytest.mark.slow
def test_who_wishes_has_anchors_first_in_the_order_they_have(workspace: Workspace, tmp_path: Path) -> None:
    """The same ones in the same random order as for all others, only sooner; then what the queue has."""
    service = ReviewService(workspace)
    places = order_of(service.queue)
    anchors = [i for i, why in places if why == "anchor"]
    others = [i for i, why in places if why != "anchor"]
    assert [why for _, why in places[: len(anchors)]] != ["anchor"] * len(anchors)

    def takes(name: str) -> str:
        shown = service.take(name, anchors_first=True)
        assert shown is not None
        return str(shown["annotation_id"])

    assert [takes("ann"), takes("bob"), takes("ann")] == [anchors[0], anchors[1], anchors[0]]
    for number, expected in enumerate([anchors[0], *anchors[2:], others[0]]):
        assert takes("ann") == expected
        request = SaveRequest(annotation_id=expected, verdict="accept", save_id=f"012345678{number}", base="")
        service.save("ann", request)
    captions = [i for i in [anchors[1], *others[1:]] if i.startswith("c")]
    file = tmp_path / "first.jsonl"
    assert export_queue(workspace, file, anchors_first=True) == len(captions)
    assert [json.loads(line)["annotation_id"] for line in file.read_text().splitlines()] == captions


LONGEST = """
from human_refine.signals import lasting


@lasting
def longest(batch):
    return batch.read_texts().str.len_chars().to_numpy().astype(float)
"""


def test_a_signal_of_another_package(workspace: Workspace, tmp_path: Path) -> None:
    """One file and an entry point: the queue asks it of each text once, as it says that its values last."""
    point = {"flywheel.human_refine.signals:longest": "longest_signal:longest"}
    with installed(tmp_path, "longest_signal", LONGEST, point):
        assert signals.SIGNALS.names() == ["change", "doubt", "longest", "noise", "novelty", "novelty_by_index"]
        index = TextIndex(workspace=workspace, signals=("longest",)).refreshed()
    texts = dict(workspace.annotations(round=1).select("id", "text").iter_rows())
    lengths = dict(zip(map(index.id_of, range(len(index))), index.current.values["longest"], strict=True))
    assert lengths == {i: len(texts[i]) for i in lengths}
    assert len(lengths) == 40 + 14
