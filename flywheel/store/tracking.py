"""MLflow: one parent run per wheel, a child per round, a grandchild per stage, metrics with step = round. The border to MLflow.

A tracker that is down never stops a round: what it would have been told is kept in ``spool/tracking.jsonl`` of the workspace, and told to it, in order,
the next time it answers.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flywheel.core.progress import say
from flywheel.store.workspace import Workspace

_PARENT = "mlflow_parent"
#: A server that does not answer costs a round some seconds, not the minutes that MLflow would try for.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}

#: What MLflow's page of charts shows of the rounds, section by section; all else can be added there by hand.
_CHARTS: Mapping[str, Sequence[str]] = {
    "Quality": ("oracle/slot_f1", "quality/anchor_token_f1", "quality/agreement"),
    "Diversity": ("diversity/distinct_3", "watch/vendi", "watch/self_bleu"),
    "Quantity and cost": ("quantity/tokens", "num_corrections", "watch/human_share"),
}

_NEVER_TAKEN = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})


class Tracker:
    """The wheel's runs in MLflow. No method fails: what the tracker did not take is spooled, after saying so once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._config = workspace.config.tracking
        self._down = False
        self._mlflow: Any = None
        self._spool = workspace.root / "spool" / "tracking.jsonl"

    def tracking_uri(self) -> str:
        return self._config.uri or f"sqlite:///{self._workspace.root / 'mlflow.db'}"

    # What can be told. Arguments are plain values, so that they can lie on disk until there is somebody to tell.

    def metrics(self, round: int, values: Mapping[str, float]) -> None:
        """A round's figures, in its run and in the parent's, step = round."""
        self._tell("metrics", round=round, values=dict(values))

    def parameters(self, round: int, values: Mapping[str, Any]) -> None:
        self._tell("parameters", round=round, values={k: str(v)[:500] for k, v in values.items()})

    def tags(self, round: int, values: Mapping[str, str]) -> None:
        """What MLflow's lists and comparisons can be filtered by."""
        self._tell("tags", round=round, values=dict(values))

    def stage(self, round: int, stage: str, values: Mapping[str, float], parameters: Mapping[str, Any]) -> None:
        """A stage's own run under its round's."""
        self._tell(
            "stage",
            round=round,
            stage=stage,
            values=dict(values),
            parameters={k: str(v)[:500] for k, v in parameters.items()},
        )

    def dataset(self, round: int) -> None:
        """The round's annotations by their digest."""
        self._tell("dataset", round=round)

    def candidate(self, round: int) -> None:
        """A round's model as a version in the registry, with the alias ``candidate``."""
        self._tell("alias", round=round, alias="candidate")

    def champion(self, round: int) -> None:
        """The same, with the alias ``champion``; the base (0) is no round's model, then nobody has it."""
        self._tell("alias", round=round, alias="champion")

    def artifacts(self, round: int, paths: Sequence[Path]) -> None:
        self._tell("artifacts", round=round, paths=[str(path) for path in paths])

    def table(self, round: int, rows: Mapping[str, list[Any]], name: str) -> None:
        self._tell("table", round=round, rows=dict(rows), name=name)

    def plot(self, path: Path) -> None:
        """A picture of all rounds, in the parent's run."""
        self._tell("plot", round=None, path=str(path))

    def view(self, figures: Sequence[str]) -> None:
        """MLflow's page of the wheel's rounds, with charts of those figures that there are."""
        self._tell("view", round=None, figures=sorted(figures))

    def training(self, round: int, logged: list[tuple[dict[str, float], int]]) -> None:
        self._tell("training", round=round, logged=logged)

    def sink(self, round: int) -> TrainingSink:
        return TrainingSink(self, round)

    def send_spooled(self) -> int:
        """Tell what could not be told before; returns how much is left."""
        if self._config.enabled and self._spool.exists() and not self._down:
            self._attempt(self._drain)
        return len(self._spool.read_text(encoding="utf-8").splitlines()) if self._spool.exists() else 0

    def comparison(self, page: str = "CHART") -> str:
        """The path of MLflow's page of all rounds of the wheel: their figures (``CHART``), or their texts of the same clips side by side (``ARTIFACT``); empty,
        its front page, where there is nothing to compare yet."""
        experiment, view = self._workspace.meta("mlflow_experiment"), self._workspace.meta("mlflow_view")
        if experiment is None or view is None:
            return ""
        return f"#/experiments/{experiment}/runs?compareRunsMode={page}&viewStateShareKey={view}{'' if page == 'CHART' else '-texts'}"

    # How.

    def _tell(self, what: str, **arguments: Any) -> None:
        if not self._config.enabled:
            return
        if self._spool.exists() and not self._down:
            # In order: what waits goes first.
            self._attempt(self._drain)
        if self._down or not self._attempt(lambda: self._do(what, arguments)):
            self._spool.parent.mkdir(exist_ok=True)
            with open(self._spool, "a", encoding="utf-8") as file:
                file.write(json.dumps({"what": what, **arguments}) + "\n")

    def _attempt(self, work: Any) -> bool:
        try:
            work()
            return True
        except Exception as error:
            # MLflow raises its own, requests' and SQLAlchemy's errors alike; none may cost a round.
            self._down = True
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            say(
                f"tracking: {self.tracking_uri()}: {first[:300]}. Going on without; it is told when it answers again, the figures are in reports/."
            )
            return False

    def _drain(self) -> None:
        """Tell what is spooled, up to what is not taken. Killed, it tells the same again, which changes nothing: figures have their step, a table that is there stays."""
        lines = self._spool.read_text(encoding="utf-8").splitlines()
        done = 0
        try:
            for line in lines:
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    # The last line of a killed process.
                    done += 1
                    continue
                self._do(entry.pop("what"), entry)
                done += 1
        finally:
            temporary = self._spool.with_suffix(".tmp")
            temporary.write_text("".join(line + "\n" for line in lines[done:]), encoding="utf-8")
            if done < len(lines):
                temporary.replace(self._spool)
            else:
                temporary.unlink()
                self._spool.unlink()

    def _do(self, what: str, arguments: Mapping[str, Any]) -> None:
        try:
            getattr(self, f"_do_{what}")(self._module(), **arguments)
        except Exception as error:
            # What the tracker will never take must not keep back what comes after it, nor pass for a tracker that is down.
            if getattr(error, "error_code", "") not in _NEVER_TAKEN:
                raise
            say(
                f"tracking: {what} of round {arguments.get('round')} was not taken ({str(error).splitlines()[0][:200]})"
            )

    def _module(self) -> Any:
        if self._mlflow is None:
            for name, value in {
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "DO_NOT_TRACK": "true",
                "GIT_PYTHON_REFRESH": "quiet",
                **_PATIENCE,
            }.items():
                os.environ.setdefault(name, value)
            import mlflow

            logging.getLogger("mlflow").setLevel(logging.ERROR)
            logging.getLogger("alembic").setLevel(logging.ERROR)
            mlflow.set_tracking_uri(self.tracking_uri())
            if mlflow.get_experiment_by_name(self._config.experiment) is None:
                location = None if self._config.uri else (self._workspace.root / "mlartifacts").as_uri()
                mlflow.create_experiment(self._config.experiment, artifact_location=location)
            experiment = mlflow.set_experiment(self._config.experiment)
            self._workspace.set_meta("mlflow_experiment", str(experiment.experiment_id))
            self._mlflow = mlflow
        return self._mlflow

    @contextmanager
    def _run(self, mlflow: Any, round: int | None) -> Iterator[Any]:
        """The parent's run, or inside it the round's; made at the first use, found again after."""
        with self._found(
            mlflow, _PARENT, self._workspace.root.name, {"wheel": self._workspace.root.name, "level": "wheel"}
        ) as parent:
            if round is None:
                yield parent
                return
            tags = {"round": str(round), "wheel": self._workspace.root.name, "level": "round"}
            with self._found(mlflow, f"mlflow_round_{round}", f"round {round:03d}", tags, nested=True) as child:
                yield child

    @contextmanager
    def _found(
        self, mlflow: Any, key: str, name: str, tags: Mapping[str, str], *, nested: bool = False
    ) -> Iterator[Any]:
        run_id = self._workspace.meta(key)
        if run_id is not None and not self._is_there(mlflow, run_id):
            # Another server, or one whose database was made anew: it gets runs of its own.
            run_id = None
        with mlflow.start_run(run_id=run_id, run_name=None if run_id else name, nested=nested) as run:
            if run_id is None:
                self._workspace.set_meta(key, run.info.run_id)
                mlflow.set_tags(dict(tags))
            yield run

    @staticmethod
    def _is_there(mlflow: Any, run_id: str) -> bool:
        try:
            return str(mlflow.MlflowClient().get_run(run_id).info.lifecycle_stage) == "active"
        except mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    @staticmethod
    def _params(mlflow: Any, run_id: str, values: Mapping[str, str]) -> None:
        """MLflow lets no parameter change: what did is a tag beside it."""
        known = mlflow.MlflowClient().get_run(run_id).data.params
        mlflow.log_params({k: v for k, v in values.items() if k not in known})
        if changed := {f"{k} now": v for k, v in values.items() if known.get(k, v) != v}:
            mlflow.set_tags(changed)

    def _do_metrics(self, mlflow: Any, round: int, values: Mapping[str, float]) -> None:
        with self._run(mlflow, None):
            mlflow.log_metrics(dict(values), step=round)
        with self._run(mlflow, round):
            mlflow.log_metrics(dict(values), step=round)

    def _do_parameters(self, mlflow: Any, round: int, values: Mapping[str, str]) -> None:
        with self._run(mlflow, round) as run:
            self._params(mlflow, run.info.run_id, values)

    def _do_tags(self, mlflow: Any, round: int, values: Mapping[str, str]) -> None:
        with self._run(mlflow, round):
            mlflow.set_tags(dict(values))

    def _do_stage(
        self, mlflow: Any, round: int, stage: str, values: Mapping[str, float], parameters: Mapping[str, str]
    ) -> None:
        # Not "round": who filters by that wants rounds.
        tags = {"of_round": str(round), "stage": stage, "wheel": self._workspace.root.name, "level": "stage"}
        with (
            self._run(mlflow, round),
            self._found(mlflow, f"mlflow_stage_{round}_{stage}", f"{stage} {round:03d}", tags, nested=True) as run,
        ):
            mlflow.log_metrics(dict(values), step=round)
            self._params(mlflow, run.info.run_id, parameters)

    def _do_dataset(self, mlflow: Any, round: int) -> None:
        texts = self._workspace.annotations(round=round).select("clip_id", "kind", "text")
        if texts.height:
            with self._run(mlflow, round):
                mlflow.log_input(mlflow.data.from_polars(texts, name=f"annotations-{round:03d}"), context="annotations")

    def _do_alias(self, mlflow: Any, round: int, alias: str) -> None:
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
            run_id = self._workspace.meta(f"mlflow_round_{round}")
            version = str(client.create_model_version(name, source, run_id=run_id, tags={"round": str(round)}).version)
            self._workspace.set_meta(key, version)
        client.set_registered_model_alias(name, alias, version)

    def _do_artifacts(self, mlflow: Any, round: int, paths: Sequence[str]) -> None:
        with self._run(mlflow, round):
            for path in paths:
                if os.path.exists(path):
                    mlflow.log_artifact(path)

    def _do_table(self, mlflow: Any, round: int, rows: Mapping[str, list[Any]], name: str) -> None:
        with self._run(mlflow, round) as run:
            # MLflow adds rows to a table that is there: one that was told twice would stand there twice.
            if not any(f.path == name for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)):
                mlflow.log_table(dict(rows), artifact_file=name)

    def _do_plot(self, mlflow: Any, round: None, path: str) -> None:
        if os.path.exists(path):
            with self._run(mlflow, round):
                mlflow.log_artifact(path)

    def _do_view(self, mlflow: Any, round: None, figures: Sequence[str]) -> None:
        with self._run(mlflow, round) as parent:
            key = f"flywheel-{parent.info.run_id[:12]}"
            # A parent of an older version lacks it, and the page would lack the parent.
            mlflow.set_tag("level", "wheel")
            mlflow.set_experiment_tag(f"mlflow.sharedViewState.{key}", _view(self._workspace.root.name, figures))
            mlflow.set_experiment_tag(
                f"mlflow.sharedViewState.{key}-texts", _view(self._workspace.root.name, (), "= 'round'")
            )
        self._workspace.set_meta("mlflow_view", key)

    def _do_training(self, mlflow: Any, round: int, logged: Sequence[tuple[dict[str, float], int]]) -> None:
        with self._run(mlflow, round):
            for values, step in logged:
                mlflow.log_metrics(values, step=step)


def _view(wheel: str, figures: Sequence[str], level: str = "!= 'stage'") -> str:
    """The state of MLflow's page of runs as its own 'Share' keeps it (MLflow 3; what it does not know it leaves out): the wheel's line and each round's point on it, or
    the rounds alone."""
    sections = {name: [c for c in charts if c in figures] for name, charts in _CHARTS.items()}
    quote = '"' if "'" in wheel else "'"
    state = {
        "searchFilter": f"tags.wheel = {quote}{wheel}{quote} and tags.level {level}",
        # By name: sorted by date MLflow folds the rounds away under their parent.
        "orderByKey": "tags.`mlflow.runName`", "orderByAsc": True, "runsHiddenMode": "SHOWALL", "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": True, "columns": 3, "cardHeight": 320}
            for name, charts in sections.items()
            if charts
        ],
        "compareRunCharts": [
            {
                "uuid": chart, "type": "LINE", "runsCountToCompare": 100, "metricSectionId": name, "deleted": False, "isGenerated": False,
                "displayName": chart.rpartition("/")[2], "metricKey": chart, "selectedMetricKeys": [chart], "lineSmoothness": 0, "xAxisScaleType": "linear",
                "scaleType": "linear", "range": {}, "xAxisKey": "step", "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [],
                "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
            }
            for name, charts in sections.items()
            for chart in charts
        ],
    }  # fmt: skip
    # An experiment's tag holds 5,000 characters.
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


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
