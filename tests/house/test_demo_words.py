"""What the demo says at its end, and the workspace that is ready to be looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.demo import QUICK, ready_folder, ready_summary, table, verdict, where


def figures(f1: float) -> dict[str, Any]:
    slot_f1 = {"value": f1, "low": f1 - 0.01, "high": f1 + 0.01, "n": 9}
    spread = {"distinct_1": {"value": 0.2}, "distinct_3": {"value": 0.6}}
    return {"oracle": {"slot_f1": slot_f1}, "diversity": spread}


def summary(last: float, ceiling: float | None = None) -> dict[str, Any]:
    change = {"value": last - 0.6, "low": last - 0.65, "high": last - 0.55}
    round = {**figures(last), "round": 1, "num_corrections": 12, "gate": {}, "change": change, "gain": change}
    whole = {"truth": figures(1), "transcripts": figures(0.6), "base": figures(0.6), "rounds": [round]}
    return {**whole, "wall_s": 9.0, "peak_rss_gib": 1.0} | ({"ceiling": figures(ceiling)} if ceiling else {})


def test_one_sentence_says_what_came_of_it() -> None:
    gained = verdict(summary(0.8))
    assert gained == (
        "After 1 round and 12 corrected texts the model has 80% of the facts right, where the base model had 60% "
        "(95 % interval of the gain +15.0% to +25.0%)."
    )
    assert verdict(summary(0.8, 0.9)).endswith("; trained on the truth it would have 90%.")
    assert "no gain" in verdict(summary(0.62))
    assert "ceiling" not in table(summary(0.8))
    assert table(summary(0.8, 0.9)).splitlines()[5].split()[:2] == ["ceiling", "0.900"]


def test_three_links_work_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report, review, mlflow = where(summary(0.8), Path("my demo"), Path("my demo"), "abc")
    assert report.endswith(f"{(tmp_path / 'my demo').as_uri()}/reports/round%3D001/report.html")
    assert review.endswith("http://127.0.0.1:8470/invite/abc (after: flywheel review --config 'my demo')")
    assert mlflow.endswith("http://127.0.0.1:5000 (after: flywheel dashboard --config 'my demo')")


def test_what_is_ready_is_opened_and_what_is_not_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = ready_folder()
    assert folder.parent == tmp_path / "flywheel"
    assert ready_summary(folder) is None
    assert "is made now, once" in capsys.readouterr().err
    folder.mkdir(parents=True)
    (folder / "flywheel.yaml").touch()
    whole = json.dumps(summary(0.8))
    for damaged in ("", whole[:-9], "[]", '{"rounds": []}', '{"rounds": [{}]}'):
        (folder / "summary.json").write_text(damaged)
        assert ready_summary(folder) is None
    (folder / "summary.json").write_text(whole)
    assert ready_summary(folder) == json.loads(whole)
    assert capsys.readouterr().err.count("is made now, once") == 5


def test_the_quick_demo_lets_nothing_through_untested() -> None:
    """With fewer anchors than the gate needs it could not tell, and a round would learn from the base's own texts."""
    from flywheel.core.config.sections import Gate

    assert round(QUICK.anchor_part * int(QUICK.correction_share * QUICK.num_clips)) >= Gate().min_anchors
    assert "gate" not in QUICK.settings
