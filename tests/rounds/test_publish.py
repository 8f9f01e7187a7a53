"""What writing reports reads, however many rounds there were; and what pruning leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from flywheel.core.types import MEASURE
from flywheel.rounds import RoundContext, champion, publish
from flywheel.rounds.stages.review import corrections_by_round, num_corrections
from flywheel.store import Workspace
from human_refine.gold import add_gold
from tests.store.test_compaction import text
from tests.store.test_view import clip, correction

Make = Callable[..., Workspace]


def test_reports_are_written_again_from_one_look_at_corrections(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    w, rounds = make_workspace(), range(1, 5)
    w.add_clips([clip(0), clip(1)])
    for round in rounds:
        w.add_annotations([text(0, round), text(1, round), replace(text(2, round), purpose=MEASURE)], round)
        w.set_stage(round, "annotate", "done", {})
        w.report_folder(round).mkdir(parents=True)
    said = [replace(correction(n), id=f"{r}-{n}", annotation_id=f"a{r}-{n}") for r in rounds for n in range(3)]
    # Of one text of two refiners both stand.
    w.add_corrections([*said[3:], replace(said[3], id="another", refiner="bob")])
    add_gold(w, {"c1": "as it is"}, "eve")
    assert corrections_by_round(w) == {2: 2, 3: 1, 4: 1}
    looks, written, records = Counter[str](), [], w.correction_records
    monkeypatch.setattr(w, "correction_records", lambda: (looks.update(["corrections"]), records())[1])
    recorded = publish.recorded
    monkeypatch.setattr(publish, "recorded", lambda w, r, n: (looks.update([f"round {r}"]), recorded(w, r, n))[1])
    monkeypatch.setattr(publish, "_samples", lambda *_: {})
    monkeypatch.setattr(publish, "write_report", lambda _, reports: written.append(reports))
    context = RoundContext(w)
    publish.rewrite_reports(context)
    assert looks == {"corrections": 1, **{f"round {r}": 1 for r in range(5)}}
    assert [[report.round for report in reports] for reports in written] == [list(range(r + 1)) for r in rounds]
    assert [report.num_corrections for report in written[-1]] == [0, 0, 2, 1, 1]
    looks.clear()
    assert publish.reports_until(context, 4) == written[-1]
    assert looks["corrections"] == 1
    assert [num_corrections(context, r) for r in (1, 2)] == [0, 2]


def test_what_a_killed_prune_left_goes_with_the_next(make_workspace: Make) -> None:
    context = RoundContext(make_workspace())
    left = context.workspace.model_folder(3).with_name(".pruned-003")
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    assert champion.prune(context, 2, dry_run=True) == []
    assert left.exists()
    assert champion.prune(context, 2) == []
    assert not left.exists()
