"""A built benchmark is certified in its folder: certificates and the kept items are written beside its items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from flywheel.benchmark.building import ITEMS, read_rows
from flywheel.benchmark.certifying import Certified, certify
from flywheel.benchmark.oracle import oracle
from flywheel.benchmark.programs import Program
from flywheel.benchmark.reading import read
from flywheel.core.files import written_whole
from flywheel.core.types import Estimate
from flywheel.metrics.intervals import clustered_estimate
from flywheel.playground.timeline import read_timelines

CERTIFICATES, KEPT = "certificates.jsonl", "certified.jsonl"


@dataclass(frozen=True, kw_only=True)
class FolderCertified:
    """What a folder's certificates say: the ``kept`` share, each way's accuracy, twins, and how many ``agree`` with
    what each question's own steps need."""

    items: int
    kept: Estimate
    by_way: Mapping[str, Estimate]
    twins: Estimate
    agree: Estimate
    reasons: Mapping[str, int]

    def lines(self) -> list[str]:
        """The result in lines."""
        ways = [f"  {way}: {part.value:.1%}" for way, part in self.by_way.items()]
        why = [f"  {count} {reason}" for reason, count in self.reasons.items()]
        first = f"{self.kept.value:.1%} of {self.items} questions need sound and picture; answered rightly by way:"
        return [first, *ways, f"twins both right: {self.twins.value:.1%}", *(["not kept:", *why] if why else [])]


def certify_folder(folder: Path, *, turns: int = 2, seed: int = 0) -> FolderCertified:
    """Certify the items of a built benchmark by who knows its videos; writes ``certificates.jsonl``, and the kept items
    as ``certified.jsonl``. Raises UserError for a folder that holds no built benchmark."""
    rows, videos = read_rows(folder), read_timelines(folder)
    items = read(folder / ITEMS, "flywheel").items
    twins = {row["id"]: row["twin"] for row in rows}
    found = certify(items, [oracle(rows, videos)], twins, turns=turns, seed=seed)
    _write(folder, rows, found)
    needed = {row["id"]: len(Program(**row["program"]).needs) == 2 for row in rows}
    agreed = [float(c.kept == needed[c.item]) for c in found.certificates]
    reasons = [c.reason for c in found.certificates if not c.kept]
    return FolderCertified(
        items=len(items),
        kept=found.kept,
        by_way=found.by_way,
        twins=found.twins,
        agree=clustered_estimate(agreed, [item.medium for item in items]),
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


def _write(folder: Path, rows: list[dict[str, object]], found: Certified) -> None:
    kept = {certificate.item for certificate in found.certificates if certificate.kept}
    with written_whole(folder / CERTIFICATES) as part:
        part.write_text("".join(json.dumps(asdict(c)) + "\n" for c in found.certificates), encoding="utf-8")
    with written_whole(folder / KEPT) as part:
        part.write_text("".join(json.dumps(row) + "\n" for row in rows if row["id"] in kept), encoding="utf-8")
