"""The error family. Every message says where, what is wrong, and what to do."""

from __future__ import annotations


class FlywheelError(Exception):
    """Something failed; the command exits with ``exit_code``."""

    exit_code = 1


class UserError(FlywheelError):
    """The user's to fix: a config, a path, a file. One line, exit 2."""

    exit_code = 2


class GateRefused(FlywheelError):
    """A gate said no. Exit 3."""

    exit_code = 3


class ProofFailed(FlywheelError):
    """It can't be shown that the adapter which is to write does write."""


class MediaError(FlywheelError):
    """A file or clip can't be decoded. Becomes a rejected row; the rest goes on."""


class BorderError(FlywheelError):
    """A foreign system (engine, tracker, database) failed; the message names it, ``__cause__`` is its own exception."""


def first_line(error: BaseException) -> str:
    """What a foreign exception says, short enough for one line of ours."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
