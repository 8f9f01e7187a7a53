"""The table of the first hour: what each line says is held by a test or a page that is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_said_to_hold_each_line_is_there() -> None:
    text = (ROOT / "experiments" / "first_hour" / "README.md").read_text()
    lines = re.findall(r"^\| (.+?) \| ([ABC]) \| (.+?) \| (\S+) \|$", text, re.M)
    assert len(lines) == text.count("\n| ") - 3, "each line is whole, but for the heads"
    missing = []
    for stumble, _, _, held in lines:
        file, _, test = held.partition("::")
        if not (ROOT / file).is_file() or (test and f"def {test}(" not in (ROOT / file).read_text()):
            missing.append((stumble, held))
    assert missing == []
    seen = {int(n) for stumble, *_ in lines for n in re.findall(r"\bR(\d+)\b", stumble)}
    assert seen == set(range(1, 23)), "the page's stumbles are R1 to R22"
