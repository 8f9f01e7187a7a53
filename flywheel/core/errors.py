"""The error family. Every message says where, what is wrong, and what to do.

A program reads ``code``, never the message: "busy" (another process holds the workspace), "locked" (a schedule runs
already), "newer" (made by a later version), "waiting" (for corrections), "gate", "proof", "media", "border",
"database" (not that of the records), "shard" (damaged or gone), "moved" (the database is elsewhere now), "full" (the
disk), "files" (those that searches read can be made nowhere); "" where there is nothing to tell apart.
"""

from __future__ import annotations

from flywheel.core.secrets import without_secrets


class FlywheelError(Exception):
    """A failure; the command prints its message and exits with ``exit_code``."""

    exit_code = 1
    code = ""

    def __init__(self, *arguments: object, code: str | None = None) -> None:
        # Messages hold addresses, and addresses may hold keys; whoever prints or keeps the error gets none.
        super().__init__(*(without_secrets(part) if isinstance(part, str) else part for part in arguments))
        if code is not None:
            self.code = code


class UserError(FlywheelError):
    """Something the user can fix: a config, a path, a file. Exit 2."""

    exit_code = 2


class GateRefused(FlywheelError):
    """A gate did not promote a model. Exit 3."""

    exit_code = 3
    code = "gate"


class Waiting(FlywheelError):
    """A round needs ``wanted`` corrections before it goes on, and has ``have``; ``left`` captions can be asked of."""

    code = "waiting"

    def __init__(self, round: int, have: int, wanted: int, left: int | None = None) -> None:
        super().__init__(round, have, wanted, left)
        self.round, self.have, self.wanted, self.left = round, have, wanted, left

    def __str__(self) -> str:
        missing = self.wanted - self.have
        few = (
            ""
            if self.left is None or self.left >= missing
            else (
                f"Left to review: {self.left} of its captions. The round goes on when these are done, "
                f"or at once with review.wait_for: {self.have}. "
            )
        )
        return (
            f"round {self.round} waits for {missing} more corrections ({self.have} of {self.wanted}). {few}"
            "Give them on the page that 'flywheel review' serves, or with 'flywheel corrections import FILE', "
            "and run the same command."
        )


class ProofFailed(FlywheelError):
    """An engine can't be shown to apply the adapter whose texts are wanted."""

    code = "proof"


class MediaError(FlywheelError):
    """A file or clip can't be decoded. It becomes a rejected row; the others go on."""

    code = "media"


#: Code of the error of a clip that lacks what is asked about: it has no sound track.
NO_MEDIUM = "no_medium"


class BorderError(FlywheelError):
    """A foreign system (engine, tracker, database) failed: the message names it, ``__cause__`` is its exception."""

    code = "border"


def first_line(error: BaseException) -> str:
    """The first line of a foreign exception's message, at most 300 characters; its class name where it has none."""
    try:
        words = str(error)
    except Exception:
        # Its words are the foreign library's code too.
        words = ""
    return without_secrets(next(iter(words.strip().splitlines()), type(error).__name__)[:300])


def root_of(error: BaseException) -> BaseException:
    """The exception that a chain of exceptions began with."""
    seen = {id(error)}
    while True:
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is None or id(before) in seen:
            return error
        error = before
        seen.add(id(error))
