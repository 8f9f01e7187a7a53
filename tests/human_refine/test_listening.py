"""The socket of the review page."""

import socket

import pytest

from flywheel.core.errors import UserError
from human_refine.serve import bound


def test_answers_are_sent_at_once() -> None:
    with bound("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_one_line() -> None:
    with (
        bound("127.0.0.1", 0) as listener,
        pytest.raises(UserError, match=r"can't be used .* Name another with --port"),
    ):
        bound("127.0.0.1", listener.getsockname()[1])
