"""What a run of faults found, a JSON line for each; a run that was cut off goes on where it was."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

#: Groups that count apart: three hundred of one kind would hide the others.
_APART = "single bit flips in a shard"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One fault; ``wrong`` is empty where all was as it should be."""

    group: str
    fault: str
    wrong: str
    seconds: float


class Results:
    """The results in a file, the newest of each fault; lines that are cut are left out."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._results: dict[tuple[str, str], Result] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            try:
                self._put(Result(**json.loads(line)))
            except (ValueError, TypeError):
                continue

    def _put(self, result: Result) -> None:
        self._results[result.group, result.fault] = result

    def passed(self, group: str, fault: str) -> bool:
        """Whether this fault was tried and went well."""
        found = self._results.get((group, fault))
        return found is not None and not found.wrong

    def add(self, result: Result) -> None:
        """Keep a result."""
        self._put(result)
        with open(self._file, "a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(result)) + "\n")

    def failed(self) -> int:
        """How many went wrong."""
        return sum(bool(result.wrong) for result in self._results.values())

    def table(self) -> str:
        """The groups as a table, and how many failed of how many."""
        tried, failed = Counter[str](), Counter[str]()
        for result in self._results.values():
            tried[result.group] += 1
            failed[result.group] += bool(result.wrong)
        rows = [f"| {group} | {count} | {failed[group]} |" for group, count in tried.items()]
        apart = f"; {failed[_APART]} unnoticed of {tried[_APART]} bit flips" if _APART in tried else ""
        rest = f"{self.failed() - failed[_APART]} failed of {tried.total() - tried[_APART]}"
        return "\n".join(["| group | injected | failed |", "|---|---|---|", *rows, "", rest + apart])
