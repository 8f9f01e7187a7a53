"""The border around one item: whatever one file, row, reply or name raises is that item's reject, and the others go on.

One rule for ingest, decoding, asking, collation, corrections and exports. What is not one item's passes: a full disk, a
lost database, no memory, an interruption, and all that we raise as the whole's.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from flywheel.core.errors import FlywheelError, MediaError, first_line

#: What the machine lacks, whichever item met it.
_OF_THE_MACHINE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM))
#: Our packages, and what is raised where their own lines are wrong, whatever the item holds.
_OURS = frozenset(("flywheel", "annotators", "human_refine", "noise_control", "trainers"))
_MISTAKES = (TypeError, AttributeError, NameError, AssertionError, NotImplementedError)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def is_of_one_item(error: BaseException) -> bool:
    """Whether an exception that was raised while one item was worked on concerns this item alone."""
    if isinstance(error, FlywheelError):
        return isinstance(error, MediaError)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
        return False
    # A library in Rust that gives up raises what is no Exception.
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def is_our_mistake(error: BaseException | None) -> bool:
    """Whether an exception, or the one that it was made from, tells of a mistake in our lines and not of an item."""
    if isinstance(error, MediaError):
        error = error.__cause__
    if not isinstance(error, _MISTAKES):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in _OURS


def reason_of(error: BaseException) -> str:
    """What an exception says, in one line that is the same at each try; what nobody foresaw with its class and place.

    It can be stored and printed, whatever the exception's words hold.
    """
    words = _ADDRESS.sub("", first_line(error))
    if not isinstance(error, FlywheelError):
        words = f"{type(error).__name__}: {words}{_place(error)}"
    return _storable(words)


@contextlib.contextmanager
def one_item(failure: str = "can't be read") -> Iterator[None]:
    """Raises MediaError, ``failure`` and the reason, for whatever concerns one item alone; what does not passes."""
    try:
        yield
    except MediaError as error:
        words = _storable(str(error))
        if words and words == str(error):
            raise
        # Where there is no reason, nothing is taken for wrong.
        raise MediaError(words or failure) from error
    except BaseException as error:
        if not is_of_one_item(error):
            raise
        raise MediaError(f"{failure} ({reason_of(error)})") from error


def _storable(words: str) -> str:
    return words.encode("utf-8", "backslashreplace").decode()


def _place(error: BaseException) -> str:
    """File and line where an exception was raised, as far as it tells."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f", {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
