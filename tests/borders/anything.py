"""What an item can throw and hold: strategies, and how often a property is tried."""

from __future__ import annotations

import builtins
import errno
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.core.errors import BorderError, MediaError, UserError


class Mute(Exception):
    """An exception whose own words fail."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


#: As libraries in Rust raise it: no Exception.
PanicException = type("PanicException", (BaseException,), {})

#: What concerns one item, whatever it is.
OF_ONE_ITEM = [
    *(
        kind
        for kind in vars(builtins).values()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        and not issubclass(kind, MemoryError | Warning | UnicodeError | BaseExceptionGroup)
    ),
    MediaError,
    Mute,
    PanicException,
]
#: What does not: it is to pass.
OF_THE_WHOLE = [
    KeyboardInterrupt(),
    SystemExit(1),
    MemoryError("no memory"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    UserError("the configuration"),
    BorderError("the database is lost"),
]

#: Text with all that text can hold: halves of characters, controls, marks, ends of lines.
texts = st.one_of(
    st.text(max_size=40),
    st.text(
        st.sampled_from("<|>_/[]{}()imendvopatx \n\r\t\x00\x1b\u2028\u202e\ud800\udfff\ufeff\uff5c=+-@,;\"'%"),
        max_size=40,
    ),
    st.lists(
        st.sampled_from(
            [
                "<|im_end|>",
                "<|video_pad|>",
                "<image>",
                "</s>",
                "word",
                " ",
                "\ud83d",
                "-->",
                "00:01.000",
                "\n",
                "{",
                '"',
            ]
        ),
        max_size=12,
    ).map("".join),
)
errors: st.SearchStrategy[BaseException] = st.builds(
    lambda kind, words: kind(words), st.sampled_from(OF_ONE_ITEM), texts
)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 2**31, 2**63, True]))
#: What JSON, Parquet and foreign code give.
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts, st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def as_json(value: Any) -> str:
    """The value as JSON, bytes as their repr."""
    return json.dumps(value, default=repr)


def tried(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """Tries a property on 20 examples each time, and on 2,000 in the slow tests."""

    def wrap(test: Callable[..., None]) -> Any:
        import inspect

        fixtures = [name for name in inspect.signature(test).parameters if name not in strategies]

        @pytest.mark.parametrize("examples", [20, pytest.param(2000, marks=pytest.mark.slow)])
        def run(examples: int, request: pytest.FixtureRequest) -> None:
            given_fixtures = {name: request.getfixturevalue(name) for name in fixtures}
            checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

            @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=checks)
            @given(**strategies)
            def inner(**example: Any) -> None:
                test(**given_fixtures, **example)

            inner()

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return wrap
