"""MLflow: one parent run per wheel, a child per round, metrics with step = round. The border to MLflow.

A tracker that is down never stops a round: what it would have been told is on disk in the report, and one line says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.core.progress import say
from flywheel.store.workspace import Workspace

_PARENT = "mlflow_parent"


class Tracker:
    """The wheel's runs in MLflow. All methods swallow the tracker's failures after saying so once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._config = workspace.config.tracking
        self._down = not self._config.enabled
        self._mlflow: Any = None

    def tracking_uri(self) -> str:
        return self._config.uri or f"sqlite:///{self._workspace.root / 'mlflow.db'}"

    def _try(self, work: Callable[[Any], Any]) -> Any:
        if self._down:
            return None
        try:
            return work(self._module())
        except Exception as error:
            # MLflow raises its own, requests' and SQLAlchemy's errors alike; none may cost a round.
            self._down = True
            say(f"tracking: {self.tracking_uri()}: {str(error).splitlines()[0] if str(error) else type(error).__name__}. "
                "Going on without; the figures are in reports/.")  # fmt: skip
            return None

    def _module(self) -> Any:
        if self._mlflow is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            os.environ.setdefault("DO_NOT_TRACK", "true")
            os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
            import mlflow

            logging.getLogger("mlflow").setLevel(logging.ERROR)
            logging.getLogger("alembic").setLevel(logging.ERROR)
            mlflow.set_tracking_uri(self.tracking_uri())
            if mlflow.get_experiment_by_name(self._config.experiment) is None:
                location = None if self._config.uri else (self._workspace.root / "mlartifacts").as_uri()
                mlflow.create_experiment(self._config.experiment, artifact_location=location)
            mlflow.set_experiment(self._config.experiment)
            self._mlflow = mlflow
        return self._mlflow

    @contextmanager
    def _run(self, mlflow: Any, round: int | None) -> Iterator[Any]:
        """The parent's run, or inside it the round's; made at the first use, found again after."""
        run_id = self._workspace.meta(_PARENT)
        with mlflow.start_run(run_id=run_id, run_name=None if run_id else self._workspace.root.name) as parent:
            if run_id is None:
                self._workspace.set_meta(_PARENT, parent.info.run_id)
            if round is None:
                yield parent
                return
            key = f"mlflow_round_{round}"
            child_id = self._workspace.meta(key)
            name = None if child_id else f"round {round:03d}"
            with mlflow.start_run(run_id=child_id, run_name=name, nested=True) as child:
                if child_id is None:
                    self._workspace.set_meta(key, child.info.run_id)
                    mlflow.set_tag("round", round)
                yield child

    def metrics(self, round: int, values: Mapping[str, float]) -> None:
        """A round's figures, in its run and in the parent's, step = round."""

        def work(mlflow: Any) -> None:
            with self._run(mlflow, None):
                mlflow.log_metrics(dict(values), step=round)
            with self._run(mlflow, round):
                mlflow.log_metrics(dict(values), step=round)

        self._try(work)

    def parameters(self, round: int, values: Mapping[str, Any]) -> None:
        def work(mlflow: Any) -> None:
            with self._run(mlflow, round):
                mlflow.log_params({k: str(v)[:500] for k, v in values.items()})

        self._try(work)

    def dataset(self, round: int, frame: pl.DataFrame, name: str, context: str) -> None:
        def work(mlflow: Any) -> None:
            with self._run(mlflow, round):
                mlflow.log_input(mlflow.data.from_polars(frame, name=name), context=context)

        self._try(work)

    def candidate(self, round: int) -> None:
        """A round's model as a version in the registry, with the alias ``candidate``."""
        self._alias(round, "candidate")

    def champion(self, round: int) -> None:
        """The same, with the alias ``champion``; the base (0) is no round's model, then nobody has it."""
        self._alias(round, "champion")

    def _alias(self, round: int, alias: str) -> None:
        def work(mlflow: Any) -> None:
            client, name = mlflow.MlflowClient(), self._workspace.root.name
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            if round == 0:
                client.delete_registered_model_alias(name, alias)
                return
            key = f"mlflow_model_{round}"
            version = self._workspace.meta(key)
            if version is None:
                source = self._workspace.model_folder(round).as_uri()
                made = client.create_model_version(
                    name, source, run_id=self._workspace.meta(f"mlflow_round_{round}"), tags={"round": str(round)}
                )
                version = str(made.version)
                self._workspace.set_meta(key, version)
            client.set_registered_model_alias(name, alias, version)

        self._try(work)

    def artifacts(self, round: int, paths: list[Path]) -> None:
        def work(mlflow: Any) -> None:
            with self._run(mlflow, round):
                for path in paths:
                    mlflow.log_artifact(str(path))

        self._try(work)

    def table(self, round: int, rows: dict[str, list[Any]], name: str) -> None:
        def work(mlflow: Any) -> None:
            with self._run(mlflow, round):
                mlflow.log_table(rows, artifact_file=name)

        self._try(work)

    def sink(self, round: int) -> TrainingSink:
        return TrainingSink(self, round)

    def training(self, round: int, logged: list[tuple[dict[str, float], int]]) -> None:
        def work(mlflow: Any) -> None:
            with self._run(mlflow, round):
                for values, step in logged:
                    mlflow.log_metrics(values, step=step)

        self._try(work)


class TrainingSink:
    """Gathers a training's figures and hands them over at the end: a tracker's answer time is no step's business."""

    def __init__(self, tracker: Tracker, round: int) -> None:
        self._tracker, self._round = tracker, round
        self._logged: list[tuple[dict[str, float], int]] = []

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._logged.append((dict(values), step))

    def flush(self) -> None:
        self._tracker.training(self._round, self._logged)
        self._logged = []
