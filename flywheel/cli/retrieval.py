"""The command that asks an encoder of search for what a retrieval benchmark's texts describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli._shared import HERE, Config, Json, Limit, open_workspace, print_result
from flywheel.core.foreign import as_lines


def retrieve(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="The benchmark's item file, or its folder.")],
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="audiocaps, msrvtt-1ka, sounddescs or youcook2.")
    ],
    videos: Annotated[
        Path, typer.Option("--videos", metavar="DIR", help="Folder of its videos or sounds, searched by name.")
    ],
    encoder: Annotated[
        Path | None, typer.Option("--encoder", metavar="DIR", help="An encoder's folder; left out, the workspace's.")
    ] = None,
    limit: Limit = None,
    config: Config = HERE,
    json_: Json = False,
) -> None:
    """Measure how well an encoder of 'flywheel index' finds what a benchmark's texts describe, and the texts."""
    from flywheel.benchmark.described import read
    from flywheel.benchmark.retrieving import MediaFiles
    from flywheel.benchmark.retrieving import retrieve as ask_all
    from flywheel.models.encoder_files import load_encoder
    from flywheel.search.in_use import encoder_folder

    descriptions, files = read(source, format), MediaFiles(videos)
    folder = encoder if encoder is not None else encoder_folder(open_workspace(config))
    outcome = ask_all(descriptions, files, load_encoder(folder), limit=limit)
    print_result(outcome.to_json(), json_, as_lines(str(outcome).split("\n")))
