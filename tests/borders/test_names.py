"""Workspaces and videos of any name: none is an address, a pattern, a format or a command."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jinja2
import polars as pl
import pytest
import sqlalchemy as sql

from flywheel.core.config import template
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.rounds.schedule.units import Plan, unit_file
from flywheel.store import Workspace
from flywheel.store._mlflow import _address, _equals

Make = Callable[..., Workspace]
_STILL = Path(__file__).parents[1] / "ingest" / "before" / "still.mp4"
_NAMES = [
    *('it\'s "a"?#%20[b]*{x}$HOME;`id`&', "a\nb"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("?mode=memory", "a%03d", "[a]", " sp ", "-x", "CON", "\u65e5\u672c", "x" * 200)
    ),
]
#: FFmpeg's protocols and patterns among them.
_VIDEOS = [
    *("a%03d.mp4", "-i.mp4", "pipe:0.mp4", "file:x.mp4", "concat:a|b.mp4", "[a].mp4", "*.mp4", "a?b#c.mp4"),
    *(" a .mp4", "new\nline.mp4", "q\"'.mp4", "$(id).mp4", "<b>.mp4", "%s{0}.mp4", "~.mp4"),
    "subfile,,start,0,end,0,,:a.mp4",
]


@pytest.mark.parametrize("name", _NAMES)
def test_a_workspace_of_any_name(make_workspace: Make, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(_STILL, folder)
    w = make_workspace(name=name)
    with w.lock():
        assert ingest(w, [str(folder)]).clips == 1
    with w.lock():
        assert ingest(w, [str(folder / "still.mp4"), str(tmp_path / "in")]).known == 2
    again = make_workspace(name=name)
    assert again.clips()["uri"].to_list() == [str(folder / "still.mp4")]
    assert {path.name for path in tmp_path.iterdir()} == {"in", name}
    assert sql.make_url(_address(w.root / "mlflow.db")).database == str(w.root / "mlflow.db")


def test_a_folder_that_no_record_can_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    for use in (lambda: Workspace.create(folder, template()), lambda: Workspace.open(folder)):
        with pytest.raises(UserError, match=r"caf\\xe9: its path is no UTF-8. Rename the folder."):
            use()
    assert not list(tmp_path.iterdir())


def test_videos_of_any_name(make_workspace: Make, tmp_path: Path) -> None:
    folder = tmp_path / "[in]*"
    folder.mkdir()
    content = _STILL.read_bytes()
    for number, name in enumerate(_VIDEOS):
        (folder / name).write_bytes(content + bytes(number))
    pl.DataFrame({"path": _VIDEOS[:3], "text": ["a", "b", "c"]}).write_parquet(folder / "t?.parquet")
    pl.DataFrame({"path": _VIDEOS[3:6], "text": ["a", "b", "c"]}).write_csv(folder / "t*.csv")
    w = make_workspace()
    with w.lock():
        result = ingest(w, [str(folder), str(folder / "t?.parquet"), str(folder / "t*.csv")])
    assert (result.clips, result.known, result.rejected) == (len(_VIDEOS), 6, 0)
    assert {Path(uri).name for uri in w.clips()["uri"]} == set(_VIDEOS)


@pytest.mark.parametrize("name", ['it\'s "a"?#%20[b]*{{x}}$HOME;`id`&', "a\\%b", "a b", "x.sh", "plain"])
def test_a_folder_in_other_schedulers_files(name: str) -> None:
    plan = Plan(cron="0 2 * * *", root=Path("/w") / name, python="/usr/bin/python3")
    wanted = ["/usr/bin/python3", "-m", "flywheel.cli", "round", "--config", f"/w/{name}"]
    # cron(8): a % ends the command, but for those behind a backslash, which goes.
    [line] = [line for line in unit_file("crontab", plan).splitlines() if "flywheel.cli" in line]
    bare = line.replace("\\%", "\0")
    assert "%" not in bare
    assert shlex.split(bare.replace("\0", "%"))[5:11] == wanted
    made: dict[str, str] = {}
    source = unit_file("airflow", plan).replace("from airflow", "# from airflow")
    stubs = {"DAG": _Within, "BashOperator": lambda **given: made.update(given)}
    exec(source, stubs)
    assert not made["bash_command"].endswith(".sh")
    assert shlex.split(jinja2.Template(made["bash_command"]).render()) == wanted


def test_a_folder_in_systemds_file() -> None:
    plan = Plan(cron="0 2 * * *", root=Path('/w/it\'s "a" 50%\\ $HOME\nb'), python="/usr/bin/python3")
    start = r"""ExecStart=/usr/bin/python3 -m flywheel.cli round --config "/w/it's \"a\" 50%%\\ $$HOME\nb" """.rstrip()
    assert start in unit_file("systemd", plan).splitlines()
    assert "--config /w\n" in unit_file("systemd", replace(plan, root=Path("/w")))
    with pytest.raises(UserError, match="no word for a line break"):
        unit_file("crontab", plan)


class _Within:
    """Stands where a scheduler's own object would: a context that does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("name", "comparison"),
    [("a", "= 'a'"), ("it's", '= "it\'s"'), ('a"b', "= 'a\"b'"), ('it\'s "a"\nb', "LIKE 'it_s \"a\"_b'")],
)
def test_a_name_in_mlflows_language_of_filters(name: str, comparison: str) -> None:
    assert _equals(name) == comparison
