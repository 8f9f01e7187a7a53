"""Where records and figures are kept."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section


class Store(Section):
    database: str = Field(
        "",
        description=(
            "SQLAlchemy URL of a PostgreSQL database (`postgresql://user@host/name`, `$VARIABLES` are filled in); "
            "empty is flywheel.db in the workspace"
        ),
    )
    copies_gib: float = Field(
        50.0, gt=0, description="GiB of records that a host keeps copies of, of a workspace on an object store"
    )


class Tracking(Section):
    uri: str = Field("", description="MLflow tracking server; empty is mlflow.db in the workspace")
    experiment: str = Field("flywheel", description="MLflow experiment")
    enabled: bool = True
