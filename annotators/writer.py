"""The engine of one model: started when it is first needed, proven, and ended with the pass or the stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from annotators.engines import builder_of, takes_a_model
from annotators.executors import Executor, Local
from annotators.interface import Engine, Request, Result, Sampling, failed
from flywheel.core.config import MAIN, Model
from flywheel.core.errors import ProofFailed, UserError
from flywheel.core.progress import say
from flywheel.models.load import NO_INPUT, chosen_precision, folder_digest, load_processor
from flywheel.models.loader import Loader
from flywheel.models.merged import is_made_of

if TYPE_CHECKING:
    from annotators.canaries import Canary
    from annotators.hearing import HearingProof
    from annotators.proof import Proof


@dataclass(frozen=True, kw_only=True)
class AskedModel:
    """A model that can be asked: its files and how it is run.

    ``name`` is for engines that name adapters; ``merged`` the folder of merged weights where there may be one;
    ``inputs`` the media that requests bring (``frames``, ``sound``).
    """

    role: str = MAIN
    name: str = "base"
    folder: Path
    adapter: Path | None = None
    merged: Path | None = None
    settings: Model = field(default_factory=Model)
    inputs: frozenset[str] = frozenset({"frames"})
    #: What asks for these inputs, for the error of a model that can't take one.
    inputs_from: str = ""

    def digests(self) -> tuple[str, str]:
        """Hashes of the weights and of the adapter (empty without one), as generations have them.

        An engine that runs no model gives its own name and no adapter.
        """
        if not takes_a_model(self.settings.engine):
            return self.settings.engine, ""
        return folder_digest(self.folder), folder_digest(self.adapter) if self.adapter is not None else ""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings by which another process builds an engine; nothing is loaded yet.

    ``plain``: without the adapter, which changes nothing.
    """

    model: AskedModel
    batch_size: int
    plain: bool = False

    def build(self) -> Engine:
        """The engine. Raises UserError or BorderError where it can't be built there."""
        writer = Writer(self.model, Loader(), batch_size=self.batch_size)
        writer._plain = self.plain
        return writer._built_here()


#: How canaries are written where nobody says how texts are.
_CANARIES_SAMPLING = Sampling(max_new_tokens=64)


class _Unproven:
    """Stands for an engine where none of the requests could be read: what is readable after all must wait its turn."""

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Result]:
        for request in requests:
            yield failed(request, "no clip beside it could be read, so the model could not be proven")

    def parts(self) -> list[_Unproven]:
        return [self]

    def close(self) -> None:
        pass


class Writer:
    """A model behind its engine.

    Passes of one stage share it, so a large model is loaded once for all kinds of text.
    """

    def __init__(self, model: AskedModel, loader: Loader, *, batch_size: int, executor: Executor | None = None) -> None:
        self.model = model
        self.executor: Executor = executor or Local()
        #: The proofs that were made, for parts of the engine that are started anew.
        self._checks: list[Callable[[Engine], object]] = []
        self.proof: Proof | None = None
        self.hearing: HearingProof | None = None
        self._loader, self._batch_size = loader, batch_size
        self._engine: Engine | None = None
        #: The adapter is left out: it changes nothing.
        self._plain = False
        self._tokenizer: Any = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def tokenizer(self) -> Any:
        """The model's tokenizer; None where the engine runs no model of ours."""
        if not takes_a_model(self.model.settings.engine):
            return None
        if self._tokenizer is None:
            processor = load_processor(self.model.folder, self.model.inputs)
            self._tokenizer = getattr(processor, "tokenizer", processor)
        return self._tokenizer

    def check(self) -> None:
        """Find what is wrong with the engine and what the model is to be given; loads a processor and no weights.

        Raises UserError.
        """
        self._check_options()
        if takes_a_model(self.model.settings.engine):
            self._check_inputs()

    def engine(
        self, canary_requests: Callable[[], Iterable[Request]], sampling: Sampling = _CANARIES_SAMPLING
    ) -> Engine:
        """The engine, started at the first call and, where it has an adapter, proven on some of these requests.

        Where the adapter changes nothing that could be seen, merged weights that are known by their digest write, or
        the base does; ``proof`` says so. One that is given sound must be seen to hear it, in texts of ``sampling``;
        ``hearing`` says so. Raises ProofFailed where the engine writes something else than the adapter, or does not
        hear, UserError for a model that can't take the inputs.
        """
        if self._engine is None:
            engine = self._started(canary_requests) if takes_a_model(self.model.settings.engine) else self._built()
            if engine is not None and "sound" in self.model.inputs:
                engine = self._hearing(engine, canary_requests, sampling)
            self._engine = engine
        return self._engine if self._engine is not None else _Unproven()

    def _hearing(
        self, engine: Engine, canary_requests: Callable[[], Iterable[Request]], sampling: Sampling
    ) -> Engine | None:
        """The engine, seen to hear; None where no canary can be read. Raises ProofFailed where a part does not."""
        from annotators.ear_canaries import ear_canaries
        from annotators.hearing import Ears, prove_hearing

        try:
            lots = ear_canaries(canary_requests())
            if not lots:
                engine.close()
                return None

            def heard(part: Engine) -> HearingProof:
                proof = prove_hearing(part, lots, sampling)
                if proof.ears is not Ears.HEARS:
                    raise ProofFailed(f"{self.model.name} ({self.model.folder}): {proof}")
                return proof

            proofs = [heard(part) for part in engine.parts()]
            self.hearing = min(proofs, key=lambda proof: proof.muted + proof.foreign)
            self._checks.append(heard)
        except BaseException:
            engine.close()
            raise
        say(f"{self.model.name}: {self.hearing}")
        return engine

    def _started(self, canary_requests: Callable[[], Iterable[Request]]) -> Engine | None:
        """The engine; None where no canary can be read."""
        self._check_inputs()
        if self.model.adapter is None:
            return self._built()
        from annotators import proof

        tolerance = self.model.settings.tolerance
        canaries = self._canaries(canary_requests)
        if not canaries:
            return None
        found = proof.unseen(canaries, tolerance)
        if found is None:
            engine = self._built()
            try:
                found = self._proven(engine, canaries)
            except BaseException:
                engine.close()
                raise
            if found.verdict is proof.Verdict.PROVEN:
                self._checks.append(lambda part: self._proven_again(part, canaries))
                self.proof = replace(found, wrote=self.model.settings.serve)
                say(str(found))
                return engine
            engine.close()
        return self._without_adapter(found)

    def _without_adapter(self, found: Proof) -> Engine:
        """An engine on weights that need no proof."""
        model = self.model
        merged = model.settings.serve == "merged" and is_made_of(model.merged, model.folder, model.adapter)
        self.proof = replace(found, wrote="merged" if merged else "base")
        what = "the merged weights write, known by their digest" if merged else "the base writes without it"
        say(f"{model.name}: {found}: {what}.")
        self._plain = not merged
        return self._built()

    def _check_inputs(self) -> None:
        try:
            load_processor(self.model.folder, self.model.inputs)
        except UserError as error:
            if self.model.inputs_from and error.code == NO_INPUT:
                raise UserError(f"{self.model.inputs_from}: {error}", code=NO_INPUT) from error
            raise

    def _canaries(self, canary_requests: Callable[[], Iterable[Request]]) -> list[Canary]:
        """Texts that transformers and PEFT write with the adapter, with their log-probs with it and without."""
        from annotators.canaries import canaries

        model = self.model
        vlm = self._loader.load(model.folder, model.adapter, precision=model.settings.precision, inputs=model.inputs)
        builder = self._loader.builder(vlm.processor, model.role)
        own = builder_of("transformers")(vlm=vlm, builder=builder, batch_size=self._batch_size)
        return canaries(vlm, builder, canary_requests(), own)

    def _proven(self, engine: Engine, canaries: Sequence[Canary]) -> Proof:
        """The least good of the proofs of all parts. Raises ProofFailed where one is refuted."""
        from annotators import proof

        found = [proof.prove(part, canaries, self.model.settings.tolerance) for part in engine.parts()]
        for verdict in (proof.Verdict.REFUTED, proof.Verdict.UNSEEN):
            if worst := next((p for p in found if p.verdict is verdict), None):
                if verdict is proof.Verdict.REFUTED:
                    raise ProofFailed(str(worst))
                return worst
        # The worst of them is what goes on record.
        return max(found, key=lambda p: p.to_adapter or 0.0)

    def _proven_again(self, part: Engine, canaries: Sequence[Canary]) -> None:
        """Raise ProofFailed where a part that was started anew can't be shown to write with the adapter."""
        from annotators import proof

        found = proof.prove(part, canaries, self.model.settings.tolerance)
        if found.verdict is not proof.Verdict.PROVEN:
            raise ProofFailed(str(found))

    def _built(self) -> Engine:
        """The engine, where the executor has it."""
        self._check_options()
        recipe = Recipe(model=self.model, batch_size=self._batch_size, plain=self._plain)
        return self.executor.engine(recipe, self._built_here, self._checks)

    def _built_here(self) -> Engine:
        """The engine by its name, with those arguments of ours that it takes."""
        settings = self.model.settings
        takes = self._check_options()
        arguments = self._arguments(takes)
        if "options" not in takes:
            # An engine's own arguments, for one that takes them one by one.
            arguments |= settings.options
        engine: Engine = builder_of(settings.engine)(**arguments)
        return engine

    def _check_options(self) -> Mapping[str, inspect.Parameter]:
        """The arguments that the engine takes. Raises UserError for options that it does not take."""
        settings = self.model.settings
        takes = inspect.signature(builder_of(settings.engine)).parameters
        named = [n for n, p in takes.items() if p.kind is not p.VAR_KEYWORD]
        if "options" not in takes and (unknown := sorted(set(settings.options) - set(named))):
            raise UserError(
                f"models.{self.model.role}.options.{unknown[0]}: engine '{settings.engine}' takes no such "
                f"argument. It takes {', '.join(named) or 'none'}."
            )
        return takes

    def _arguments(self, takes: Any) -> dict[str, Any]:
        model, settings = self.model, self.model.settings
        offered: dict[str, Any] = {
            "batch_size": self._batch_size,
            "name": model.name,
            "servers": settings.servers,
            "concurrency": settings.concurrency,
            "timeout_s": settings.timeout_s,
            "patience_s": settings.patience_s,
            "api_key_env": settings.api_key_env,
            "inputs": model.inputs,
        }
        if not takes_a_model(settings.engine):
            offered["options"] = settings.options
            return {name: value for name, value in offered.items() if name in takes}
        folder, adapter = self._served()
        if "vlm" in takes:
            vlm = self._loader.load(folder, adapter, precision=settings.precision, inputs=model.inputs)
            offered |= {"vlm": vlm, "builder": self._loader.builder(vlm.processor, model.role)}
        else:
            # One model at a time has the accelerator: what the proof compares with is known by now.
            self._loader.unload()
            dtype = {"bf16": "bfloat16", "fp32": "float32"}[chosen_precision(settings.precision)]
            offered |= {"model": folder, "adapter": adapter, "options": {"dtype": dtype, **settings.options}}
            if "builder" in takes:
                processor = load_processor(model.folder, model.inputs)
                offered["builder"] = self._loader.builder(processor, model.role)
        return {name: value for name, value in offered.items() if name in takes}

    def _served(self) -> tuple[Path, Path | None]:
        """The folders that the engine is given: weights and adapter, or the merged weights alone."""
        model = self.model
        if self._plain:
            return model.folder, None
        if model.settings.serve == "adapter" or model.adapter is None:
            return model.folder, model.adapter
        if model.merged is None or not model.merged.is_dir():
            raise UserError(
                f"models.{model.role}.serve 'merged': {model.merged} is not there. "
                "Set finetune.merge to write it, or serve the adapter."
            )
        return model.merged, None
