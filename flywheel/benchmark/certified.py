"""A built benchmark is certified in its folder: certificates and the kept items are written beside its items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from annotators.writer import AskedModel
from flywheel.benchmark.building import ITEMS, read_rows
from flywheel.benchmark.certifying import ALL_WAYS, Certified, certify
from flywheel.benchmark.items import Item, Rejected
from flywheel.benchmark.oracle import oracle
from flywheel.benchmark.panel import HowAsked, Panel
from flywheel.benchmark.programs import Program
from flywheel.benchmark.reading import read
from flywheel.benchmark.wording import folded
from flywheel.core.errors import UserError
from flywheel.core.files import written_whole
from flywheel.core.types import Estimate
from flywheel.metrics.intervals import clustered_estimate
from flywheel.models.loader import Loader
from flywheel.playground.timeline import read_timelines

CERTIFICATES, KEPT = "certificates.jsonl", "certified.jsonl"
BY_MODELS, KEPT_BY_MODELS = "certificates-by-models.jsonl", "certified-by-models.jsonl"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class FolderCertified:
    """What certificates say: the shares that are ``kept`` and ``solved``, each way's accuracy, and twins.

    ``agree`` is the share of certificates that say what each question's own steps need, None where no steps are known;
    ``by_model`` each model's accuracy by way; ``rejected`` are items that could not be asked in some way.
    """

    items: int
    kept: Estimate
    solved: Estimate
    by_way: Mapping[str, Estimate]
    twins: Estimate
    agree: Estimate | None
    reasons: Mapping[str, int]
    by_model: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    rejected: Sequence[Rejected] = ()

    def lines(self) -> list[str]:
        """The result in lines."""
        ways = [f"  {way}: {part.value:.1%}" for way, part in self.by_way.items()]
        why = [f"  {count} {reason}" for reason, count in self.reasons.items()]
        first = f"{_said(self.kept)} of {self.items} questions need sound and picture; answered rightly by way:"
        lines = [first, *ways, f"solved with both: {_said(self.solved)}"]
        if self.twins.n:
            lines.append(f"twins both right: {self.twins.value:.1%}")
        if self.rejected:
            lines.append(f"{len(self.rejected)} could not be asked, such as:")
            lines += [f"  {reject.place}: {reject.reason}" for reject in self.rejected[:_SHOWN]]
        return [*lines, *(["not kept:", *why] if why else [])]


def _said(part: Estimate) -> str:
    return f"{part.value:.1%} ({part.low:.1%} to {part.high:.1%})"


def certify_folder(folder: Path, *, turns: int = 2, seed: int = 0) -> FolderCertified:
    """Certify the items of a built benchmark by who knows its videos; writes ``certificates.jsonl``, and the kept items
    as ``certified.jsonl``. Raises UserError for a folder that holds no built benchmark."""
    rows, videos = read_rows(folder), read_timelines(folder)
    items = read(folder / ITEMS, "flywheel").items
    twins = {row["id"]: row["twin"] for row in rows}
    found = certify(items, [oracle(rows, videos)], twins, turns=turns, seed=seed, left_out=duplicates(items))
    _write(folder / CERTIFICATES, folder / KEPT, rows, found)
    return _summary(items, rows, found)


def certify_by_models(
    source: Path,
    format: str,
    models: Sequence[AskedModel],
    verifier: AskedModel | None,
    how: HowAsked,
    loader: Loader,
    records: Path,
) -> FolderCertified:
    """Certify the items of a benchmark's file, or folder, by what models answer in each way.

    Writes ``certificates-by-models.jsonl`` beside the items, and those that are kept as ``certified-by-models.jsonl``
    where the format is our own. Raises UserError and ProofFailed as :meth:`flywheel.benchmark.panel.Panel.ask`.
    """
    questions = read(source, format)
    closed = [item for item in questions.items if not item.is_open]
    if not closed:
        raise UserError(f"{source}: none of {questions.count} items has options, and only such can be certified.")
    panel = Panel(closed, how, loader, records)
    panel.ask(models, verifier)
    rows = read_rows(source) if format == "flywheel" else []
    twins = {row["id"]: row.get("twin", "") for row in rows}
    options: dict[str, Any] = {"turns": how.turns, "seed": how.seed, "ways": ALL_WAYS}
    found = certify(
        closed,
        [panel.solver(model) for model in models],
        twins,
        verifier=panel.solver(verifier) if verifier is not None else None,
        left_out=duplicates(closed),
        **options,
    )
    folder = source if source.is_dir() else source.parent
    _write(folder / BY_MODELS, folder / KEPT_BY_MODELS if rows else None, rows, found)
    by_model = {
        model.role: certify(closed, [panel.solver(model)], {}, **options).by_way for model in models if len(models) > 1
    }
    open_ones = [Rejected(place=item.id, reason="is an open question") for item in questions.items if item.is_open]
    return replace(
        _summary(closed, rows, found),
        by_model=by_model,
        rejected=[*questions.rejected, *open_ones, *panel.rejected],
    )


def duplicates(items: Sequence[Item]) -> dict[str, str]:
    """Reasons by id for items that ask what an item before them asks: the same words of the same video's part."""
    first, reasons = dict[object, str](), dict[str, str]()
    for item in items:
        options = frozenset(folded(option) for option in item.options)
        before = first.setdefault((item.medium, item.span_s, folded(item.question), options), item.id)
        if before != item.id:
            reasons[item.id] = f"asks what {before} asks"
    return reasons


def _summary(items: Sequence[Item], rows: Sequence[Mapping[str, Any]], found: Certified) -> FolderCertified:
    needed = {row["id"]: len(Program(**row["program"]).needs) == 2 for row in rows if "program" in row}
    known = [c for c in found.certificates if c.item in needed]
    videos = {item.id: item.medium for item in items}
    agreed = [float(c.kept == needed[c.item]) for c in known]
    reasons = [c.reason for c in found.certificates if not c.kept]
    return FolderCertified(
        items=len(items),
        kept=found.kept,
        solved=found.solved,
        by_way=found.by_way,
        twins=found.twins,
        agree=clustered_estimate(agreed, [videos[c.item] for c in known]) if known else None,
        reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


def _write(certificates: Path, kept: Path | None, rows: Sequence[Mapping[str, Any]], found: Certified) -> None:
    ids = {certificate.item for certificate in found.certificates if certificate.kept}
    with written_whole(certificates) as part:
        part.write_text("".join(json.dumps(asdict(c)) + "\n" for c in found.certificates), encoding="utf-8")
    if kept is not None:
        with written_whole(kept) as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in rows if row["id"] in ids), encoding="utf-8")
