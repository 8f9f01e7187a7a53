"""What every part shares: its arguments, its file of JSON lines, and what a line says about the machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What a part ends with where it can't run at all: no GPU, or a package is missing.
CANT_RUN = 3
PACKAGES = ("torch", "triton", "transformers", "liger-kernel", "cut-cross-entropy")


class Part:
    """One part's run: ``part.line(...)`` adds a result at once, ``part.seconds_left()`` says how long it may go on.

    ``device`` is ``cuda``, or ``cpu`` in the tiny mode, which shows that the script runs and measures nothing.
    """

    def __init__(self, description: str | None, arguments: list[str] | None = None) -> None:
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
        parser.add_argument("--seconds", type=float, default=90.0, help="how long it may take in all")
        parser.add_argument("--tiny", action="store_true", help="small sizes, on the CPU: does the script run?")
        options = parser.parse_args(arguments)
        self.out: Path = options.out
        self.tiny: bool = options.tiny
        self.device = "cpu" if self.tiny else "cuda"
        self._end = time.monotonic() + options.seconds
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._machine: dict[str, Any] | None = None
        sys.path.insert(0, str(ROOT))

    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def need_gpu(self) -> None:
        """End with exit 3 where there is no GPU and the mode is not tiny."""
        import torch

        if not self.tiny and not torch.cuda.is_available():
            self.cant_run("no GPU that torch can use")

    def cant_run(self, why: str) -> None:
        """End with exit 3 and the reason."""
        print(why, file=sys.stderr)
        raise SystemExit(CANT_RUN)

    def line(self, what: str, **figures: Any) -> None:
        """Add a result; written at once, so that it is there if the part is cut off."""
        if self._machine is None:
            self._machine = machine()
            self._append({"what": "machine", **self._machine})
        self._append({"what": what, **figures})

    @contextmanager
    def case(self, what: str, **names: Any) -> Iterator[None]:
        """One case of several: if it fails, its error is a line, and the part goes on."""
        try:
            yield
        except ImportError as error:
            self.line(what, **names, not_measured=f"not installed: {error}")
        except Exception as error:
            text = [line.strip() for line in str(error).splitlines() if line.strip()]
            self.line(what, **names, failed=f"{type(error).__name__}: {' | '.join(text[:2] + text[2:][-2:])}"[:800])

    def _append(self, line: dict[str, Any]) -> None:
        with self.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


def machine() -> dict[str, Any]:
    """GPU, memory, Python and versions of packages."""
    import platform

    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "packages": {p: _version(p) for p in PACKAGES}}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_gib": round(properties.total_memory / 2**30, 1)}
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
