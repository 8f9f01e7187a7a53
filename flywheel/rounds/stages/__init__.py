"""The stages of a round, one file each; other packages' through entry points of group ``flywheel.stages``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flywheel.core.config import Section
from flywheel.core.errors import UserError
from flywheel.core.registry import Registry
from flywheel.core.types import ROUND_STAGES
from flywheel.rounds.stages._stage import Stage, from_record, to_record

if TYPE_CHECKING:
    from flywheel.rounds.context import RoundContext

__all__ = ["ORDER", "Stage", "check", "from_record", "names", "settings_of", "stage_of", "to_record"]

#: The order of the stages, where the configuration says no other.
ORDER = ROUND_STAGES

_registry = Registry("flywheel.rounds.stages", what="stage", group="flywheel.stages", attribute="STAGE")


def names() -> list[str]:
    """All stages' names."""
    return _registry.names()


def check(name: str) -> None:
    """Raises UserError with the nearest name where there is no such stage; imports nothing."""
    _registry.check(name)


def stage_of(name: str) -> Stage:
    """The stage of this name. Raises UserError for an unknown or broken one."""
    found: Any = _registry.builder(name)
    # An entry point may name the module.
    found = getattr(found, "STAGE", found)
    if not isinstance(found, Stage):
        raise UserError(
            f"stage '{name}': its entry point holds no Stage. Name one that is made with flywheel.rounds.Stage."
        )
    return found


def settings_of(context: RoundContext, name: str) -> Section | None:
    """The checked section of another package's stage; None for one that has none. Raises UserError."""
    section = stage_of(name).settings
    values = context.config.plugins.get(name)
    if section is None:
        if values is not None:
            raise UserError(f"{name}: the stage takes no settings. Remove the section.")
        return None
    try:
        return section.model_validate(values or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *(str(key) for key in first["loc"])])
        raise UserError(f"{where}: {first['msg'][:1].lower() + first['msg'][1:]}.") from error
