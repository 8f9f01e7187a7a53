"""Any model can be asked anything: a text model, a model that only hears, and several models in one round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from annotators.asking import ask
from annotators.tasks import Asking, Task
from flywheel.core.errors import UserError
from flywheel.ingest import ingest
from flywheel.models.load import inputs_of, load_processor, load_vlm
from flywheel.playground.tiny import bundled_model
from flywheel.rounds import RoundContext
from flywheel.rounds.stages.annotate import write
from flywheel.store import Workspace
from tests.models.tiny_omni import tiny_omni

Make = Callable[..., Workspace]
SHORT = ("annotate.max_new_tokens=6", "annotate.max_tries=1", "corpus.test_share=0.7", "annotate.batch_size=4")


def prompt_file(folder: Path, name: str, lines: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(f"name: {name}\nversion: 1\nkind: tags\ninstruction: What is it?\nhints: {{}}\n{lines}\n")
    return file


def filled(make_workspace: Make, corpus: Path, *overrides: str) -> RoundContext:
    w = make_workspace(*SHORT, *overrides)
    with w.lock():
        ingest(w, [str(corpus / "corpus")])
    return RoundContext(w)


def text_model(folder: Path) -> Path:
    """A tiny random language model with the bundled tokenizer."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(bundled_model())
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_text_model_is_asked_about_texts(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """A judge of texts: no media, a model without a processor, tasks that the caller makes."""
    folder = text_model(tmp_path / "llm")
    file = prompt_file(tmp_path, "judge", "inputs: []\nmodel: judge")
    context = filled(make_workspace, corpus, f"models.judge.folder={folder}", f"annotate.also=[{file}]")
    prompt = context.extra_prompts[0]
    clips = list(context.split("test"))[:3]
    tasks = [Task(clip_id=c.id, uri=c.uri, prompt=f"{c.transcript} {prompt.instruction}") for c in clips]
    asking = Asking.of(context.config.annotate, prompt, keep_unhealthy=True)
    before = context.workspace.cache.decodes
    with context.workspace.lock(), context.writer(prompt, 0) as writer:
        result = ask(context.workspace, tasks, writer, prompt, round=1, asking=asking)
        again = ask(context.workspace, tasks, writer, prompt, round=1, asking=asking)
    assert result.generated == 3
    assert result.written + result.rejected == 3
    assert again.generated == 0, "each key once"
    assert context.workspace.cache.decodes == before, "a question about text decodes nothing"
    models = set(context.workspace.generations()["model"])
    assert models == {load_vlm(folder, inputs=()).digest}


@pytest.mark.slow
def test_a_describer_that_only_hears(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    """A prompt file and a models entry: the main model sees, the other one hears, in one stage."""
    omni = tiny_omni(tmp_path / "omni")
    file = prompt_file(tmp_path, "ears", "inputs: [sound]\nmodel: ears")
    context = filled(
        make_workspace, corpus, "models.main.engine=fake", f"models.ears.folder={omni}", f"annotate.also=[{file}]"
    )
    clip = next(iter(context.split("train")))
    heard = context.input(clip, ("sound",))
    assert heard.frames_THWC is None
    assert heard.sound is not None
    with context.workspace.lock():
        write(context, 1, limit=2)
    made = context.workspace.generations()
    assert made.filter(made["model"] == "fake").height == 2
    by_ears = made.filter(made["model"] != "fake")
    assert by_ears.height == 2
    assert by_ears["logprobs"][0].to_list() != by_ears["logprobs"][1].to_list(), "two clips sound differently"


@pytest.mark.slow
def test_a_deaf_model_is_not_asked_what_it_hears(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    assert inputs_of(load_processor(bundled_model())) == {"frames"}
    file = prompt_file(tmp_path, "ears", "inputs: [sound]")
    context = filled(make_workspace, corpus, f"annotate.also=[{file}]", "annotate.prompt=caption")
    with context.workspace.lock(), pytest.raises(UserError, match=r"prompt 'ears' \(models\.main\): .* takes no audio"):
        context.ask(context.split("train")[:1], by=0, round=1, prompt=context.extra_prompts[0])
    assert context.workspace.generations().is_empty()
    assert context.workspace.rejected().is_empty(), "nothing half done"


@pytest.mark.slow
def test_a_prompt_that_asks_a_model_that_there_is_not(make_workspace: Make, corpus: Path, tmp_path: Path) -> None:
    file = prompt_file(tmp_path, "judge", "inputs: []\nmodel: judge")
    with pytest.raises(UserError, match=r"models\.judge: is missing, and prompt judge asks for it"):
        filled(make_workspace, corpus, f"annotate.also=[{file}]")


@pytest.mark.slow
def test_one_bad_file_is_one_reject(make_workspace: Make, corpus: Path) -> None:
    """Whatever reading one clip raises, the pass goes on."""
    context = filled(make_workspace, corpus, "models.main.engine=fake", "corpus.most_unreadable=1")
    original = context.reader

    def broken(clip: object, inputs: object = None) -> object:
        if getattr(clip, "id", "") == first.id:
            raise ZeroDivisionError("a file like no other")
        return original(clip, inputs)  # type: ignore[arg-type]

    first = next(iter(context.split("train")))
    context.reader = broken  # type: ignore[assignment]
    with context.workspace.lock():
        result = context.ask(context.split("train"), by=0, round=1)
    assert (result.rejected, result.written) == (1, len(context.split("train")) - 1)
    assert "ZeroDivisionError: a file like no other" in context.workspace.rejected()["reason"][0]
