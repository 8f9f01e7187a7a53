"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A place beside ``out`` to write a file or a folder to; it takes the place of ``out`` when all is written.

    The files of a folder take their places one by one, beside what the folder holds already. Where writing fails, and
    when it is killed, ``out`` stays what it was. What is no file or folder (a pipe, a terminal) is written as it is.
    """
    out = out.resolve()
    if out.exists() and not (out.is_file() or out.is_dir()):
        yield out
        return
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        if temporary.is_dir():
            out.mkdir(exist_ok=True)
            for file in sorted(temporary.iterdir()):
                os.replace(file, out / file.name)
        elif temporary.exists():
            os.replace(temporary, out)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
