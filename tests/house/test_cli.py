"""The commands as a user types them: exit codes, one clear line, results on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.core.config import template
from flywheel.playground.tiny import bundled_model
from flywheel.store import Workspace
from noise_control import losses
from tests.plugins import Command


def flywheel(*arguments: str, cwd: Path | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flywheel.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    from flywheel.cli import main

    monkeypatch.setattr(sys, "argv", ["flywheel", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr()
    return int(ended.value.code or 0), out.out, out.err


def _raise(error: Exception) -> None:
    raise error


def test_help_is_quick_and_light() -> None:
    """No heavy library may be imported to answer --help: that is what makes it quick, on any machine."""
    heavy = (
        "torch",
        "transformers",
        "mlflow",
        "polars",
        "sqlalchemy",
        "av",
        "numpy",
        "yaml",
        "pydantic",
        "flywheel.store",
    )
    code = (
        "import sys; sys.argv = ['flywheel', '--help']\nfrom flywheel.cli import main\n"
        f"try: main()\nexcept SystemExit: pass\nprint([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")
    times = []
    for _ in range(5):
        before = os.times()
        assert flywheel("--help").returncode == 0
        after = os.times()
        # Time of the processor, which other processes don't lengthen: the wall's on a machine that is idle.
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        if times[-1] < 0.3:
            break
    assert min(times) < 0.3


def test_every_command_has_its_help_and_one_place() -> None:
    from typer.testing import CliRunner

    from flywheel.cli import app
    from flywheel.cli._index import INDEX

    def help_of(*path: str) -> str:
        found = CliRunner().invoke(app, [*path, "-h"], env={"COLUMNS": "80"})
        assert found.exit_code == 0, path
        return found.stdout

    def listed(text: str) -> list[str]:
        return re.findall(r"^  ([a-z][a-z-]*)  ", text, re.M)

    every = [info.name for info in (*app.registered_commands, *app.registered_groups)]
    indexed = [name for lines in INDEX.values() for name in lines]
    assert sorted(indexed) == sorted(map(str, every)), "a line in flywheel/cli/_index.py for each command, and no other"
    text = help_of()
    assert listed(text) == indexed
    assert "..." not in text.split("Start:")[1]
    assert re.findall(r"^(\w+):$", text, re.M) == ["Options", *INDEX]
    assert listed(help_of("corrections")) == ["import", "export", "uses"]
    assert listed(help_of("config")) == ["template", "validate", "schema", "show", "explain", "losses", "migrate"]
    assert listed(help_of("schedule")) == ["start", "write"]
    assert listed(help_of("prompts")) == ["list", "show", "copy", "try"]


def test_the_version_is_the_package_s(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import flywheel as package

    assert in_process(monkeypatch, capsys, "--version") == (0, f"flywheel {package.__version__}\n", "")


def test_a_shell_completes_commands_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the script of ``flywheel --show-completion`` asks."""

    def completed(line: str) -> list[str]:
        monkeypatch.setenv("_FLYWHEEL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
        ended, out, err = in_process(monkeypatch, capsys)
        assert (ended, err) == (0, "")
        return out.split()

    assert completed("flywheel ro") == ["round", "rollback"]
    assert completed("flywheel corrections ex") == ["export"]
    assert "--dry-run" in completed("flywheel takedown --d")


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (("status", "--config", "nowhere"), "", 2),
        (("show", "zz", "--config", "w"), "", 2),
        (("ingest", "gone", "--config", "w"), "", 2),
        (("round", "--config", "w", "--set", "models.main.folder=nowhere"), "", 2),
        (("promote", "4", "--config", "w"), "", 2),
    ],
)
def test_an_error_is_printed_as_json_too(
    arguments: tuple[str, ...],
    code: str,
    exit_code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Workspace.create(tmp_path / "w", template())
    monkeypatch.chdir(tmp_path)
    plain = in_process(monkeypatch, capsys, *arguments)
    assert (plain[0], plain[1]) == (exit_code, "")
    ended, out, err = in_process(monkeypatch, capsys, *arguments, "--json")
    assert json.loads(out) == {"error": {"code": code, "message": err.strip(), "exit": exit_code}}
    assert (ended, err) == (exit_code, plain[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "--json", "--clips"), "Option '--clips' requires an argument."),
        (("clips", "--json", "--nosuch"), "No such option"),
        (("config", "explain", "--json"), "Missing"),
        (("--nosuch", "status", "--json"), "No such option"),
        (("nosuch", "--json"), "No such command 'nosuch'."),
    ],
)
def test_wrong_usage_is_printed_as_json_too(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = in_process(monkeypatch, capsys, *arguments)
    error = json.loads(out)["error"]
    assert (ended, error["exit"], error["code"]) == (2, 2, "usage")
    assert message in error["message"]
    assert error["message"] in err
    without = [argument for argument in arguments if argument != "--json"]
    assert in_process(monkeypatch, capsys, *without)[:2] == (2, "")


@pytest.mark.slow
def test_what_an_empty_workspace_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = in_process(monkeypatch, capsys, "init", "Ann's w")
    assert ended == 0
    assert "Next: cd 'Ann'\"'\"'s w'\n" in err
    monkeypatch.chdir(tmp_path / "Ann's w")
    assert in_process(monkeypatch, capsys, "clips")[1:] == ("no clips yet\n", "Next: flywheel ingest /path/to/videos\n")
    assert "had a link" not in in_process(monkeypatch, capsys, "invite", "--name", "Ann")[2]
    assert (
        "invite: Ann had a link already; it works no longer"
        in in_process(monkeypatch, capsys, "invite", "--name", "Ann")[2]
    )
    Path("flywheel.yaml").write_text("# nothing\n")
    out, err = in_process(monkeypatch, capsys, "config", "validate")[1:]
    assert (out, err[:47]) == ("valid\n", "flywheel.yaml is empty: all values are defaults")


@pytest.mark.slow
def test_a_workspace_in_use_has_a_code(
    make_workspace: Callable[..., Workspace],
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Said in JSON as "busy", which is what the schedule goes by."""
    w = make_workspace()
    arguments = ("ingest", str(corpus / "corpus"), "--config", str(w.root), "--json")
    with w.lock():
        ended, out, err = in_process(monkeypatch, capsys, *arguments)
    assert (ended, json.loads(out)["error"]["code"]) == (2, "busy")
    assert "in use by another flywheel process" in err
    assert in_process(monkeypatch, capsys, *arguments)[0] == 0


def test_an_ingest_of_broken_files_alone_names_them_and_fails(
    make_workspace: Callable[..., Workspace], tmp_path: Path, commandline: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    assert commandline("ingest", tmp_path / "videos", "--config", make_workspace().root) == 1
    said = capsys.readouterr()
    assert f"rejected: {tmp_path}/videos/a.mp4: not a readable video" in said.err
    assert "0 clips taken in, 0 known already, 1 files rejected" in said.out


def test_a_workspace_of_a_later_version_has_a_code(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = make_workspace()
    w.set_meta("schema_version", "999")
    w.database.close()
    ended, out, _ = in_process(monkeypatch, capsys, "status", "--config", str(w.root), "--json")
    assert (ended, json.loads(out)["error"]["code"]) == (2, "newer")


@pytest.mark.parametrize("as_json", [True, False])
def test_an_interruption_is_one_line_and_exit_130(
    as_json: bool,
    make_workspace: Callable[..., Workspace],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import flywheel.status

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flywheel.status, "status_of", interrupted)
    root = str(make_workspace().root)
    ended, out, err = in_process(monkeypatch, capsys, "status", "--config", root, *["--json"] * as_json)
    assert (ended, err) == (130, "interrupted; run the same command to go on\n")
    if as_json:
        assert json.loads(out)["error"] == {"code": "interrupted", "message": err.strip(), "exit": 130}
    else:
        assert out == ""


def test_a_full_disk_is_one_line_and_exit_1(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import flywheel.status

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/w/part")

    monkeypatch.setattr(flywheel.status, "status_of", full)
    ended, out, err = in_process(monkeypatch, capsys, "status", "--config", str(make_workspace().root), "--json")
    assert (ended, json.loads(out)["error"]["code"]) == (1, "os")
    assert err.startswith("/w/part: No space left on device. Nothing already written is lost")
    root = make_workspace().root
    for config in (root, root / "flywheel.yaml"):
        # A library that names no file.
        error = OSError(28, "No space left on device")
        monkeypatch.setattr(flywheel.status, "status_of", lambda _, error=error: _raise(error))
        err = in_process(monkeypatch, capsys, "status", "--config", str(config))[2]
        assert err.startswith(f"{root}: No space left on device. Nothing already written is lost")


def test_libraries_that_print_leave_the_results_alone(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import flywheel.status

    status_of = flywheel.status.status_of

    def noisy(workspace: Workspace) -> object:
        print("a library's log")
        return status_of(workspace)

    monkeypatch.setattr(flywheel.status, "status_of", noisy)
    _, out, err = in_process(monkeypatch, capsys, "status", "--config", str(make_workspace().root), "--json")
    assert json.loads(out)["round"] == 1
    assert "a library's log" in err


def test_config_migrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "flywheel.yaml"
    file.write_text("annotate:\n  engine: fake  # no model\n  seed: 1\n")
    ended, out, err = in_process(monkeypatch, capsys, "config", "migrate", "--config", str(tmp_path), "--dry-run")
    assert (ended, err) == (0, "annotate.engine: is models.main.engine now.\n")
    assert "+    engine: fake  # no model\n" in out
    assert file.read_text().startswith("annotate:\n  engine")
    ended, out, _ = in_process(monkeypatch, capsys, "config", "migrate", "--config", str(tmp_path))
    assert (ended, out) == (0, f"{file} is rewritten; as it was it lies in {file}.bak\n")
    assert file.read_text() == "annotate:\n  seed: 1\nmodels:\n  main:\n    engine: fake  # no model\n"
    assert (
        in_process(monkeypatch, capsys, "config", "migrate", "--config", str(file))[1] == f"{file}: nothing to move\n"
    )
    file.write_text("annotate:\n\tengine: fake\n")
    ended, out, err = in_process(monkeypatch, capsys, "config", "migrate", "--config", str(file))
    assert (ended, out, err) == (2, "", f"{file}: line 2: a tab in the indentation. Write spaces.\n")


@pytest.mark.slow
def test_init_ingest_status_show(corpus: Path, tmp_path: Path) -> None:
    assert flywheel("init", "w", cwd=tmp_path).stdout.strip() == "w/flywheel.yaml"
    w = tmp_path / "w"
    again = flywheel("init", "w", cwd=tmp_path)
    assert (again.returncode, "exists already" in again.stderr, again.stdout) == (2, True, "")
    assert flywheel("config", "validate", cwd=w).stdout == "valid\n"
    wrong = flywheel("config", "validate", "--set", "models.main.engine=vlllm", cwd=w)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'vllm'?" in wrong.stderr
    taken = flywheel("ingest", str(corpus / "corpus"), "--json", cwd=w)
    said = json.loads(taken.stdout)
    assert (said["clips"], said["known"], said["rejected"], said["first_rejected"]) == (20, 0, 0, [])
    assert (said["other_texts"], said["passed_over"], said["notes"]) == (0, {}, [])
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
        (("annotate", "--config", "w"), "no clips yet"),
        (("round", "--config", "w", "--set", "models.main.folder=nowhere"), "no such model folder"),
        (("round", "--config", "w", "--until", "lunch"), "unknown stage"),
        (("report", "7", "--config", "w"), "round 7 never began"),
        (("dashboard", "--config", "w"), "no tracked round yet"),
        (("playground", "p", "--noise", "2"), "need a share between 0 and 1"),
        (("playground", "p", "--world", "opera"), "--world opera: need scenes, av or timeline."),
        (("playground", "p", "--off-screen", "0"), "--off-screen: plants a fault in sound. Give --world av too."),
        (("playground", "p", "--world", "av", "--shift", "1.5"), "--shift 1.5: need a share between 0 and 1."),
        (
            ("playground", "p", "--world", "av", "--mismatch", ".7", "--silent", ".6"),
            "that add up to at most 1, got 1.3",
        ),
        (("config", "show", "--config", "w", "--set", "nonsense"), "must look like section.key=value"),
        (("config", "show", "--config", "w", "--set", "gate.qqq=2"), "'flywheel config explain gate' lists all."),
        (("config", "show", "--config", "odd"), "odd/flywheel.yaml: is a folder, and no configuration."),
        (("corrections", "export", "a.xyz", "--config", "w"), "written as .csv, .json, .jsonl, .parquet, .srt, .vtt."),
        (("gold", "nothing", "--config", "w"), "nothing: can't be read (No such file or directory)."),
        (("plan", "--config", "w"), "there are no clips yet. Say for how many: --clips N."),
        (("compare", "1", "1", "--config", "w"), "compare 1 1: is one round. Name two."),
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
    Workspace.create(tmp_path / "w", template())
    (tmp_path / "odd" / "flywheel.yaml").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    ended, out, err = in_process(monkeypatch, capsys, *arguments)
    assert ended == 2, err
    assert message in err
    assert len(err.strip().splitlines()) == 1, err
    assert out == ""


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
