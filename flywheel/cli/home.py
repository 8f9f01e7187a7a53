"""The command that opens a workspace's home page."""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli._shared import HERE, Config, Set, open_workspace, print_text
from flywheel.cli.review import Host, Port, Proxy, open_link, serve_pages


def open_(
    config: Config = HERE,
    set_: Set = None,
    port: Port = 8470,
    host: Host = "127.0.0.1",
    proxy: Proxy = "",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it, or only print its link.")] = True,
) -> None:
    """Open the workspace's home page: its rounds with verdicts, reports, clips, people and the review page.

    It is served until interrupted.
    """
    from flywheel.store.serving import only_home

    workspace = open_workspace(config, set_)
    with only_home(workspace.root) as note:

        def announce(url: str) -> None:
            note(f"{url}/home")
            print_text(f"{url}/home is the home page of {workspace.root.name}. Ctrl-C ends it.")
            open_link(workspace, url, to="home", opens=browser)

        serve_pages(workspace, host, port, announce, proxy=proxy, command="flywheel open")
