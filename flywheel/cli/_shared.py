"""What the commands share: options, opening a workspace, printing results and errors."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TextIO, TypeVar

import typer

from flywheel.core.errors import FlywheelError, GateRefused, UserError
from flywheel.core.foreign import escaped
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.rounds import RoundContext
    from flywheel.store import Workspace

Config = Annotated[Path, typer.Option("--config", help="flywheel.yaml, or the folder or URL that holds it.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override: section.key=value. May be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Process at most N.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without a question.")]
HERE = Path("flywheel.yaml")

#: What a disk says that is full, or away.
_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_P = ParamSpec("_P")
_T = TypeVar("_T")
#: Where results go, innermost command last; while a command works, sys.stdout is sys.stderr.
_results: list[TextIO] = []
_offline = False


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as commands end with it: a name for programs, one line, an exit code."""

    code: str
    message: str
    exit: int


def failure_of(error: BaseException) -> Failure:
    """The failure that a FlywheelError, an OSError or an interruption is."""
    if isinstance(error, FlywheelError):
        return Failure(code=error.code, message=str(error), exit=error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure(code="interrupted", message="interrupted; run the same command to go on", exit=130)
    where, what = getattr(error, "filename", None) or "flywheel", getattr(error, "strerror", None) or error
    mend = "Nothing already written is lost; fix this and run the same command."
    return Failure(code="os", message=f"{where}: {what}. {mend}", exit=1)


def command(function: Callable[_P, None]) -> Callable[_P, None]:
    """The function with stdout for its results alone, and with ``--json`` its error among them.

    Some libraries log to stdout (DeepSpeed does when it is imported).
    """

    @functools.wraps(function)
    def run(*arguments: _P.args, **options: _P.kwargs) -> None:
        _results.append(sys.stdout)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                if isinstance(named := options.get("config"), Path):
                    options["config"] = _here(named)
                function(*arguments, **options)
        except (GateRefused, BrokenPipeError):
            # A gate's verdict is a result, and printed already.
            raise
        except (FlywheelError, OSError, KeyboardInterrupt) as error:
            config = options.get("config")
            if isinstance(error, OSError) and error.errno in _OF_A_DISK and error.filename is None:
                # Whose disk is full, or away: as good as always the workspace's.
                place = config if isinstance(config, Path) else Path()
                error.filename = str(place if place.is_dir() else place.absolute().parent)
            failure = failure_of(error)
            if options.get("json_"):
                print_json({"error": vars(failure)})
            if isinstance(error, KeyboardInterrupt):
                # Typer would end without a word.
                say(failure.message)
                raise typer.Exit(failure.exit) from error
            raise
        finally:
            _results.pop()

    return run


def _here(config: Path) -> Path:
    """The path of a workspace on this host: of one on an object store the folder with its copies."""
    if ":/" not in str(config):
        return config
    from flywheel.store.opening import opened

    return opened(config)


def check_database(address: str, database: str) -> None:
    """Raise UserError where a workspace at a URL can't have this database: none, or one whose password all may read."""
    from flywheel.store.database import has_open_password

    if not database:
        raise UserError(
            f"{address}: on an object store a workspace has its database on PostgreSQL. Say --database URL."
        )
    if has_open_password(database):
        raise UserError(
            f"--database: its password would lie in {address} for all who read there. Put it into a variable of the "
            "environment, and write the variable's name: 'postgresql://user:$PASSWORD@host/name', in single quotes."
        )


def print_text(text: str, end: str = "\n") -> None:
    """Print a result on stdout; what a terminal would obey in it is escaped, tabs and line breaks apart."""
    print(escaped(text, keep="\n\t"), end=end, file=_results[-1] if _results else sys.stdout, flush=True)


def print_json(values: Any) -> None:
    """Print a result as JSON on stdout."""
    print_text(json.dumps(values, indent=2, default=str))


def print_result(values: Any, as_json: bool, text: str) -> None:
    """Print a result as JSON, or as text."""
    if as_json:
        print_json(values)
    else:
        print_text(text)


def say_next(*commands: str, config: str | Path | None = None) -> None:
    """Say which commands come next, on stderr; those on a workspace name its ``config`` where it is not here."""
    option = "" if config is None or config == HERE else f" --config {shlex.quote(_place_of(config))}"
    for number, line in enumerate(commands):
        words, mark, comment = line.partition("  # ")
        is_command = words.startswith("flywheel ")
        say(f"{'Next:' if number == 0 else '     '} {words}{option if is_command else ''}{mark}{comment}")


def _place_of(config: str | Path) -> str:
    """What a command names a workspace by: its path, or the URL that a folder has copies of."""
    if not isinstance(config, Path) or not (config / ".objects").exists():
        return str(config)
    from flywheel.store.mirror import mirror_of

    mirror = mirror_of(config)
    return str(config) if mirror is None else mirror.url


def say_what_comes_next(workspace: Workspace, config: Path, as_json: bool = False, *, told: bool = False) -> None:
    """Say what the workspace can't do as it is (but where that was ``told``), and which commands come next.

    Nothing is said beside a result as JSON.
    """
    if as_json:
        return
    from flywheel.rounds.outlook import outlook_of

    try:
        outlook = outlook_of(workspace)
    except FlywheelError:
        # What the command was asked for is done; 'flywheel status' says what is wrong.
        return
    for line in () if told else outlook.impossible:
        say(line)
    say_next(*outlook.next, config=config)


def keep_stdout_for_results() -> None:
    """Let this process's results alone go to stdout; what libraries and other processes write there goes to stderr.

    Those that train are processes of their own, and C libraries know no ``sys.stdout``: the file behind it is another.
    """
    with contextlib.suppress(OSError, ValueError):
        # A service may have closed either, and whoever calls from Python may have put something else there.
        if sys.stdout.fileno() != 1:
            return
        sys.stdout.flush()
        results = os.dup(1)
        os.dup2(2, 1)
        options: dict[str, Any] = {"encoding": sys.stdout.encoding, "errors": sys.stdout.errors}
        sys.stdout = open(results, "w", buffering=1, **options)  # noqa: SIM115  (open as long as the process lives)


def remember_wishes() -> None:
    """Note what the environment asks for, before the commands' own settings join it."""
    global _offline
    _offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def offline_by_wish() -> bool:
    """Whether who called wants nothing fetched: HF_HUB_OFFLINE, as the hub's library reads it."""
    return _offline


def confirm(command: str, what: str) -> None:
    """Show what would be done, and ask on the terminal. Raises UserError where the answer is no, or nobody can answer.

    What can't be undone asks first; scripts say ``--yes``.
    """
    for line in what.split("\n"):
        say(line)
    if not sys.stdin.isatty():
        raise UserError(f"{command}: nothing was done. Say --yes to do this, or --dry-run to only look.")
    if not typer.confirm("Do this?", err=True):
        raise UserError(f"{command}: nothing was done.")


@contextlib.contextmanager
def agreed(
    lock: Callable[[], AbstractContextManager[Any]], planned: Callable[[], _T], ask: Callable[[_T], None] | None
) -> Iterator[_T]:
    """The lock, and the plan that was agreed to; the lock is free while somebody thinks about the answer.

    What is planned is asked about again where it became something else meanwhile. Without ``ask`` nothing is asked.
    """
    last: _T | None = None
    while True:
        with lock():
            plan = planned()
            if ask is None or plan == last:
                yield plan
                return
        ask(plan)
        last = plan


def config_file(config: Path) -> Path:
    """The config file that ``--config`` names, itself or by its folder."""
    from flywheel.core.config import FILE_NAME

    return config / FILE_NAME if config.is_dir() else config


def open_workspace(config: Path, overrides: list[str] | None = None) -> Workspace:
    """The workspace of this config. Raises UserError where there is none."""
    from flywheel.store import Workspace

    return Workspace.open(config, overrides)


def open_context(config: Path, overrides: list[str] | None = None) -> RoundContext:
    """The context of this config's rounds. Raises UserError where there is no workspace, or no model."""
    return context_of(open_workspace(config, overrides))


def context_of(workspace: Workspace) -> RoundContext:
    """The context of this workspace's rounds. Raises UserError where its model's folder is none."""
    from flywheel.models.load import check_folder, model_folder
    from flywheel.rounds import RoundContext

    check_folder(model_folder(workspace.config.main.folder, workspace.root))
    return RoundContext(workspace)


def clips_named(workspace: Workspace, names: list[str]) -> list[str]:
    """Ids of the clips whose id begins so, or whose file lies there. Raises UserError for a name without any."""
    found: list[str] = []
    for name in names:
        ids = workspace.find_clips(name)["id"].to_list()
        if not ids:
            raise UserError(f"{name}: no clip has this id, and no clip's file lies there.")
        found += ids
    return list(dict.fromkeys(found))


def one_clip(workspace: Workspace, name: str) -> str:
    """The id of the one clip that a name means. Raises UserError for none, and for several."""
    clips = clips_named(workspace, [name])
    if len(clips) > 1:
        raise UserError(f"{name}: is {len(clips)} clips, such as {clips[0]}. Name one by its id.")
    return clips[0]


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as if the command were done: what it holds is given back."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
