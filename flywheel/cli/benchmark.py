"""Commands about questions: benchmarks that are asked of a model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from flywheel.cli._shared import HERE, Config, Json, Limit, Set, open_context, open_workspace, print_result, say_next
from flywheel.core.errors import UserError
from flywheel.core.foreign import as_lines
from flywheel.core.progress import say


def formats(json_: Json = False) -> None:
    """List the formats of benchmarks' files that can be read."""
    from flywheel.benchmark import readers

    found = {name: readers.get(name) for name in readers.names()}
    listed = [{"format": n, "title": r.title, "files": list(r.files), "source": r.source} for n, r in found.items()]
    print_result(listed, json_, as_lines(f"{row['format']}  ({row['title']}): {row['source']}" for row in listed))


def run(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="The benchmark's item file, or its folder.")],
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="As 'flywheel benchmark formats' lists.")],
    videos: Annotated[Path, typer.Option("--videos", metavar="DIR", help="Folder of its videos, searched by name.")],
    model: Annotated[
        str, typer.Option("--model", metavar="ROLE", help="A role below models, or a model's folder.")
    ] = "main",
    by: Annotated[
        str,
        typer.Option("--by", help="generation: what it says; likelihood: its likeliest letter."),
    ] = "generation",
    inputs: Annotated[
        str, typer.Option("--inputs", help="frames, sound or frames,sound; left out, what the questions need.")
    ] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a reply; thoughts need more.")] = 64,
    judge: Annotated[str, typer.Option("--judge", metavar="ROLE", help="A model that judges open answers.")] = "",
    limit: Limit = None,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Ask a model a benchmark's questions and score its answers; run again, it asks only what is not answered."""
    from flywheel.benchmark.items import SOUND
    from flywheel.benchmark.reading import read
    from flywheel.benchmark.running import run as ask_all
    from flywheel.benchmark.videos import wanted_inputs
    from flywheel.models.load import NO_INPUT

    if by not in ("generation", "likelihood"):
        raise UserError(f"--by {by}: need generation or likelihood.")
    questions = read(source, format)
    if not questions.items:
        first = questions.rejected[0]
        raise UserError(f"{source}: none of {questions.count} items can be asked ({first.place}: {first.reason}).")
    context = open_context(config, set_)
    how = _asked(context, model, wanted_inputs(questions.items, inputs), videos, by, max_new_tokens)
    if judge:
        how = replace(how, judge=_model(context, judge, frozenset()))
        _refuse_equal({f"--model {model}": how.model, f"--judge {judge}": how.judge})
    model_digest, adapter_digest = how.model.digests()
    folder = context.workspace.root / "benchmarks" / f"{format}-{(adapter_digest or model_digest)[:16]}"
    try:
        outcome = ask_all(questions, how, context.loader, folder, limit=limit)
    except UserError as error:
        if error.code != NO_INPUT or SOUND not in how.shown.inputs:
            raise
        ways = "name a model that takes it with --model ROLE, or say --inputs frames to ask without it"
        raise UserError(f"{error} These questions need sound: {ways}.", code=error.code) from error
    print_result(outcome.to_json(), json_, as_lines(str(outcome).split("\n")))
    say(f"answers are on record in {folder}")
    words = ["flywheel", "benchmark", "run", source, "--format", format, "--videos", videos, "--by", by]
    words += ["--max-new-tokens", max_new_tokens, *(("--inputs", inputs) if inputs else ())]
    words += ["--judge", judge] if judge else []
    is_whole = outcome.asked + len(outcome.rejected) >= outcome.count
    name, why = ("FOLDER", "another model on the same questions") if is_whole else (model, "asks the rest")
    again = shlex.join(str(word) for word in [*words, "--model", name])
    say_next(f"{again}  # {why}", config=config)


def build(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the videos and their questions.")],
    videos: Annotated[int, typer.Option("--videos", min=1, help="Videos; each has a twin with other sounds.")] = 20,
    blocks: Annotated[
        list[int] | None,
        typer.Option("--blocks", help="Blocks of four shots in a video, 12.8 s each; repeated, lengths by turns."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the videos and the questions.")] = 0,
    json_: Json = False,
) -> None:
    """Render long videos and write questions that need their sound and their picture: five a video."""
    from flywheel.benchmark.building import build as build_all
    from flywheel.playground.timeline import FEWEST_BLOCKS

    manifest = build_all(out, seed=seed, num_videos=videos, num_blocks=blocks or (FEWEST_BLOCKS,))
    print_result(manifest, json_, f"{manifest['items']} questions about {manifest['videos']} videos in {out}")
    say_next(f"flywheel benchmark certify {out}")


def certify(
    source: Annotated[
        Path, typer.Argument(metavar="FILE_OR_DIR", help="What 'flywheel benchmark build' made; for models any.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="ROLE", help="A model of the panel; left out, who knows the videos."),
    ] = None,
    verify: Annotated[
        str, typer.Option("--verify", metavar="ROLE", help="A model that must find each key right.")
    ] = "",
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="As 'formats' lists; for models.")
    ] = "flywheel",
    videos: Annotated[
        Path | None, typer.Option("--videos", metavar="DIR", help="Folder of its videos; 'videos' beside the items.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="generation: what it says; likelihood: its likeliest letter.")] = (
        "generation"
    ),
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a reply; thoughts need more.")] = 64,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Drawn orders of options, each in all rotations.")] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the orders.")] = 0,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Check item by item that sound and picture are both needed: by models, or by who knows what is in the videos."""
    from flywheel.benchmark.certified import KEPT, KEPT_BY_MODELS, certify_folder

    folder = source if source.is_dir() else source.parent
    place = videos or folder / "videos"
    if model:
        found = _by_models(source, format, place, model, verify, (by, max_new_tokens, turns, seed), config, set_)
    elif verify or not source.is_dir():
        raise UserError(
            "certify: --verify needs --model." if verify else f"{source}: is no folder. Name one, or models by --model."
        )
    else:
        found = certify_folder(source, turns=turns, seed=seed)
    print_result(asdict(found), json_, as_lines(found.lines()))
    if format == "flywheel":
        kept = folder / (KEPT_BY_MODELS if model else KEPT)
        asked = shlex.join(["flywheel", "benchmark", "run", str(kept), "--format", "flywheel", "--videos", str(place)])
        # Whoever was in the panel takes sound; of the workspace's model nothing is known here.
        role, note = (model[0], "") if model else ("ROLE", "  # a model that takes sound; or --inputs frames")
        say_next(f"{asked} --model {shlex.quote(role)}{note}")


def _by_models(
    source: Path,
    format: str,
    videos: Path,
    roles: list[str],
    verify: str,
    how: tuple[str, int, int, int],
    config: Path,
    set_: Any,
) -> Any:
    """Certificates by the models of these roles."""
    from annotators.interface import Sampling
    from flywheel.benchmark.certified import certify_by_models
    from flywheel.benchmark.items import FRAMES, SOUND
    from flywheel.benchmark.panel import HowAsked
    from flywheel.benchmark.videos import Shown, Videos
    from flywheel.store.cache import FrameCache

    by, max_new_tokens, turns, seed = how
    if by not in ("generation", "likelihood"):
        raise UserError(f"--by {by}: need generation or likelihood.")
    if len(set(roles)) < len(roles) or verify in roles:
        raise UserError("--model, --verify: a model is named twice. A panel's models, and who verifies, differ.")
    context = open_context(config, set_)
    settings, cache = context.config, context.workspace.cache
    asked = HowAsked(
        videos=Videos(videos),
        shown=Shown(
            inputs=frozenset({FRAMES, SOUND}),
            corpus=settings.corpus,
            cache=FrameCache(cache.folder, cache.max_bytes),
        ),
        sampling=Sampling(max_new_tokens=max_new_tokens),
        by=by,
        turns=turns,
        seed=seed,
        batch_size=settings.annotate.batch_size,
        decoders=settings.annotate.decoders,
    )
    models = [_model(context, role, frozenset()) for role in roles]
    verifier = _model(context, verify, frozenset()) if verify else None
    named = {f"--model {role}": one for role, one in zip(roles, models, strict=True)}
    _refuse_equal(named | ({f"--verify {verify}": verifier} if verifier else {}))
    records = context.workspace.root / "benchmarks"
    found = certify_by_models(source, format, models, verifier, asked, context.loader, records)
    say(f"answers are on record in {records}")
    return found


def export(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="The benchmark's item file, or its folder.")],
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="lmms-eval or vlmevalkit.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder that is written to.")],
    videos: Annotated[
        Path | None, typer.Option("--videos", metavar="DIR", help="Folder of its videos; 'videos' beside the items.")
    ] = None,
    items: Annotated[
        str, typer.Option("--items", metavar="NAME", help="The format of the item file, as 'formats' lists.")
    ] = "flywheel",
    name: Annotated[str, typer.Option("--name", help="Name of the tasks; left out, the source's.")] = "",
    json_: Json = False,
) -> None:
    """Write a benchmark for lmms-eval or VLMEvalKit, with variants that leave out or exchange sound and picture."""
    from flywheel.benchmark.exporting import export as export_all

    folder = videos or (source if source.is_dir() else source.parent) / "videos"
    made = export_all(source, items, folder, out, format=format, name=name)
    print_result(asdict(made), json_, as_lines(made.lines()))
    say_next(made.loading)


def instruct(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Rendered timelines, or a built benchmark.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="A new folder for the dataset.")] = None,
    teach: Annotated[
        bool, typer.Option("--teach", help="Add them to the workspace's train clips: rounds learn kind qa.")
    ] = False,
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="llava, messages or sharegpt.")] = "messages",
    held_out: Annotated[
        Path | None, typer.Option("--held-out", metavar="DIR", help="Videos of a benchmark, which are left out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is asked.")] = 0,
    config: Config = HERE,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Write conversations about rendered videos to train on: questions with their answers, and what parts hold."""
    from flywheel.benchmark.instructions import write_instructions

    if teach == (out is not None):
        raise UserError("instruct: name a folder with --out, or add the conversations to the workspace with --teach.")
    if out is None:
        _teach(folder, seed, held_out, open_workspace(config, set_), json_)
        return
    made = write_instructions(folder, out, format=format, seed=seed, held_out=held_out)
    left = [f"{count} videos left out: {reason}" for reason, count in made.left_out.items()]
    told = f"{made.conversations} conversations with {made.turns} turns in {made.out}"
    print_result(asdict(made), json_, as_lines([told, *left]))
    say_next(f"flywheel benchmark build --out bench --seed {seed + 1}  # questions about other videos")


def _teach(folder: Path, seed: int, held_out: Path | None, workspace: Any, json_: bool) -> None:
    """Add conversations to the workspace's clips, and say how they are learned."""
    from flywheel.benchmark.teaching import KIND, teach

    with workspace.lock():
        made = teach(workspace, folder, seed=seed, held_out=held_out)
    left = [f"{count} videos left out: {reason}" for reason, count in made.left_out.items()]
    told = f"{made.conversations} conversations with {made.turns} turns added ({made.known} were there)"
    print_result(asdict(made), json_, as_lines([told, *left]))
    if KIND not in workspace.config.pretrain.kinds:
        say_next("flywheel round --set 'pretrain.kinds={caption: 1, qa: 1}'  # or set it in flywheel.yaml")


def _refuse_equal(models: Mapping[str, Any]) -> None:
    """Raises UserError where two models, by the options that name them, have the same weights and adapter."""
    first = dict[tuple[str, str], str]()
    for name, model in models.items():
        other = first.setdefault(model.digests(), name)
        if other != name:
            raise UserError(f"{other}, {name}: are one model (the same weights). Name models that differ.")


def _asked(context: Any, role: str, inputs: frozenset[str], videos: Path, by: str, max_new_tokens: int) -> Any:
    """How the questions are asked, of the role's model."""
    from annotators.interface import Sampling
    from flywheel.benchmark.running import Asked
    from flywheel.benchmark.videos import Shown, Videos
    from flywheel.store.cache import FrameCache

    cache = context.workspace.cache
    return Asked(
        model=replace(_model(context, role, inputs), inputs_from=f"--inputs {','.join(sorted(inputs))}"),
        videos=Videos(videos),
        shown=Shown(inputs=inputs, corpus=context.config.corpus, cache=FrameCache(cache.folder, cache.max_bytes)),
        sampling=Sampling(max_new_tokens=max_new_tokens),
        by=by,
        batch_size=context.config.annotate.batch_size,
        decoders=context.config.annotate.decoders,
    )


def _model(context: Any, name: str, inputs: frozenset[str]) -> Any:
    """The model of a role, of main the one in use; else that of a folder. Raises UserError for what is neither."""
    from annotators.writer import AskedModel
    from flywheel.benchmark.prompting import prompt_of
    from flywheel.core.config import Model
    from flywheel.models.load import model_folder

    roles = context.config.models
    if name in roles:
        return context.asked_model(prompt_of(name, inputs), context.workspace.champion())
    folder = model_folder(name, context.workspace.root)
    if not folder.is_dir():
        raise UserError(f"--model {name}: is no role ({', '.join(roles)}), and no folder of a model.")
    return AskedModel(role=name, name=folder.name, folder=folder, settings=Model(folder=name), inputs=inputs)
