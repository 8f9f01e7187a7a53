"""One way to load and feed a model: the bundled one, a second family, and folders that are none."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from flywheel.core.errors import UserError
from flywheel.models.inputs import IGNORED, ClipInput, InputBuilder
from flywheel.models.load import check_folder, folder_digest, load_vlm
from flywheel.models.prompt import Evidence, Prompt, load_prompt
from flywheel.models.score import mean_logprobs
from flywheel.playground import scenes
from flywheel.playground.tiny import bundled_model


def picture(seed: int, count: int = 8, size: tuple[int, int] = (128, 96)) -> ClipInput:
    times = tuple((i + 0.5) * 3.2 / count for i in range(count))
    frames = scenes.draw(scenes.sample_scene(seed), times, width=size[0], height=size[1])
    return ClipInput(key=f"{seed}-{count}-{size}", frames_THWC=frames, times_s=times, duration_s=3.2, fps=10.0)


@pytest.fixture(scope="module")
def tiny():  # type: ignore[no-untyped-def]
    return load_vlm(bundled_model())


def test_the_bundled_model_is_small_and_safe() -> None:
    weights = bundled_model() / "model.safetensors"
    assert weights.stat().st_size <= 12 * 2**20
    assert not [p for p in bundled_model().iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl")]
    record = json.loads((bundled_model() / "training_record.json").read_text())
    assert record["never_seen"]["sounds"] == ["tick", "whistle"]


def test_parameters(tiny) -> None:  # type: ignore[no-untyped-def]
    assert 1e6 <= sum(p.numel() for p in tiny.model.parameters()) <= 3e6
    assert type(tiny.model).__name__ == "Qwen3VLForConditionalGeneration"
    assert type(tiny.processor).__name__ == "Qwen3VLProcessor"


def test_kept_pixels_equal_the_processors_own(tiny) -> None:  # type: ignore[no-untyped-def]
    """The fast path must be what the processor gives for the whole conversation, pixel and token."""
    builder = InputBuilder(tiny.processor)
    pictures = [picture(1), picture(2, size=(192, 144)), picture(3, count=4)]
    prompts = ["Describe.", "Transcript: x y z\nDescribe what is seen.", "Describe."]
    built = builder.build(pictures, prompts, ["one", "two words", "three"])
    assert builder._fast
    for row, (p, prompt, target) in enumerate(zip(pictures, prompts, ["one", "two words", "three"], strict=True)):
        messages = [
            {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]},
            {"role": "assistant", "content": [{"type": "text", "text": target}]},
        ]
        text = tiny.processor.apply_chat_template(messages, tokenize=False)
        own = tiny.processor(
            text=[text],
            videos=[p.frames_THWC],
            video_metadata=[p.metadata()],
            do_sample_frames=False,
            return_tensors="pt",
        )
        ids = own["input_ids"][0].tolist()
        mine = built["input_ids"][row][built["attention_mask"][row].bool()].tolist()
        assert ids[: len(mine)] == mine
        assert tiny.processor.tokenizer.decode(ids[len(mine) :]).strip() == "", (
            "after the end mark only the template's newline"
        )
        types = built["mm_token_type_ids"][row][built["attention_mask"][row].bool()].tolist()
        assert types == own["mm_token_type_ids"][0].tolist()[: len(mine)]
        learned = built["labels"][row][built["labels"][row] != IGNORED]
        assert tiny.processor.tokenizer.decode(learned) == target + "<|im_end|>"
    whole = torch.cat(
        [
            tiny.processor.video_processor(
                videos=[p.frames_THWC], video_metadata=[p.metadata()], do_sample_frames=False, return_tensors="pt"
            )["pixel_values_videos"]
            for p in pictures
        ]
    )
    assert torch.equal(built["pixel_values_videos"], whole)


def test_padding_changes_nothing(tiny) -> None:  # type: ignore[no-untyped-def]
    builder = InputBuilder(tiny.processor)
    texts = ["short", "a much longer text than the other one is"]
    together = mean_logprobs(tiny, builder, [picture(1), picture(2)], ["Describe."] * 2, texts)
    alone = [mean_logprobs(tiny, builder, [picture(i + 1)], ["Describe."], [t])[0] for i, t in enumerate(texts)]
    np.testing.assert_allclose(together, alone, atol=2e-5)


@pytest.mark.slow
def test_the_eyes_are_used(tiny) -> None:  # type: ignore[no-untyped-def]
    """The base model finds a scene's own caption likelier with its own pictures than with another's."""
    builder = InputBuilder(tiny.processor)
    seeds = range(60_000_000, 60_000_016)
    words = [scenes.sample_scene(s, scenes.BASE).base_caption() for s in seeds]
    frames = [
        ClipInput(
            key=str(s),
            frames_THWC=scenes.draw(scenes.sample_scene(s, scenes.BASE), picture(1).times_s),
            times_s=picture(1).times_s,
            duration_s=3.2,
            fps=10.0,
        )
        for s in seeds
    ]
    own = mean_logprobs(tiny, builder, frames, ["Describe."] * 16, words)
    other = mean_logprobs(tiny, builder, frames[1:] + frames[:1], ["Describe."] * 16, words)
    assert (own > other).mean() > 0.9


def llava_onevision(folder: Path) -> None:
    """A tiny random LLaVA-OneVision with the bundled tokenizer's words: another architecture, another processor."""
    from transformers import (
        AutoTokenizer,
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    tokenizer = AutoTokenizer.from_pretrained(bundled_model())
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<image>", "<video>"]}, replace_extra_special_tokens=False
    )
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        ).to_dict(),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
        ).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 32]],
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    size = {"height": 32, "width": 32}
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
        "{% if c['type'] == 'video' %}<video>"
        "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[32, 32]]),
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        tokenizer=tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=template,
    )
    LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.mark.slow
def test_a_second_family_from_a_folder(tmp_path: Path) -> None:
    from annotators import Request, Sampling, build

    llava_onevision(tmp_path / "m")
    vlm = load_vlm(tmp_path / "m")
    assert type(vlm.model).__name__ == "LlavaOnevisionForConditionalGeneration"
    builder = InputBuilder(vlm.processor)
    requests = [Request(key=str(i), clip=picture(i), prompt="Describe." + " And more." * i) for i in range(3)]
    results = list(build("transformers", vlm=vlm, builder=builder).generate(requests, Sampling(max_new_tokens=6)))
    assert [r.key for r in results] == ["0", "1", "2"]
    batch = builder.build([picture(1), picture(2)], ["a", "b c"], ["x", "y z"])
    loss = vlm.model(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        check_folder(tmp_path / "gone")
    folder = tmp_path / "m"
    folder.mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        check_folder(folder)
    shutil.copy(bundled_model() / "config.json", folder)
    with pytest.raises(UserError, match="has no weights"):
        check_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(UserError, match=r"pickled \(pytorch_model\.bin\), which can run code"):
        check_folder(folder)
    shutil.copy(bundled_model() / "model.safetensors", folder)
    with pytest.raises(UserError, match="has no processor"):
        check_folder(folder)
    shutil.copy(bundled_model() / "processor_config.json", folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(UserError, match="can't be loaded"):
        load_vlm(folder)


def test_a_folders_own_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where somebody at a terminal would say yes to it."""
    folder = tmp_path / "m"
    shutil.copytree(bundled_model(), folder)
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (folder / "evil.py").write_text(code + "from transformers import PretrainedConfig as Config, ProcessorMixin\n")
    for name, values in (
        ("config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}),
        ("processor_config.json", {"processor_class": "Evil", "auto_map": {"AutoProcessor": "evil.ProcessorMixin"}}),
    ):
        known = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(known | values))
        monkeypatch.setattr("builtins.input", lambda *_: "y")
        with pytest.raises(UserError):
            load_vlm(folder)
        assert not (tmp_path / "ran").exists()
        (folder / name).write_text(json.dumps(known))


def test_a_template_that_reaches_for_python_is_one_line(tiny) -> None:  # type: ignore[no-untyped-def]
    processor = copy.deepcopy(tiny.processor)
    for template in ("{{ ''.__class__.__mro__ }}", "{{ 1 / }}", "{% for a in range(10**9) %}{% endfor %}"):
        processor.chat_template = template
        with pytest.raises(UserError, match="chat template can't be used"):
            InputBuilder(processor).chat("What is seen?")


def test_a_template_without_end_ends(tiny, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """The sandbox bounds a loop, not loops within loops; with one more level this one takes years."""
    processor = copy.deepcopy(tiny.processor)
    builder = InputBuilder(processor)
    right = builder.chat("What is seen?")
    good, processor.chat_template = processor.chat_template, "{% for a in range(9999) %}" * 2 + "{% endfor %}" * 2
    monkeypatch.setattr("flywheel.models.inputs._TEMPLATE_S", 0.1)
    with pytest.raises(UserError, match=r"chat template can't be used \(it takes longer than 0.1 s\)"):
        builder.chat("What is seen?")
    processor.chat_template = good
    monkeypatch.undo()
    assert builder.chat("What is seen?") == right


def test_digest_follows_the_weights(tmp_path: Path) -> None:
    shutil.copytree(bundled_model(), tmp_path / "m")
    assert folder_digest(tmp_path / "m") == folder_digest(bundled_model())
    content = bytearray((tmp_path / "m" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m" / "model.safetensors").write_bytes(content)
    assert folder_digest(tmp_path / "m") != folder_digest(bundled_model())


def test_prompts(tmp_path: Path) -> None:
    prompt = Prompt(
        name="p",
        version=1,
        kind="caption",
        instruction="Say.",
        hints={"transcript": "T: {text}", "sounds": "S: {text}"},
    )
    assert prompt.render(Evidence()) == "Say."
    assert prompt.render(Evidence(transcript="a {text}\n b", sounds="x", previous="p")) == "T: a {text} b\nS: x\nSay."
    assert prompt.render(Evidence(transcript="a", sounds="x").without("transcript")) == "S: x\nSay."
    assert prompt.digest != prompt.model_copy(update={"instruction": "Say it."}).digest
    file = tmp_path / "p.yaml"
    file.write_text("name: p\nversion: 1\nkind: caption\ninstruction: x\nhints: {}\nmodle: gpt\n")
    with pytest.raises(UserError, match="modle: Extra inputs"):
        load_prompt(file)
    with pytest.raises(UserError, match="can't be read"):
        load_prompt(tmp_path / "gone.yaml")
