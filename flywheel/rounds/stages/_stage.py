"""What a stage of a round is: work that is done once, a frozen result for the record, and figures of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from flywheel.core.config import Section

if TYPE_CHECKING:
    from flywheel.rounds.context import RoundContext


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, as its file registers it under the name ``STAGE``.

    ``run(context, round)`` does the work and returns an instance of ``result``, a frozen dataclass; killed at any
    moment and called again it goes on. ``figures(result)`` are the numbers that the tracker and the report get, by
    name. ``check(context)`` raises UserError, before a round begins, where the stage can't run. ``roles`` are the
    models beside the prompts' that it asks, ``settings`` the section that another package's stage has in the
    configuration, under the stage's name.
    """

    run: Callable[[RoundContext, int], Any]
    result: type
    figures: Callable[[Any], Mapping[str, float]] = lambda result: {}
    roles: tuple[str, ...] = ()
    settings: type[Section] | None = None
    check: Callable[[RoundContext], None] = lambda context: None


def to_record(result: Any) -> dict[str, Any]:
    """A stage's result as the ledger keeps it: by its ``to_record`` where it has one, else field by field."""
    own = getattr(result, "to_record", None)
    return dict(own()) if own is not None else asdict(result)


def from_record(kind: type, record: Mapping[str, Any]) -> Any:
    """The result that a record of the ledger holds; fields that the record lacks have their defaults."""
    own = getattr(kind, "from_record", None)
    if own is not None:
        return own(record)
    return kind(**{field.name: record[field.name] for field in fields(kind) if field.name in record})
