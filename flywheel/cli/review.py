"""Commands about people and their corrections."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli._shared import (
    HERE,
    Config,
    Json,
    Limit,
    Set,
    open_workspace,
    print_result,
    print_text,
    say_next,
    say_what_comes_next,
)
from flywheel.core.errors import BorderError, UserError
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say

if TYPE_CHECKING:
    from flywheel.search.for_page import PageSearch
    from flywheel.store import Workspace
    from human_refine import ImportReport


Port = Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")]
Host = Annotated[
    str, typer.Option(help="Address to listen on; others than this machine's want a proxy with TLS before them.")
]
Proxy = Annotated[
    str, typer.Option(help="Address of the proxy before it, which is believed where it says who asks and how.")
]


def review(
    config: Config = HERE,
    set_: Set = None,
    port: Port = 8470,
    host: Host = "127.0.0.1",
    proxy: Proxy = "",
    open_: Annotated[
        bool, typer.Option("--open", help="Make a link for yourself, as a lead, and open it in the browser.")
    ] = False,
) -> None:
    """Serve the review page until interrupted. Who may use it: 'flywheel invite'."""
    workspace = open_workspace(config, set_)
    if workspace.database.read_only:
        raise BorderError(f"flywheel review: what people say could not be kept. {workspace.database.read_only}")
    serve_pages(workspace, host, port, lambda url: _announce(workspace, url, config, open_), proxy=proxy)


def serve_pages(
    workspace: Workspace,
    host: str,
    port: int,
    announce: Callable[[str], None],
    *,
    proxy: str = "",
    command: str = "flywheel review",
) -> None:
    """Serve all pages until interrupted: the one for review, the leads', home; arguments as ``human_refine.serve``."""
    from flywheel.curation.repair.side_by_side import SoundsSideBySide
    from flywheel.rounds.home import home_of
    from flywheel.rounds.outlook import outlook_of
    from human_refine.serve import serve

    def standing() -> list[str]:
        outlook = outlook_of(workspace)
        return [*outlook.lines(), *(f"next: {line}" for line in outlook.next)]

    serve(
        workspace,
        host,
        port,
        announce,
        proxy=proxy,
        standing=standing,
        home=lambda: home_of(workspace),
        sounds=SoundsSideBySide(workspace),
        content=_ContentSearch(workspace),
        command=command,
    )


class _ContentSearch:
    """The workspace's index, whose encoder is imported at the first question: most servers are never asked."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def ready(self) -> bool:
        """Whether there is an index, by an encoder that knows texts."""
        from flywheel.core.encoder_folder import knows_texts
        from flywheel.search.in_use import encoder_folder

        if not self._workspace.count("vectors"):
            return False
        try:
            # The card says it; the encoder itself takes seconds to import.
            return knows_texts(encoder_folder(self._workspace))
        except UserError:
            return False

    def find(self, text: str, split: str, round: int | None, limit: int) -> Mapping[str, Mapping[str, float]]:
        """Clip ids, best first, with what each was found by."""
        return self._index.find(text, split, round, limit)

    @cached_property
    def _index(self) -> PageSearch:
        from flywheel.search.for_page import PageSearch

        return PageSearch(self._workspace)


def _announce(workspace: Workspace, url: str, config: Path, opens: bool) -> None:
    """Say where the page is, and how one gets in."""
    from flywheel.store.people import any_invited

    print_text(f"{url} serves the review page. Ctrl-C ends it.")
    if opens:
        open_link(workspace, url)
    elif not any_invited(workspace):
        say("Nobody has a link to it yet.")
        say_next("flywheel invite --name NAME  # prints one; or 'flywheel review --open'", config=config)


def open_link(workspace: Workspace, url: str, *, to: str = "", opens: bool = True) -> None:
    """Make a link for whoever runs this, a lead, print it, and open it in the browser; ``to`` names the page."""
    import threading
    import webbrowser

    from flywheel.store.people import role_of
    from human_refine.people import invite as make

    name = _own_name()
    if role_of(workspace, name) == "refiner":
        # Who was invited to correct does not become a lead by opening the page.
        name = f"{name[:35]}-lead"
    link = f"{url}/invite/{make(workspace, name, 'lead')}" + (f"?to={to}" if to else "")
    print_text(link)
    if not opens:
        return
    # In a thread: a browser that runs in this terminal would keep the page from being served.
    threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()


def _own_name() -> str:
    """The name of whoever runs this, as the page takes names."""
    import getpass
    import re

    try:
        name = re.sub(r"[^\w.-]", "", getpass.getuser()).lstrip("_.-")[:40]
    except (OSError, KeyError):
        # A container's user without a name.
        name = ""
    return name or "lead"


def invite(
    name: Annotated[str, typer.Option(help="Who is invited; the name stands beside every correction.")],
    role: Annotated[
        str,
        typer.Option(
            help="`refiner`, who corrects; or `lead`, whose word decides. As it is if left out; `refiner` at first."
        ),
    ] = "",
    config: Config = HERE,
    url: Annotated[str, typer.Option(help="Where the page is reached.")] = "http://127.0.0.1:8470",
    json_: Json = False,
) -> None:
    """Print a link with a token for the review page; an earlier link of the same name ends."""
    from flywheel.store.people import role_of
    from human_refine.people import invite as make

    workspace = open_workspace(config)
    before = role_of(workspace, name)
    token = make(workspace, name, role or None)
    role = role_of(workspace, name) or role
    if before is not None:
        say(f"invite: {name} had a link already; it works no longer, nor does a page that is open by it")
    link = f"{url.rstrip('/')}/invite/{token}"
    print_result({"name": name, "role": role, "link": link, "token": token}, json_, link)
    say_next("flywheel review  # serves the page that the link opens", config=config)


def corrections_import(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV, Parquet, Label Studio's JSON, WebVTT or SRT.")],
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Take corrections in; bad rows are named and the good ones kept."""
    from human_refine import import_corrections

    workspace = open_workspace(config, set_)
    report = import_corrections(workspace, file)
    _print_import(report, "corrections", json_)
    say_what_comes_next(workspace, config, json_)
    _end_with(report)


def corrections_export(
    out: Annotated[Path, typer.Argument(help="File to write; a folder for webvtt and srt.")],
    config: Config = HERE,
    limit: Limit = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="jsonl, csv, parquet, label-studio, webvtt or srt; what the file's ending says if left out.",
        ),
    ] = "",
    url: Annotated[str, typer.Option(help="Where the page is reached, for the links.")] = "http://127.0.0.1:8470",
    anchors_first: Annotated[
        bool, typer.Option("--anchors-first", help="Captions of anchor clips first: the ones that measure the models.")
    ] = False,
    preferences: Annotated[
        bool,
        typer.Option("--preferences", help="Write instead what people chose between two texts: jsonl, csv, parquet."),
    ] = False,
) -> None:
    """Write the texts that wait for a person, to be filled in and imported again."""
    if preferences:
        from human_refine import export_choices

        print_text(f"{export_choices(open_workspace(config), out)} choices in {out}")
        return
    from human_refine import export_queue

    count = export_queue(open_workspace(config), out, limit, form, url, anchors_first=anchors_first)
    print_text(f"{count} rows in {out}")
    say_next(f"flywheel corrections import {shlex.quote(str(out))}  # once they are filled in", config=config)


def corrections_uses(
    round: Annotated[int | None, typer.Option(min=1, help="Only what this round's model learned from.")] = None,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Which model learned from which correction."""
    from flywheel.status import uses_of

    uses = uses_of(open_workspace(config), round)
    print_result([use.to_json() for use in uses], json_, as_lines(map(str, uses)) or "no corrections")


def gold(
    file: Annotated[
        Path,
        typer.Argument(
            help="Corrections as for 'flywheel corrections import': what an accept or edit makes of a text is right."
        ),
    ],
    by: Annotated[str, typer.Option(help="Who says so.")] = "file",
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Make train clips gold: shown to reviewers among the others to see how well they judge, and learned from no more.

    A reject ends it.
    """
    from human_refine import import_gold

    workspace = open_workspace(config, set_)
    report = import_gold(workspace, file, by)
    _print_import(report, "gold texts", json_)
    say_what_comes_next(workspace, config, json_)
    _end_with(report)


def exclude(
    name: Annotated[str, typer.Argument(help="A reviewer.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take that one's words in again.")] = False,
    config: Config = HERE,
) -> None:
    """Leave a reviewer's corrections out of all that is learned and measured, and close the page to them.

    Nothing is deleted.
    """
    from human_refine.people import exclude as leave_out

    workspace = open_workspace(config)
    leave_out(workspace, name, reason, undo=undo)
    print_text(f"{name} counts again" if undo else f"{name} counts no more")
    say_what_comes_next(workspace, config)


def _print_import(report: ImportReport, what: str, as_json: bool) -> None:
    """Name the rows that were refused and print the counts."""
    for line in report.notes:
        say(f"note: {line}")
    for line in report.refused:
        say(line)
    choices = f" and {report.choices} choices between two texts" if report.choices else ""
    text = f"{report.added} {what}{choices} added, {report.known} known already, {len(report.refused)} rows refused"
    if report.blank:
        text += f", {report.blank} not filled in"
    print_result(vars(report), as_json, text)


def _end_with(report: ImportReport) -> None:
    """Exit 2 where rows were refused."""
    if report.refused:
        raise typer.Exit(UserError.exit_code)
