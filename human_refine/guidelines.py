"""The lead's guidelines, as the page shows them: a few kinds of blocks read from a text or Markdown file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flywheel.core.errors import UserError
from flywheel.core.types import content_id

_MOST_BYTES = 1 << 18
_HEADING, _ITEMS = "#", ("- ", "* ")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A heading or paragraph with its ``text``, or a list with its ``lines``."""

    kind: Literal["heading", "paragraph", "items"]
    text: str = ""
    lines: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Guide:
    """The guidelines; ``version`` differs when their text does, so that everybody is shown what is new."""

    version: str
    blocks: Sequence[Block]


def read_guide(name: str, root: Path) -> Guide | None:
    """The file of ``review.guidelines``, a relative path from the workspace; None where there is none.

    Raises UserError for a file that can't be read as text.
    """
    if not name.strip():
        return None
    path = root / Path(name).expanduser()
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"review.guidelines: {path} is over {_MOST_BYTES >> 10} KiB. Give a shorter text.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"review.guidelines: {path} can't be read ({error.strerror}). Name a text file.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"review.guidelines: {path} is no UTF-8 text. Save it as UTF-8.") from error
    return Guide(version=content_id(text), blocks=tuple(_blocks(text)))


def _blocks(text: str) -> Iterator[Block]:
    """Headings (``#``), lists (``-``) and paragraphs; all else of Markdown stands as it is."""
    paragraph: list[str] = []
    items: list[str] = []

    def ended() -> Iterator[Block]:
        if paragraph:
            yield Block(kind="paragraph", text=" ".join(paragraph))
        if items:
            yield Block(kind="items", lines=tuple(items))
        paragraph.clear()
        items.clear()

    for line in (line.strip() for line in text.splitlines()):
        if not line:
            yield from ended()
        elif line.startswith(_HEADING):
            yield from ended()
            yield Block(kind="heading", text=line.lstrip(_HEADING).strip())
        elif line.startswith(_ITEMS):
            if paragraph:
                yield from ended()
            items.append(line[2:].strip())
        elif items:
            items[-1] += f" {line}"
        else:
            paragraph.append(line)
    yield from ended()
