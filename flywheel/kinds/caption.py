"""A caption: plain text that describes the clip."""

from __future__ import annotations

from flywheel.kinds._kind import Kind, Payload


def _read(text: str, _: float) -> tuple[Payload, str]:
    return {}, text


KIND = Kind(name="caption", read=_read, editable=True)
