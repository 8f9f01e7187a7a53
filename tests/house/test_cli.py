"""The commands as a user types them: exit codes, one clear line, results on stdout, progress on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.playground.tiny import bundled_model
from noise_control import losses


def flywheel(*arguments: str, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def test_help_is_quick_and_light() -> None:
    """No heavy library may be imported to answer --help: that is what makes it quick, on any machine."""
    code = "import sys; sys.argv = ['flywheel', '--help']\nfrom flywheel.cli import main\ntry: main()\nexcept SystemExit: pass\nprint([m for m in ('torch', 'transformers', 'mlflow', 'polars', 'sqlalchemy', 'av', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")
    times = []
    for _ in range(5):
        started = time.perf_counter()
        assert flywheel("--help").returncode == 0
        times.append(time.perf_counter() - started)
    assert min(times) < 0.3


@pytest.mark.slow
def test_init_ingest_status_show(corpus: Path, tmp_path: Path) -> None:
    assert flywheel("init", "w", cwd=tmp_path).stdout.strip() == "w/flywheel.yaml"
    w = tmp_path / "w"
    again = flywheel("init", "w", cwd=tmp_path)
    assert (again.returncode, "exists already" in again.stderr, again.stdout) == (2, True, "")
    assert flywheel("config", "validate", cwd=w).stdout == "valid\n"
    taken = flywheel("ingest", str(corpus / "corpus"), "--json", cwd=w)
    assert json.loads(taken.stdout) == {"clips": 20, "known": 0, "rejected": 0}
    found = json.loads(flywheel("status", "--json", cwd=w).stdout)
    assert {"round", "stage", "champion", "open_rejects"} <= set(found)
    assert (found["round"], found["stage"], found["champion"], found["open_rejects"]) == (
        1,
        "annotate",
        {"round": 0},
        0,
    )
    dry = json.loads(flywheel("annotate", "--dry-run", "--json", cwd=w).stdout)
    assert dry["round"] == 1
    written = flywheel("annotate", "--limit", "3", "--set", "annotate.engine=fake", "--json", cwd=w)
    assert json.loads(written.stdout)["annotations"] == 3, written.stderr
    from flywheel.store import Workspace

    clip = Workspace.open(w).annotations(round=1)["clip_id"][0]
    shown = flywheel("show", clip[:10], cwd=w).stdout
    assert "round 1 caption by model fake" in shown
    unknown = flywheel("show", "zzzz", cwd=w)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    out = flywheel("corrections", "export", "queue.jsonl", "--limit", "2", cwd=w)
    assert out.returncode == 0, out.stderr
    rows = [json.loads(line) for line in (w / "queue.jsonl").read_text().splitlines()]
    rows[0] |= {"verdict": "edit", "text": "a better text"}
    rows[1] |= {"verdict": "maybe"}
    (w / "queue.jsonl").write_text("\n".join(map(json.dumps, rows)))
    imported = flywheel("corrections", "import", "queue.jsonl", "--json", cwd=w)
    assert imported.returncode == 2
    assert json.loads(imported.stdout)["added"] == 1
    assert "queue.jsonl: line 2: verdict 'maybe' is unknown" in imported.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status",), "Make one with 'flywheel init'"),
        (("ingest", "x", "--config", "w/flywheel.yaml", "--set", "corpus.frame=1"), "Did you mean 'frames'?"),
        (("ingest", "gone", "--config", "w"), "gone: no such file or folder"),
        (("annotate", "--config", "w"), "holds no clips"),
        (("round", "--config", "w", "--set", "corpus.model=nowhere"), "no such model folder"),
        (("round", "--config", "w", "--until", "lunch"), "unknown stage"),
        (("report", "7", "--config", "w"), "round 7 never began"),
        (("dashboard", "--config", "w"), "no tracked round yet"),
        (("playground", "p", "--noise", "2"), "need a share between 0 and 1"),
        (("config", "show", "--config", "w", "--set", "nonsense"), "must look like section.key=value"),
        (("init", "z", "--preset", "nope"), "There are playground"),
    ],
)
def test_what_the_user_must_mend_is_one_line_and_exit_2(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from flywheel.cli import main
    from flywheel.core.config import template
    from flywheel.store import Workspace

    Workspace.create(tmp_path / "w", template())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["flywheel", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr()
    assert ended.value.code == 2, out.err
    assert message in out.err
    assert len(out.err.strip().splitlines()) == 1, out.err
    assert out.out == ""


@pytest.mark.slow
def test_config_commands(tmp_path: Path) -> None:
    schema = json.loads(flywheel("config", "schema").stdout)
    assert schema["additionalProperties"] is False
    assert flywheel("config", "losses").stdout.split() == sorted(losses.names())
    assert {"adatailr", "mle", "tailr"} <= set(losses.names())
    (tmp_path / "flywheel.yaml").write_text(flywheel("config", "template", "--preset", "qwen3-vl-8b").stdout)
    assert "Qwen3-VL-8B" in flywheel("config", "show", cwd=tmp_path).stdout


@pytest.mark.slow
def test_doctor(tmp_path: Path) -> None:
    flywheel("init", "w", cwd=tmp_path)
    found = json.loads(flywheel("doctor", "--config", "w", "--json", cwd=tmp_path).stdout)
    assert {c["what"] for c in found} >= {"torch", "GPU", "FFmpeg", "disk", "model", "database"}
    assert next(c for c in found if c["what"] == "model")["says"] == str(bundled_model())
    (tmp_path / "w" / "flywheel.yaml").write_text("corpus: {model: gone}")
    bad = flywheel("doctor", "--config", "w", cwd=tmp_path)
    assert bad.returncode == 1
    assert "no such model folder" in bad.stdout
