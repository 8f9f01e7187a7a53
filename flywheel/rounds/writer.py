"""The engine that writes a round's texts: started at the first text that is to be made, proven, ended with the stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from annotators import Engine, Request, build
from flywheel.core.errors import UserError
from flywheel.core.progress import say
from flywheel.models.load import chosen_precision, load_processor
from flywheel.rounds.context import RoundContext

if TYPE_CHECKING:
    from annotators.proof import Canary, Proof


class Writer:
    """M_``by`` behind the configured engine. Several passes of one stage share it, so a large model is loaded once for all kinds of text."""

    def __init__(self, context: RoundContext, by: int) -> None:
        self.by = by
        self.proof: Proof | None = None
        self._context = context
        self._engine: Engine | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def engine(self, canary_requests: Callable[[], Sequence[Request]]) -> Engine:
        """The engine, started and, where it has an adapter, proven on these requests if it is not yet. Raises ProofFailed where its adapter can't be proven
        to write."""
        if self._engine is None:
            self._engine, self.proof = _start(self._context, self.by, canary_requests)
        return self._engine


def _start(
    context: RoundContext, by: int, canary_requests: Callable[[], Sequence[Request]]
) -> tuple[Engine, Proof | None]:
    from annotators import proof

    settings = context.config.annotate
    if settings.engine == "fake":
        return build("fake", batch_size=settings.batch_size, **settings.options), None
    model, adapter = context.checkpoint(by)
    known: list[Canary] = []
    if adapter is not None:
        vlm = context.load(model, adapter)
        own = build("transformers", vlm=vlm, builder=context.builder(vlm.processor), batch_size=settings.batch_size)
        known = proof.canaries(vlm, context.builder(vlm.processor), canary_requests(), own)
        del vlm, own
    served = _served(context, by, model, adapter)
    precision = chosen_precision(context.config.pretrain.precision)
    if settings.engine == "transformers":
        vlm = context.load(*served)
        engine = build("transformers", vlm=vlm, builder=context.builder(vlm.processor), batch_size=settings.batch_size)
    else:
        # One model at a time has the accelerator: what the proof compares with is known by now.
        context.unload()
        options = {"dtype": {"bf16": "bfloat16", "fp32": "float32"}[precision], **settings.options}
        engine = build(
            settings.engine, model=served[0], adapter=served[1], builder=context.builder(load_processor(model)), name=f"round-{by}",
            options=options, servers=settings.servers, concurrency=settings.concurrency, timeout_s=settings.timeout_s,
            patience_s=settings.patience_s, sound=context.config.corpus.sound,
        )  # fmt: skip
    if not known:
        return engine, None
    try:
        # The worst of them is what goes on record.
        found = max(
            (proof.prove(part, known, settings.tolerance or proof.TOLERANCE[precision]) for part in engine.parts()),
            key=lambda p: p.to_adapter,
        )
    except BaseException:
        engine.close()
        raise
    say(
        f"adapter proven on {found.tokens} tokens: {found.to_adapter:.1e} nats from it, {found.to_base:.2g} from the base"
    )
    return engine, found


def _served(context: RoundContext, by: int, model: Path, adapter: Path | None) -> tuple[Path, Path | None]:
    if context.config.annotate.serve == "adapter" or adapter is None:
        return model, adapter
    merged = context.workspace.model_folder(by) / "merged"
    if not merged.is_dir():
        raise UserError(
            f"annotate.serve 'merged': {merged} is not there. Set finetune.merge to write it, or serve the adapter."
        )
    return merged, None
