"""The border to MLflow. Whatever it raises (its own, requests', SQLAlchemy's errors) becomes one line of ours."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flywheel.core.errors import BorderError, first_line, root_of
from flywheel.core.progress import say
from flywheel.store.workspace import Workspace

#: Key of the ledger's meta table under which the wheel's run is remembered.
_PARENT = "mlflow_parent"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server that does not answer costs a round some seconds, not the minutes that MLflow would try for.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
#: Signs in what fails, and what to do.
_MENDS = (
    (r"onnection refused|Name or service not known|timed out|No route|unreachable", "check tracking.uri"),
    (r"401|403|UNAUTHENTICATED|PERMISSION_DENIED", "set MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN"),
    (r"CERTIFICATE|SSL", "set MLFLOW_TRACKING_SERVER_CERT_PATH"),
    (
        r"Can't locate revision|out-of-date database schema|database schema",
        "another version of MLflow made the database: run 'mlflow db upgrade', or name another in tracking.uri",
    ),
    (r"database is locked", "another process writes to it"),
    (r"No space left|is full", "free space on the disk"),
    (r"404|non-API|not a valid URL|No connection adapters", "tracking.uri names no MLflow server"),
)
#: What a migration meets that an earlier one left unfinished: MLflow's on SQLite are not whole or nothing.
_HALF_MADE = re.compile(r"_alembic_tmp_|(table|index) \S+ already exists|duplicate column name")
#: As long a process may take to make a database that another finds half-made, in seconds.
_MAKING_S = 3.0
#: MLflow's codes for what it will not take at any later time either.
_NEVER_TAKEN = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST"})


#: Its codes for a batch of which one entry is bad.
_ONE_IS_BAD = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
#: MLflow takes 1,000 figures at a time, and names of 250 characters.
_MOST_AT_ONCE, _LONGEST_NAME = 500, 250


class NotTaken(BorderError):
    """The tracker answers, and will never take this entry."""


class Runs:
    """The wheel's runs. MLflow is imported and connected to at the first delivery."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._wheel = _storable(workspace.root.name) or "workspace"
        config = workspace.config.tracking
        self._experiment = config.experiment
        self._remote = bool(config.uri)
        self.uri: str = config.uri or _address(workspace.root / "mlflow.db")
        self._connected: Any = None

    def deliver(self, what: str, arguments: Mapping[str, Any]) -> None:
        """Log one entry, such as ``metrics`` of a round.

        Raises NotTaken where it can never be logged, BorderError where the tracker fails or does not answer.
        """
        log = getattr(self, f"_log_{what}", None)
        if log is None:
            raise NotTaken("another version of flywheel wrote it")
        try:
            log(self._mlflow(), **arguments)
        except BorderError:
            raise
        except Exception as error:
            code = getattr(error, "error_code", "")
            if code in _NEVER_TAKEN and (binned := self._binned()):
                # People can mend that, and what comes then is told.
                raise BorderError(binned) from error
            raise (NotTaken if code in _NEVER_TAKEN else BorderError)(_cause(error)) from error

    def _binned(self) -> str:
        """What to do where the experiment lies in MLflow's bin; empty where it does not, or MLflow can't say."""
        try:
            import mlflow

            experiment = mlflow.get_experiment_by_name(self._experiment)
            if experiment is None or experiment.lifecycle_stage != "deleted":
                return ""
        except Exception:
            return ""
        return (
            f"the experiment '{self._experiment}' was deleted and lies in MLflow's bin; restore it with "
            f"'MLFLOW_TRACKING_URI={self.uri} mlflow experiments restore --experiment-id {experiment.experiment_id}', "
            "or name another in tracking.experiment"
        )

    def _mlflow(self) -> Any:
        """Return MLflow's module, pointed at the experiment; the experiment is made where there is none."""
        if self._connected is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            import mlflow

            logging.getLogger("mlflow").setLevel(logging.ERROR)
            logging.getLogger("alembic").setLevel(logging.ERROR)
            mlflow.set_tracking_uri(self.uri)
            try:
                self._enter_experiment(mlflow)
            except Exception as error:
                if self._remote or not _HALF_MADE.search(f"{first_line(error)} {first_line(root_of(error))}"):
                    raise
                self._entered_late(mlflow)
            self._connected = mlflow
        return self._connected

    def _enter_experiment(self, mlflow: Any) -> None:
        """Make the experiment the active one, itself if there is none. Raises BorderError for one in the bin."""
        if binned := self._binned():
            raise BorderError(binned)
        if mlflow.get_experiment_by_name(self._experiment) is None:
            location = None if self._remote else (self._workspace.root / "mlartifacts").as_uri()
            mlflow.create_experiment(self._experiment, artifact_location=location)
        experiment = mlflow.set_experiment(self._experiment)
        self._workspace.set_meta("mlflow_experiment", str(experiment.experiment_id))

    def _entered_late(self, mlflow: Any) -> None:
        """Enter the experiment of a database that looks half-made: another process may be making it just now."""
        time.sleep(_MAKING_S)
        try:
            self._enter_experiment(mlflow)
        except Exception:
            self._put_aside()
            self._enter_experiment(mlflow)

    def _put_aside(self) -> None:
        """Rename the workspace's mlflow.db, whose tables are half-made. Raises BorderError where it holds runs."""
        file = self._workspace.root / "mlflow.db"
        aside = file.with_name(f"mlflow.db.unfinished-{int(time.time())}")
        if _holds_runs(file):
            raise BorderError(
                f"{file} is half-written (the disk was full, or MLflow was stopped, while it changed its tables): "
                f"rename it to {aside.name}; a new one is made. Reports keep all figures, MLflow then lacks the "
                "earlier rounds'"
            )
        _forget_connections(self.uri)
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{file}{end}").rename(f"{aside}{end}")
        say(f"tracking: mlflow.db was half-made and without runs: it is {aside.name} now, and a new one is made")

    # Runs: made at the first use, found again by their ids in the ledger.

    @contextmanager
    def _run(self, mlflow: Any, round: int | None) -> Iterator[Any]:
        """Enter the wheel's run, or inside it the round's."""
        with self._remembered(mlflow, _PARENT, self._wheel, {"wheel": self._wheel, "level": "wheel"}) as parent:
            if round is None:
                yield parent
                return
            tags = {"round": str(round), "wheel": self._wheel, "level": "round"}
            with self._remembered(mlflow, f"mlflow_round_{round}", f"round {round:03d}", tags, nested=True) as child:
                yield child

    @contextmanager
    def _remembered(
        self, mlflow: Any, key: str, name: str, tags: Mapping[str, str], *, nested: bool = False
    ) -> Iterator[Any]:
        run_id = self._workspace.meta(key)
        if run_id is not None and not _is_there(mlflow, run_id):
            # Another server, or one whose database was made anew: it gets runs of its own.
            run_id = None
        with mlflow.start_run(run_id=run_id, run_name=None if run_id else name, nested=nested) as run:
            if run_id is None:
                self._workspace.set_meta(key, run.info.run_id)
                mlflow.set_tags(dict(tags))
            yield run

    # One method for each kind of entry.

    def _log_metrics(self, mlflow: Any, round: int, values: Mapping[str, float]) -> None:
        with self._run(mlflow, None):
            log_metrics(mlflow, values, round)
        with self._run(mlflow, round):
            log_metrics(mlflow, values, round)

    def _log_parameters(self, mlflow: Any, round: int, values: Mapping[str, str]) -> None:
        with self._run(mlflow, round) as run:
            _log_changed_parameters(mlflow, run.info.run_id, values)

    def _log_tags(self, mlflow: Any, round: int, values: Mapping[str, str]) -> None:
        with self._run(mlflow, round):
            mlflow.set_tags(dict(values))

    def _log_stage(
        self, mlflow: Any, round: int, stage: str, values: Mapping[str, float], parameters: Mapping[str, str]
    ) -> None:
        # Not "round": whoever filters by that wants rounds.
        tags = {"of_round": str(round), "stage": stage, "wheel": self._wheel, "level": "stage"}
        key, name = f"mlflow_stage_{round}_{stage}", f"{stage} {round:03d}"
        with self._run(mlflow, round), self._remembered(mlflow, key, name, tags, nested=True) as run:
            log_metrics(mlflow, values, round)
            _log_changed_parameters(mlflow, run.info.run_id, parameters)

    def _log_dataset(self, mlflow: Any, round: int) -> None:
        texts = self._workspace.annotations(round=round).select("clip_id", "kind", "text")
        if texts.height:
            with self._run(mlflow, round):
                mlflow.log_input(mlflow.data.from_polars(texts, name=f"annotations-{round:03d}"), context="annotations")

    def _log_alias(self, mlflow: Any, round: int, alias: str) -> None:
        client, name = mlflow.MlflowClient(), model_name(self._wheel)
        try:
            client.get_registered_model(name)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            client.create_registered_model(name)
            if name != self._wheel:
                say(f"tracking: the model is registered as '{name}': MLflow takes no '/', ':' and the like in a name")
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

    def _log_artifacts(self, mlflow: Any, round: int, paths: Sequence[str]) -> None:
        with self._run(mlflow, round):
            for path in paths:
                if os.path.exists(path):
                    mlflow.log_artifact(path)

    def _log_replace(
        self,
        mlflow: Any,
        round: int,
        gone: Sequence[str],
        paths: Sequence[str],
        tables: Mapping[str, Mapping[str, list[Any]]],
    ) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._run(mlflow, round) as run:
            uri = run.info.artifact_uri
            there = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        for name in sorted(there & set(gone)):
            try:
                get_artifact_repository(uri).delete_artifacts(name)
            except Exception as error:
                # A store that lets nobody delete must not keep back all that comes after.
                say(f"tracking: {uri}/{name} may hold what was taken down, delete it there ({_cause(error)})")
        self._log_artifacts(mlflow, round, paths)
        for name, rows in tables.items():
            self._log_table(mlflow, round, rows, name)

    def _log_table(self, mlflow: Any, round: int, rows: Mapping[str, list[Any]], name: str) -> None:
        with self._run(mlflow, round) as run:
            # MLflow adds rows to a table that is there: logged twice, it would stand there twice.
            if not any(f.path == name for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)):
                mlflow.log_table(dict(rows), artifact_file=name)

    def _log_plot(self, mlflow: Any, round: None, path: str) -> None:
        if os.path.exists(path):
            with self._run(mlflow, round):
                mlflow.log_artifact(path)

    def _log_view(
        self,
        mlflow: Any,
        round: None,
        sections: Mapping[str, Sequence[str]] | None = None,
        figures: Sequence[str] = (),
        **words: Any,
    ) -> None:
        if sections is None:
            # Spooled by a version that named figures alone; the view is set up again after each round.
            return
        with self._run(mlflow, round) as parent:
            key = f"flywheel-{parent.info.run_id[:12]}"
            # A parent of an older version lacks it, and the page would lack the parent.
            mlflow.set_tag("level", "wheel")
            mlflow.set_experiment_tag(f"mlflow.sharedViewState.{key}", _view(self._wheel, sections, **words))
            mlflow.set_experiment_tag(f"mlflow.sharedViewState.{key}-texts", _view(self._wheel, {}, "= 'round'"))
        self._workspace.set_meta("mlflow_view", key)

    def _log_training(self, mlflow: Any, round: int, logged: Sequence[tuple[dict[str, float], int]]) -> None:
        with self._run(mlflow, round):
            for values, step in logged:
                log_metrics(mlflow, values, step)


def _holds_runs(file: Path) -> bool:
    """Whether there is a run in a database of MLflow's, whole or in the middle of a migration."""
    with closing(sqlite3.connect(file)) as connection:
        for table in ("runs", "_alembic_tmp_runs"):
            try:
                if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                    return True
            except sqlite3.OperationalError as error:
                # Of one that is locked, or that can't be read, nobody can say that it holds none.
                if "no such table" not in str(error):
                    return True
    return False


def _forget_connections(uri: str) -> None:
    """Close what MLflow holds open of a database: a file that is renamed would be written on."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # Its own cache of engines; a version without one opens the file anew by itself.
    engine = getattr(SqlAlchemyStore, "_engine_map", {}).pop(uri, None)
    if engine is not None:
        engine.dispose()


def _address(file: Path) -> str:
    """The address of a database file as MLflow takes it."""
    if not re.search(r"[%?#\x00-\x1f]", str(file)):
        return f"sqlite:///{file}"
    # With the driver's name MLflow leaves the path alone; else it makes the folder under its quoted name too.
    return f"sqlite+pysqlite:///{quote(str(file))}"


def model_name(wheel: str) -> str:
    """The name of a workspace's registered model: its folder's, with '-' for what MLflow's registry does not take."""
    fit = re.sub(r"[/:\\\x00-\x1f\x7f]", "-", _storable(wheel)).strip()
    return fit if fit.strip(".-") else "workspace"


def log_metrics(mlflow: Any, values: Mapping[str, Any], step: int) -> None:
    """Log figures into the active run. One that MLflow does not take is said, and takes no other with it."""
    fit: dict[str, float] = {}
    for name, value in values.items():
        try:
            fit[_fit_name(name)] = float(value)
        except (TypeError, ValueError, OverflowError):
            say(f"tracking: the figure '{name}' is no number ({str(value)[:40]}) and is left out")
    names = list(fit)
    for start in range(0, len(names), _MOST_AT_ONCE):
        some = {name: fit[name] for name in names[start : start + _MOST_AT_ONCE]}
        try:
            mlflow.log_metrics(some, step=step)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code not in _ONE_IS_BAD or len(some) == 1:
                raise
            _log_one_by_one(mlflow, some, step)


def _log_one_by_one(mlflow: Any, values: Mapping[str, float], step: int) -> None:
    """Log each by itself. Raises MLflow's error where none is taken: then it is not the figures' fault."""
    refused: list[tuple[str, Exception]] = []
    for name, value in values.items():
        try:
            mlflow.log_metrics({name: value}, step=step)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code not in _ONE_IS_BAD:
                raise
            refused.append((name, error))
    if len(refused) == len(values):
        raise refused[0][1]
    for name, why in refused:
        say(f"tracking: the figure '{name}' was not taken ({first_line(why)})")


def _fit_name(name: str) -> str:
    """A name of a figure, parameter or tag as MLflow takes it, with '_' for what it does not."""
    fit = re.sub(r"[^\w\-. /:]", "_", _storable(name))
    parts = [part for part in fit.split("/") if part not in ("", ".", "..")]
    fit = "/".join(parts) or "_"
    return fit if len(fit) <= _LONGEST_NAME else f"{fit[: _LONGEST_NAME - 9]}-{zlib.crc32(fit.encode()):08x}"


def _storable(text: str) -> str:
    """The text with bytes that were no UTF-8 (file names may have some) as U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _cause(error: BaseException) -> str:
    """What failed, in one line: MLflow's words, the error that they began with, and the option to change."""
    said, root = first_line(error), first_line(root_of(error))
    # Of a long chain the words are cut off before they come to the cause.
    if root not in said:
        said = f"{said[:120].rstrip()}: {root}" if len(said) > 120 else f"{said} ({root})"
    for sign, mend in _MENDS:
        if re.search(sign, f"{said} {root}"):
            return f"{said}; {mend}"
    return said


def _is_there(mlflow: Any, run_id: str) -> bool:
    try:
        return str(mlflow.MlflowClient().get_run(run_id).info.lifecycle_stage) == "active"
    except mlflow.exceptions.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _log_changed_parameters(mlflow: Any, run_id: str, values: Mapping[str, str]) -> None:
    """Log new parameters; MLflow lets none change, so a changed one is a tag beside it."""
    values = {_fit_name(name): value for name, value in values.items()}
    before = mlflow.MlflowClient().get_run(run_id).data.params
    mlflow.log_params({name: value for name, value in values.items() if name not in before})
    if changed := {f"{name} now": value for name, value in values.items() if before.get(name, value) != value}:
        mlflow.set_tags(changed)


def _view(
    wheel: str,
    sections: Mapping[str, Sequence[str]],
    level: str = "!= 'stage'",
    *,
    headline: str = "",
    intervals: Sequence[str] = (),
) -> str:
    """Return the state of MLflow's page of runs as its own 'Share' keeps it, for the wheel and its rounds.

    The ``headline`` stands at the first section, which one sees first; of the figures in ``intervals`` the ends are
    drawn too.
    The form is MLflow 3's; what it does not know it leaves out. An experiment's tag holds 5,000 characters.
    """
    state = {
        "searchFilter": f"tags.wheel {_equals(wheel)} and tags.level {level}",
        # By name: sorted by date MLflow folds the rounds away under their parent.
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOWALL",
        "isAccordionReordered": True,
        "compareRunSections": [
            {
                "uuid": name,
                "name": f"{name}. {headline}" if headline and place == 0 else name,
                "display": True,
                "isReordered": True,
                # Three beside each other leave no room for their titles in a window of 1440 pixels.
                "columns": 2,
                "cardHeight": 300,
            }
            for place, name in enumerate(sections)
        ],
        "compareRunCharts": [
            _chart(name, section, name in intervals) for section, figures in sections.items() for name in figures
        ],
    }
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def _equals(text: str) -> str:
    """A comparison with a text in MLflow's language of filters, which has no escapes: a quote is then any character."""
    if "'" not in text and "\n" not in text:
        return f"= '{text}'"
    if '"' not in text and "\n" not in text:
        return f'= "{text}"'
    return "LIKE '" + re.sub(r"['\n]", "_", text) + "'"


def _chart(figure: str, section: str, has_interval: bool = False) -> dict[str, Any]:
    return {
        "uuid": figure,
        "type": "LINE",
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": figure.rpartition("/")[2],
        "metricKey": figure,
        "selectedMetricKeys": [figure, *([f"{figure}_low", f"{figure}_high"] if has_interval else [])],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
