"""What a search found as one page of pictures, which needs nothing from elsewhere and sends nothing anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from flywheel.core.border import one_item
from flywheel.core.errors import MediaError, UserError
from flywheel.core.files import written_whole
from flywheel.media.frames import thumbnail
from flywheel.search.searching import Found
from flywheel.store import Workspace

#: Pictures are decoded at this size, and shown at this height, in pixels.
_SIDE, _HEIGHT = 320, 96


@dataclass(frozen=True, kw_only=True)
class Still:
    """A clip that was found, its first, middle and last frame as JPEG in base64, or why there is none."""

    found: Found
    name: str
    address: str
    picture: str = ""
    error: str = ""


def write_sheet(workspace: Workspace, asked: str, found: Sequence[Found], out: Path) -> None:
    """Write the page. What can't be read is said in its place; raises UserError where ``out`` can't be written."""
    environment = Environment(
        loader=PackageLoader("flywheel.search"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("sheet.html").render(asked=asked, stills=list(_stills(workspace, found)))
    try:
        with written_whole(out) as place:
            place.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--sheet {out}: can't be written ({error.strerror}). Name another file.") from error


def _stills(workspace: Workspace, found: Sequence[Found]) -> Iterator[Still]:
    clips = workspace.clips_by_id([one.clip_id for one in found], ["id", "content_hash", "uri"])
    contents = dict(clips.select("id", "content_hash").iter_rows())
    for one in found:
        path = Path(one.uri)
        address = f"{path.as_uri()}#t={one.start_s:.3f},{one.end_s:.3f}" if path.is_absolute() else ""
        try:
            with one_item():
                yield Still(
                    found=one, name=path.name, address=address, picture=_picture(workspace, one, contents[one.clip_id])
                )
        except MediaError as error:
            yield Still(found=one, name=path.name, address=address, error=str(error))


def _picture(workspace: Workspace, found: Found, content_hash: str) -> str:
    from PIL import Image

    length_s = found.end_s - found.start_s
    times_s = [found.start_s + share * length_s for share in (0.1, 0.5, 0.9)]
    frames = workspace.cache.frames(found.uri, content_hash, times_s, _SIDE)
    buffer = io.BytesIO()
    Image.fromarray(thumbnail(frames, _HEIGHT)).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
