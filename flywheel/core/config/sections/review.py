"""What people are shown, in which order and how often."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section


class Review(Section):
    wait_for: int = Field(0, ge=0, description="corrections of this round's texts before it goes on; 0 goes on without")
    max_chars: int = Field(4000, ge=1, description="longest text that a correction may have")
    random_share: float = Field(
        0.5, ge=0, le=1, description="share of the queue's training clips that are drawn at random"
    )
    order: tuple[str, ...] = Field(
        ("doubt", "change"),
        min_length=1,
        description=(
            "what brings the others forward, in turns: the model's doubt (log-prob), change since the last round's "
            "text, noise suspected in training, novelty (far from what people saw, by the base model's embedding) or "
            "novelty_by_index (by the vectors of `flywheel index`)"
        ),
    )
    overlap_share: float = Field(
        0.05, ge=0, le=1, description="share of texts that the page shows to two people, to measure how far they agree"
    )
    compare: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "share of what a refiner sees that is a pair: an anchor clip's captions of the newest round and of the "
            "model that it is tested against, to say which is better, without a word on which is which"
        ),
    )
    compare_train: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "share of the pairs of `compare` that are train clips' captions of two rounds: the gate never counts them, "
            "`finetune.method: dpo` and `sft+dpo` learn from them"
        ),
    )
    gold_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description=(
            "share of what a refiner sees that is gold, where there is any (`flywheel gold`): its right text is known"
        ),
    )
    gold_right_f1: float = Field(
        0.7,
        gt=0,
        le=1,
        description=(
            "word F1 with gold from which on a refiner's text counts as right; "
            "of free text lower than of a fixed wording"
        ),
    )
    blind_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of captions that a person writes before the model's is shown, against being swayed by it",
    )
    blind_anchors: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "the same share of the anchors' captions, where it is larger: what people write there is what models are "
            "tested against, and a text that was edited favours whoever wrote it"
        ),
    )
    lease_s: float = Field(
        600.0, gt=0, description="seconds for which a clip is one refiner's; the open page renews it"
    )
    proxies_gib: float = Field(
        5.0, gt=0, description="size cap of the copies made for browsers; the least looked at go"
    )
    upload_mib: float = Field(8.0, gt=0, le=512, description="largest file of corrections that the page takes")
    daily_goal: int = Field(
        0, ge=0, description="captions that a person is to review a day, shown on the page; 0 is no goal"
    )
    guidelines: str = Field(
        "", description="text or Markdown file that the page shows as guidelines; relative paths from the workspace"
    )
    reasons: tuple[str, ...] = Field(
        (
            "about another clip",
            "wrong facts",
            "too vague",
            "repeats itself",
            "wrong language",
            "nothing can be seen or heard",
            "unsafe or private",
        ),
        max_length=20,
        description="reasons that the page offers for a reject, in this order; the first nine have the keys 1 to 9",
    )
