"""The times of a cron line, on the wall clock of a zone.

A time that the clock skips in spring comes an hour later; one that it passes twice in autumn comes once.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flywheel.core.errors import UserError

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Times:
    """The times of a cron line in a zone, this machine's if None.

    The fields are minute, hour, day of month, month, day of week; 0 and 7 are Sunday, and either day will do where both
    are given. Raises UserError for a line of another form, and for one that never comes.
    """

    def __init__(self, cron: str, zone: tzinfo | None = None) -> None:
        from apscheduler.triggers.combining import OrTrigger
        from apscheduler.triggers.cron import CronTrigger

        self.cron, self.zone = cron, zone or machine_zone()
        fields = cron.split()
        if len(fields) != 5:
            raise UserError(
                f"schedule.cron: '{cron}' has {len(fields)} fields, 5 are needed: minute hour day month weekday."
            )
        minute, hour, day, month, weekday = fields
        common = {"minute": minute, "hour": hour, "month": month, "timezone": UTC}
        either = day[0] != "*" and weekday[0] != "*"
        try:
            by_day, by_weekday = {"day": day}, {"day_of_week": _weekdays(weekday)}
            days = [by_day, by_weekday] if either else [by_day | by_weekday]
            triggers = [CronTrigger(**common, **fields) for fields in days]
        except (ValueError, TypeError) as error:
            raise UserError(
                f"schedule.cron: '{cron}' is no cron line ({error}). Write one such as 0 2 * * *."
            ) from error
        self._trigger = OrTrigger(triggers) if either else triggers[0]
        if self.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise UserError(f"schedule.cron: '{cron}' never comes. Write a day that there is.")

    def after(self, moment: datetime) -> datetime | None:
        """The first time later than ``moment``; None where there is none."""
        # Counted on the wall clock as if it were UTC, which skips and repeats nothing; the zone is set afterwards.
        wall = moment.astimezone(self.zone).replace(tzinfo=UTC, fold=0) - timedelta(hours=3)
        while (fires := self._trigger.get_next_fire_time(None, wall)) is not None:
            local: datetime = fires.replace(tzinfo=self.zone, fold=0)
            # A wall time that the clock skips becomes the one it shows then.
            local = local.astimezone(UTC).astimezone(self.zone)
            if local > moment:
                return local
            wall = fires + timedelta(seconds=1)
        return None

    def last_due(self, handled: datetime, now: datetime) -> datetime | None:
        """The newest time in (``handled``, ``now``]; None where there is none. One run makes up for all before it."""
        due, following = None, self.after(handled)
        while following is not None and following <= now:
            due, following = following, self.after(following)
        return due


def zone_of(name: str) -> tzinfo | None:
    """The zone of this name; None for "". Raises UserError for an unknown one."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UserError(f"schedule.timezone: '{name}' is unknown. Write one such as Europe/Berlin.") from error


def machine_zone() -> tzinfo:
    """This machine's zone, by $TZ or /etc/localtime; UTC where neither names one."""
    name = os.environ.get("TZ") or _linked_zone()
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def _linked_zone() -> str:
    target = os.path.realpath("/etc/localtime")
    return target.split("zoneinfo/", 1)[1] if "zoneinfo/" in target else ""


def _weekdays(field: str) -> str:
    """Cron's weekdays as a list of names: the trigger would count numbers from Monday on."""
    return ",".join(dict.fromkeys(name for part in field.lower().split(",") for name in _weekdays_of(part)))


def _weekdays_of(part: str) -> list[str]:
    span, slash, step = part.partition("/")
    ends = span.split("-")
    if len(ends) > 2 or any(end.isdigit() and int(end) > 7 for end in ends):
        raise ValueError(f"weekday '{part}'")
    if len(ends) == 2 or (slash and span != "*"):
        numbers = [int(end) if end.isdigit() else _DAYS.index(end) for end in ends]
        low, high = numbers[0], numbers[-1] if len(ends) == 2 else 6
        high = high + 7 if high < low else high
        # Sunday is first here and last in the trigger, so spans are written out.
        return [_DAYS[day % 7] for day in range(low, high + 1, int(step) if slash else 1)]
    if slash:
        return [_DAYS[day] for day in range(0, 7, int(step))]
    return [_DAYS[int(span)] if span.isdigit() else span]
