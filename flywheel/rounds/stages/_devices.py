"""A training in this process, or in ranks of its own on several devices: one way for both stages that train."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.core.progress import progress
from flywheel.core.types import Example
from flywheel.rounds.context import RoundContext
from flywheel.rounds.devices import devices_of
from flywheel.rounds.stages._training import keep_random_state, take_random_state, training_set
from flywheel.store.tracking import TrainingSink

if TYPE_CHECKING:
    import trainers

#: The module whose processes are the ranks.
_RANK = "flywheel.rounds.rank"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a stage wants trained: ``pretrain`` or ``finetune`` of the model in ``start``, written to ``out``.

    ``examples`` by their use: ``kept`` are learned, ``held_out`` and ``human`` are as in :func:`trainers.pretrain`,
    ``pairs`` as in :func:`trainers.finetune`.
    """

    stage: str
    start: Path
    out: Path
    examples: Mapping[str, Sequence[Example]]


def trained(context: RoundContext, training: Training, sink: TrainingSink) -> trainers.TrainingResult:
    """Train on the devices that the configuration asks for. Raises what the training raises.

    By now no engine holds a device, and none starts before the training's processes have ended.
    """
    import trainers

    context.unload()
    count, strategy = devices_of(context.config, context.workspace.root)
    if strategy.name == "single":
        result = run_training(context, training, sink, trainers.Strategy(parts=strategy.parts))
        context.unload()
    else:
        result = _in_ranks(context, training, sink, count, strategy)
    sink.flush()
    return result


def run_training(
    context: RoundContext, training: Training, sink: Any, strategy: trainers.Strategy
) -> trainers.TrainingResult:
    """Train in this process, alone or as one of several ranks; all of them must ask."""
    import trainers
    from flywheel.models.load import load_vlm
    from trainers.ranks import this_rank

    config, main = context.config, context.config.main
    with strategy.loading():
        vlm = context.load(training.start)
    builder = context.builder(vlm.processor)
    data = {use: training_set(context, some) if some else None for use, some in training.examples.items()}
    kept = data["kept"] or training_set(context, ())

    features_bytes = int(config.corpus.features_gib * 2**30)

    def reload() -> Any:
        inputs = context.inputs_of(context.prompt)
        return load_vlm(training.start, precision=main.precision, inputs=inputs, on_cpu=True)

    if training.stage == "finetune":
        take_random_state(training.start, config.finetune.seed)
        return trainers.finetune(
            vlm,
            builder,
            config.finetune,
            kept,
            training.out,
            precision=main.precision,
            sink=sink,
            strategy=strategy,
            reload=reload,
            pairs=data["pairs"],
            features_bytes=features_bytes,
        )
    result = trainers.pretrain(
        vlm,
        builder,
        config.pretrain,
        config.loss,
        kept,
        training.out,
        precision=main.precision,
        sink=sink,
        held_out=data["held_out"],
        human=data["human"],
        strategy=strategy,
        reload=reload,
        features_bytes=features_bytes,
    )
    if this_rank() == 0:
        keep_random_state(training.out)
    return result


# Ranks: what they are told and what they give is in files of one folder.


def _in_ranks(
    context: RoundContext, training: Training, sink: TrainingSink, count: int, strategy: trainers.Strategy
) -> trainers.TrainingResult:
    from trainers import launch
    from trainers.rank import logged

    folder, train = training.out.with_name(training.out.name + ".ranks"), context.config.train
    _write_job(context, training, folder, strategy)
    steps = getattr(context.config, training.stage).num_steps
    ranks = launch.Ranks(count=count, timeout_s=train.timeout_s, flags=train.launch)
    with progress(f"{training.stage}, {count} devices ({strategy.name})", steps) as bar:
        launch.run_ranks(_RANK, folder, ranks, label=training.stage, bar=bar)
    for values, step in logged(folder / "figures.jsonl"):
        sink.log(values, step)
    result = _read_result(folder)
    launch.forget(folder)
    return result


def _write_job(context: RoundContext, training: Training, folder: Path, strategy: trainers.Strategy) -> None:
    import trainers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    tables = {}
    for use, examples in training.examples.items():
        table = examples if isinstance(examples, trainers.ExampleTable) else None
        if table is None and len(examples):
            table = trainers.ExampleTable.write(folder / f"{use}.arrow", examples)
        tables[use] = str(table.file) if table is not None else None
    job = {
        "workspace": str(context.workspace.root),
        "config": context.config.model_dump(mode="json"),
        "stage": training.stage,
        "start": str(training.start),
        "out": str(training.out),
        "examples": tables,
        "strategy": asdict(strategy),
        # Tells one start from the next, for machines that join.
        "started": uuid.uuid4().hex,
    }
    (folder / "job.json").write_text(json.dumps(job))


def read_job(folder: Path) -> tuple[Path, dict[str, Any], Training, trainers.Strategy]:
    """What :func:`trained` asks a rank for: workspace, configuration, training and how ranks share it."""
    import trainers

    job = json.loads((folder / "job.json").read_text())
    examples = {use: trainers.ExampleTable(Path(file)) if file else () for use, file in job["examples"].items()}
    training = Training(stage=job["stage"], start=Path(job["start"]), out=Path(job["out"]), examples=examples)
    return Path(job["workspace"]), job["config"], training, trainers.Strategy(**job["strategy"])


def write_result(folder: Path, result: trainers.TrainingResult) -> None:
    """Keep a rank's result for who started it."""
    from safetensors.torch import save_file

    from trainers.row_weights import RowWeights

    values = {f.name: getattr(result, f.name) for f in fields(result) if f.name != "row_weight"}
    assert isinstance(result.row_weight, RowWeights)
    save_file(result.row_weight.state_dict(), folder / "row_weight.safetensors")
    temporary = folder / "result.tmp"
    temporary.write_text(json.dumps(values))
    temporary.replace(folder / "result.json")


def _read_result(folder: Path) -> trainers.TrainingResult:
    from safetensors.torch import load_file

    import trainers
    from trainers.row_weights import RowWeights

    state = load_file(folder / "row_weight.safetensors")
    weights = RowWeights(len(state["weight"]))
    weights.load_state_dict(state)
    return trainers.TrainingResult(**json.loads((folder / "result.json").read_text()), row_weight=weights)
