"""The sections of the configuration, each a frozen model whose fields' descriptions are their documentation.

Names of engines, signals, kinds and the like are plain text here: whoever builds by name checks them against its
registry, so that another package's names are as good as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flywheel.core.config.written import as_written
from flywheel.core.types import CURATE, MAX_SEED, REPAIR, ROUND_STAGES, Split

#: The role of the model that rounds improve.
MAIN = "main"
#: The linear layers of a language model, by the names that transformers' families use.
_LANGUAGE_LAYERS = r".*(language_model|text_model).*\.(q|k|v|o|gate|up|down)_proj"


class Section(BaseModel):
    """A section, checked as people write it: an empty one is as if it were left out, one text is a list of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_people_write_it(cls, value: Any, field: Any) -> Any:
        return as_written(value, cls.model_fields[str(field.field_name)])


class Corpus(Section):
    licence: str = Field("", description="licence of the videos, for the card of what is exported")
    frames: int = Field(8, ge=1, le=512, description="frames of a clip that the model sees")
    sampling: Literal["uniform", "fps"] = Field(
        "uniform", description="`uniform`: `frames` of them; `fps`: at `fps`, at most `frames`"
    )
    fps: float = Field(2.0, gt=0, description="frames per second for `sampling: fps`")
    max_side: int = Field(448, ge=32, description="longer side, in pixels, to which decoded frames are scaled down")
    split_by: Literal["none", "scene", "length"] = Field("none", description="how a video becomes clips")
    clip_len_s: float = Field(
        10.0, gt=0, description="seconds per clip for `split_by: length`, and the most a scene may last"
    )
    min_clip_len_s: float = Field(0.5, ge=0, description="shorter scenes join their neighbour")
    max_clips: int = Field(10_000, ge=1, description="a video that would become more clips is rejected")
    max_pixels: int = Field(1 << 26, ge=1, description="a video with larger pictures is rejected (8192 x 8192)")
    max_seconds: float = Field(3600.0, gt=0, description="a file that takes longer to be taken in is rejected, seconds")
    links: Literal["folders", "refuse", "follow"] = Field(
        "folders",
        description="links out of their source, which could lead to any file of this machine: `folders` follows those "
        "to folders and into stores of contents (hubs, DVC, git-annex), `refuse` none, `follow` all",
    )
    sound: bool = Field(False, description="let the model hear the clip too; for models whose processor takes audio")
    split_key: str = Field(
        "file",
        min_length=1,
        description="what stays on one side of the split: `file` (its content), `folder` (folders of one name) "
        "or a column of the source, such as `speaker`",
    )
    near_duplicates: bool = Field(
        True, description="keep videos that look alike (encoded anew, scaled, trimmed) on one side of the split too"
    )
    test_share: float = Field(0.2, ge=0, lt=1, description="share of videos in the test split")
    anchor_share: float = Field(0.1, ge=0, lt=1, description="share of videos in the anchor split")
    min_anchor_videos: int = Field(
        0,
        ge=0,
        description="anchor videos at least, where the share gives fewer: drawn by ingest before the first round, "
        "and by 'flywheel resplit'; half of the videos that are not in the test split at most",
    )
    cache_gib: float = Field(20.0, gt=0, description="most that the frame cache may hold, GiB")
    pixels_gib: float = Field(
        2.0, ge=0, description="most memory that clips' prepared pixels may take between their uses, GiB"
    )
    features_gib: float = Field(
        2.0,
        ge=0,
        description="most memory for what a frozen vision tower makes of a training's clips, GiB: kept where all of it "
        "fits, else computed at every step; 0 is never",
    )
    most_unreadable: float = Field(
        0.5, ge=0, le=1, description="share of a stage's clips that can't be read above which it stops; 1 is never"
    )

    @model_validator(mode="after")
    def _leaves_training_clips(self) -> Corpus:
        if self.test_share + self.anchor_share >= 1:
            raise ValueError("test_share and anchor_share together must stay under 1")
        return self


class Model(Section):
    folder: str = Field(
        "bundled", description="folder of the model, its id on a hub (org/name), or `bundled`: the demo model"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="`auto`: bf16 where an accelerator has it")
    engine: str = Field(
        "transformers",
        description="what runs it: transformers, vllm, openai (servers), fake, or another package's engine",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the engine, such as vLLM's max_model_len or limit_mm_per_prompt ({video: 1})",
    )
    servers: tuple[str, ...] = Field((), description="URLs of OpenAI-compatible servers, for engine openai")
    api_key_env: str = Field(
        "",
        description="environment variable that holds the servers' API key; empty is OPENAI_API_KEY, where that is set",
    )
    concurrency: int = Field(16, ge=1, description="requests at a time per server")
    timeout_s: float = Field(
        120.0, gt=0, description="seconds after which a server that does not answer counts as failed"
    )
    patience_s: float = Field(60.0, gt=0, description="seconds without any server that is well before the run stops")
    serve: Literal["adapter", "merged"] = Field(
        "adapter", description="serve the adapter beside its model, or the merged weights that finetune.merge writes"
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        description=(
            "the most (nats) that an engine's log-probs may be from the adapter's; measured if left out. "
            "For engines that compute coarser than the model's type"
        ),
    )
    price_per_hour: float = Field(0.0, ge=0, description="money per hour of engine or training, for cost and budget")
    price_per_million_in: float = Field(0.0, ge=0, description="money per million tokens read")
    price_per_million_out: float = Field(0.0, ge=0, description="money per million tokens written")


class Rounds(Section):
    stages: tuple[str, ...] = Field(
        ROUND_STAGES,
        min_length=1,
        description="stages of a round in their order; another package's stage has a section of its own name",
    )

    @field_validator("stages")
    @classmethod
    def _each_once(cls, stages: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := sorted({name for name in stages if stages.count(name) > 1}):
            raise ValueError(f"'{repeated[0]}' stands there twice")
        if missing := [name for name in ("evaluate", "gate") if name not in stages]:
            raise ValueError(f"a round needs the stage '{missing[0]}'")
        if stages[-1] != "gate":
            raise ValueError("the gate must be the last stage")
        return stages


class Transcribe(Section):
    model: str = Field(
        "", description="folder of a Whisper model for CTranslate2, for `flywheel transcribe`; empty is none"
    )
    language: str = Field("", description="what is spoken, as Whisper names it: en, de, zh; empty is found out by file")
    track: str = Field(
        "",
        description=(
            "which sound of a file with several: a language as the file writes it (eng), or a stream's number; "
            "empty, and where the file has no such sound, is the one that players choose"
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: a GPU where there is one")
    precision: Literal["auto", "float32", "float16", "bfloat16", "int8", "int8_float16", "int8_float32"] = Field(
        "auto", description="`auto`: the fastest that the device has"
    )
    beam_size: int = Field(5, ge=1, le=32, description="hypotheses that are followed; 1 is faster and less exact")
    threads: int = Field(0, ge=0, le=256, description="threads on the CPU; 0 is as many as the library takes")
    commit_files: int = Field(16, ge=1, description="finished files per commit; they wait 20 s at most")

    @field_validator("track", mode="before")
    @classmethod
    def _number_of_a_stream(cls, track: Any) -> Any:
        return str(track) if isinstance(track, int) and not isinstance(track, bool) else track


class Repair(Section):
    enabled: bool = Field(
        False, description="begin each round with the stage `repair`: clips' sounds are edited where that helps"
    )
    planner: str = Field(
        "rules",
        description="what plans edits: `rules`, `model` (a language model, role planner below `models`), the controls "
        "`random` and `nothing`, or another package's",
    )
    splits: tuple[Split, ...] = Field(
        ("train", "test", "anchor"),
        min_length=1,
        description="whose sounds are looked at; `[train]` leaves what rounds are measured on alone. What was edited "
        "before, or by `flywheel repair --clips`, stays until it is undone, also where `enabled` is false",
    )
    margin: float = Field(0.03, ge=0, le=1, description="by how much both rewards must rise for an edit to be taken")
    enough: float = Field(0.85, ge=0, le=1, description="a sound whose rewards are both so high is left alone")
    cycles: int = Field(5, ge=1, le=20, description="plans that are tried for a clip at most")
    no_plans: int = Field(
        2, ge=1, le=20, description="replies in a row that are no plans, after which a clip's search ends"
    )
    calibration_clips: int = Field(
        200, ge=4, description="clips that tell what rewards are worth here, and what levels are usual"
    )
    recogniser: str = Field(
        "",
        description="folder of a Whisper model for CTranslate2: an edit after which it understands less is refused; "
        "empty asks none",
    )
    cache_gib: float = Field(
        20.0, gt=0, description="most that files of edited sounds may hold, GiB; those that went are made again"
    )
    decoders: int = Field(2, ge=1, le=256, description="threads that read and edit clips")


class Curate(Section):
    enabled: bool = Field(
        False, description="begin each round with the stage `curate`: train clips are kept or dropped"
    )
    policy: Literal["lose", "least", "quantile", "hours"] = Field(
        "lose",
        description="what stays: `lose` drops what it can while it loses at most a share of good clips; `least` keeps "
        "what has a value or more in column `by`, `quantile` the best share, `hours` the best hours of train clips",
    )
    value: float = Field(
        0.02, ge=0, description="of `policy`: a share for `lose` and `quantile`, hours, or the least value"
    )
    by: str = Field("p_match", description="column that ranks clips: `p_match`, or any other that is measured")
    limits: dict[str, tuple[float | None, float | None]] = Field(
        default_factory=dict,
        description="lowest and highest value by column (null: none); outside a clip goes, whatever its score. "
        "For instance `silent: [null, 0.8]`",
    )
    balance: bool = Field(False, description="keep the same share of each video, for `quantile` and `hours`")
    unscored: Literal["keep", "drop"] = Field("keep", description="what becomes of clips of which nothing can be told")
    control: bool = Field(
        False, description="keep a random choice of as many hours instead: what the policy's gain is compared with"
    )
    judge: Literal["never", "doubt", "all"] = Field(
        "never",
        description="which clips models describe and judge, by what is seen and what is heard: `doubt` are those of "
        "which cheap evidence leaves it open whether they stay; roles eyes, ears and judge below `models`",
    )
    doubt: float = Field(
        0.4, ge=0, le=1, description="how far from the cut P(match) of a clip that is judged may be, for `doubt`"
    )
    most_judged: float = Field(
        0.5, ge=0, description="at most so many clips are judged for `doubt`: a share up to 1, else a number"
    )
    index_below: float | None = Field(
        None,
        description=(
            "for `doubt` clips whose `index_fit` is lower are judged too (0: a mean sound of the corpus fits the "
            "picture better), whatever P(match) says; `flywheel index` first; null for none"
        ),
    )
    calibration_clips: int = Field(
        200, ge=0, description="train clips that are judged also with another video's sound: what scores are worth"
    )
    repeats: int = Field(
        50, ge=0, description="of these so many are judged again, in the other order and by other sampling"
    )
    prompts: tuple[str, str, str] = Field(
        ("seen", "heard", "judge"), description="names of bundled prompts or paths: what is seen, heard, and judged"
    )
    dnsmos: str = Field(
        "", description="DNSMOS' sig_bak_ovr.onnx, for columns of how good speech sounds; empty leaves them out"
    )
    decoders: int = Field(2, ge=1, le=256, description="threads that decode clips")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the random choice and of intervals")

    @model_validator(mode="after")
    def _value_fits(self) -> Curate:
        if self.policy in ("lose", "quantile") and self.value > 1:
            raise ValueError(f"value: a share is at most 1 for policy {self.policy}, got {self.value:g}")
        if self.policy == "lose" and self.by != "p_match":
            raise ValueError("policy lose needs by: p_match, which alone says how many good clips are lost")
        if self.judge == "doubt" and self.by != "p_match":
            raise ValueError("judge: doubt is about P(match): set by: p_match, or let it judge all")
        if self.index_below is not None and self.judge != "doubt":
            raise ValueError(f"index_below adds to the clips in doubt: set judge: doubt, got judge: {self.judge}")
        return self


class Index(Section):
    encoder: str = Field(
        "trimodal",
        description="what `flywheel index` trains: `trimodal` is searched by texts, pictures and sounds, `dual` by "
        "pictures and sounds alone",
    )
    sizes: dict[str, int | float | bool] = Field(
        default_factory=dict, description="the encoder's sizes where they are not the small preset's: `width: 256`, …"
    )
    folder: str = Field("", description="folder of an encoder that is there, to be used instead of training one")
    steps: int = Field(400, ge=1, description="steps of its training")
    batch: int = Field(64, ge=2, description="clips that are told apart from each other in a step")
    chunk: int = Field(64, ge=1, description="clips of a batch that are in memory at a time; changes no result")
    rate: float = Field(2e-3, gt=0, description="peak of the learning rate")
    decoders: int = Field(2, ge=1, le=256, description="threads that decode clips")
    graph_above: int = Field(
        200_000,
        ge=0,
        description="a modality that more clips have is searched by a graph of its vectors, which finds nearly all of "
        "the nearest without a look at each; needs the extra `search`",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of weights, of the order of clips and of what is hidden")


class Retrieve(Section):
    steps: int = Field(
        200, ge=1, description="steps by which the stage `retrieve` trains an encoder on each of the texts it compares"
    )
    least: int = Field(
        20, ge=2, description="anchors that people corrected below which the stage `retrieve` measures nothing"
    )


class Annotate(Section):
    by: Literal["champion"] | int = Field(
        "champion",
        description=(
            "whose model writes: the champion's, or always this round's (0 is the base), "
            "which nothing that it wrote can change"
        ),
    )
    prompt: str = Field("caption", description="name of a bundled prompt, or a path to a prompt file")
    also: tuple[str, ...] = Field(
        (),
        description=(
            "further prompts whose texts are written in the same stage: "
            "dense_caption, qa, tags, or paths to prompt files"
        ),
    )
    hints: tuple[str, ...] = Field(
        ("transcript", "sounds"), description="what the prompt shows beside the frames, where the clip has it"
    )
    decoders: int = Field(2, ge=1, le=256, description="threads that decode ahead of the engine")
    batch_size: int = Field(64, ge=1, description="clips per batch")
    max_new_tokens: int = Field(64, ge=1, description="most tokens of a text")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus, for temperature > 0")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of sampling; part of a generation's key")
    num_candidates: int = Field(
        1, ge=1, le=64, description="texts per clip, all kept; `select` says which becomes the annotation"
    )
    select: str = Field(
        "logprob",
        description="of several candidate replies: best mean log-prob, or minimum Bayes risk (nearest to the others)",
    )
    max_tries: int = Field(
        2, ge=1, description="tries before a clip is rejected, the later ones sampled at temperature 0.7"
    )
    script: str = Field(
        "", description="script that texts must be in, as in Unicode's names: LATIN, CJK, CYRILLIC; empty for any"
    )
    executor: Literal["local", "ray"] = Field(
        "local",
        description=(
            "where decoders and engines of a round's passes run: in this process, or on the cluster of `ray`; "
            "`flywheel benchmark` and the stage `questions` ask in this process"
        ),
    )
    commit_rows: int = Field(1024, ge=1, description="finished texts per commit; they wait 20 s at most")
    lease_s: float = Field(
        60.0,
        ge=1,
        description=(
            "with `annotate --join`: seconds after which the clips of a process that gives no sign of life are "
            "written by the others"
        ),
    )

    @model_validator(mode="after")
    def _candidates_differ(self) -> Annotate:
        if self.num_candidates > 1 and self.temperature == 0:
            raise ValueError("num_candidates > 1 needs a temperature above 0, or all candidate replies are the same")
        return self


class Ray(Section):
    address: str = Field(
        "", description="HOST:PORT of the cluster's head; empty starts a cluster of this machine for each command"
    )
    actors: int = Field(1, ge=1, le=4096, description="engines that write at once, each a process of its own")
    gpus_per_actor: float = Field(0.0, ge=0, description="GPUs of an engine")
    cpus_per_actor: float = Field(1.0, ge=0, description="CPU cores that are set aside for an engine")
    cpus_per_decoder: float = Field(1.0, gt=0, description="CPU cores of a clip's decoding; the cluster's rest is used")
    max_deaths: int = Field(
        3, ge=1, le=100, description="a clip during which so many engines ended is rejected, with the reason"
    )
    patience_s: float = Field(
        600.0,
        gt=0,
        description="seconds after which an engine that is not started is given up, or a pass if no clip is read",
    )


class Pretrain(Section):
    start: Literal["base", "previous"] = Field(
        "base", description="weights to start from; `previous` inherits the last round's errors"
    )
    texts: Literal["best", "newest"] = Field(
        "best",
        description=(
            "which text of a clip to learn: "
            "of the rounds so far the one whose text anchors find best, or always the newest"
        ),
    )
    mix: Literal["accumulate", "replace"] = Field(
        "accumulate",
        description=(
            "whether older texts of a clip stay beside that one; a wheel that only ever learns its newest narrows"
        ),
    )
    older_share: float = Field(
        0.25, ge=0, lt=1, description="how often `accumulate` shows one of a clip's older texts instead"
    )
    older_rounds: int = Field(
        4,
        ge=1,
        description="most older sources in that mix: the newest ones, and what came with the videos; each takes memory",
    )
    kinds: dict[str, float] = Field(
        {"caption": 1.0},
        description=(
            "kinds of text that are learned, and how often an epoch shows a clip's texts of each beside the others: "
            "caption, and others whose texts answer questions (qa)"
        ),
    )
    human_weight: float = Field(
        4.0, gt=0, description="weight of a text that a person gave against one that a machine wrote"
    )
    num_steps: int = Field(200, ge=0, description="optimizer steps; 0 skips pretraining")
    batch_size: int = Field(16, ge=1, description="clips per step, over all devices")
    learning_rate: float = Field(1e-3, gt=0, description="peak, after warm-up; cosine to a tenth")
    warmup_share: float = Field(0.05, ge=0, le=1, description="share of the steps that warm up")
    weight_decay: float = Field(0.01, ge=0)
    transcript_dropout: float = Field(
        0.5, ge=0, le=1, description="how often the transcript is held back from the input"
    )
    previous_dropout: float = Field(
        0.5, ge=0, le=1, description="how often the previous text is held back from the input"
    )
    optimizer: Literal["auto", "adamw", "adamw_masters", "adamw_sr", "adamw_8bit"] = Field(
        "auto",
        description=(
            "`adamw`: weights as models.main.precision has them, which must be fp32; `adamw_masters`: fp32 weights, "
            "products in that precision; `adamw_sr`: bf16 weights and moments, rounded stochastically; "
            "`adamw_8bit`: moments of 8 bits instead; `auto`: `adamw` in fp32, else the first of `adamw_masters`, "
            "`adamw_sr` and `adamw_8bit` that fits in the device's memory"
        ),
    )
    method: Literal["full", "lora"] = Field(
        "full", description="train all weights, or a LoRA that is merged into them, for models that do not fit"
    )
    lora_rank: int = Field(64, ge=1, description="of `method: lora`")
    lora_alpha: int = Field(128, ge=1, description="of `method: lora`")
    target_modules: str = Field(_LANGUAGE_LAYERS, description="regular expression of the layers that a LoRA adapts")
    freeze_vision: bool = Field(True, description="keep the vision tower as it is")
    gradient_checkpointing: bool = Field(False, description="less memory, more time")
    decoders: int = Field(
        2, ge=0, le=256, description="threads that prepare batches ahead of the step; 0 prepares them between steps"
    )
    save_every: int = Field(100, ge=1, description="steps between checkpoints to resume from")
    log_every: int = Field(25, ge=1, description="steps between the figures that the tracker gets")
    eval_share: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description=(
            "share of the training texts held out for the eval loss and to measure noise on; of a small corpus more "
            "(64, within 15 %), never over 512; 0 holds out none"
        ),
    )
    seed: int = Field(0, ge=0, le=MAX_SEED)

    @field_validator("kinds")
    @classmethod
    def _captions_and_shares(cls, kinds: dict[str, float]) -> dict[str, float]:
        if "caption" not in kinds:
            raise ValueError("caption must be among them: rounds are measured by captions")
        if wrong := [name for name, share in kinds.items() if not 0 < share < float("inf")]:
            raise ValueError(f"{wrong[0]}: must be a number over 0; leave out what is not to be learned")
        return kinds

    @model_validator(mode="after")
    def _adapters_are_fp32(self) -> Pretrain:
        if self.method == "lora" and self.optimizer in ("adamw_masters", "adamw_sr", "adamw_8bit"):
            raise ValueError("optimizer is for method full; an adapter's few weights are fp32. Leave it at auto")
        return self


class Train(Section):
    devices: Literal["auto"] | int = Field(
        "auto",
        description="devices of a training: `auto` are all visible GPUs, else the CPU; N on a CPU are N processes",
    )
    strategy: Literal["auto", "single", "ddp", "zero1", "zero2", "zero3"] = Field(
        "auto",
        description=(
            "`ddp`: each device has all weights; `zero1` shards moments, `zero2` gradients too, `zero3` weights too "
            "(DeepSpeed); `auto`: `single` on one device, else the first of ddp, zero2, zero3 that fits"
        ),
    )
    offload: bool = Field(False, description="with zero1 to zero3: keep what is sharded in the machine's own memory")
    accumulation: int = Field(
        1, ge=1, description="parts in which a device takes its share of a step; more take less memory, learn the same"
    )
    timeout_s: float = Field(
        1800.0, gt=0, description="seconds after which devices that wait for each other in vain end the training"
    )
    launch: tuple[str, ...] = Field(
        (),
        description="flags of `accelerate launch`, for several machines; empty starts the processes on this one",
    )

    @field_validator("devices")
    @classmethod
    def _at_least_one(cls, devices: Literal["auto"] | int) -> Literal["auto"] | int:
        if devices != "auto" and devices < 1:
            raise ValueError(f"must be auto or a number from 1 on, got {devices}")
        return devices

    @model_validator(mode="after")
    def _goes_together(self) -> Train:
        if self.strategy == "single" and self.devices not in ("auto", 1):
            raise ValueError(f"strategy single is for one device, and devices is {self.devices}. Set strategy to auto")
        if self.offload and self.strategy in ("single", "ddp"):
            raise ValueError(f"offload is for zero1 to zero3, and strategy is {self.strategy}")
        return self


class Loss(Section):
    name: str = Field("adatailr", description="registered loss of pretraining: `flywheel config losses` lists them")
    arguments: dict[str, float | int | str | bool] = Field(default_factory=dict, description="arguments of the loss")
    human_every: int = Field(
        25, ge=1, description="steps between looks at the anchors' corrected texts and the held-out ones"
    )


class Finetune(Section):
    method: Literal["sft", "dpo", "sft+dpo"] = Field(
        "sft",
        description=(
            "`sft` learns people's texts; `dpo` pairs of texts of which people found one better; `sft+dpo` both in "
            "each step. Pairs come from `pairs_from`, of train clips alone"
        ),
    )
    num_steps: int = Field(60, ge=0, description="optimizer steps on corrections; 0 skips fine-tuning")
    batch_size: int = Field(8, ge=1, description="people's texts per step, or pairs; `sft+dpo` takes so many of each")
    learning_rate: float = Field(2e-3, gt=0)
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="of `sft`; pairs are learned without")
    target_modules: str = Field(_LANGUAGE_LAYERS, description="regular expression of the adapted layers")
    min_corrections: int = Field(
        4,
        ge=1,
        description="fewer texts of people than this, or pairs, and nothing is learned from them; with neither the "
        "round goes on without an adapter",
    )
    pairs_from: tuple[Literal["correction", "preference", "reject"], ...] = Field(
        ("correction", "preference", "reject"),
        min_length=1,
        description=(
            "what pairs are made of, for `dpo`: `correction` (people's text against the one that they were shown), "
            "`preference` (blind choices), `reject` (another text of the clip against one that people rejected)"
        ),
    )
    beta: float = Field(
        0.1, gt=0, description="of `dpo`: the smaller, the further the model may go from what it wrote before"
    )
    pair_weight: float = Field(
        1.0, gt=0, description="of `sft+dpo`: weight of the pairs' loss beside that of people's texts"
    )
    merge: bool = Field(False, description="also write merged weights beside the adapter")
    seed: int = Field(0, ge=0, le=MAX_SEED)


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


class Evaluate(Section):
    resamples: int = Field(2000, ge=100, description="bootstrap resamples")
    diversity_tokens: int = Field(2000, ge=10, description="size of the token sample that distinct-n is counted on")
    agreement_pairs: int = Field(64, ge=0, description="clips for the video-text margin; 0 leaves it out")
    judges: tuple[str, ...] = Field(
        (),
        description=(
            "roles of models below `models` that take the texts of corrected anchors and people's apart into facts and "
            "compare them both ways; the first counts, a second tells how far judges agree. Empty: no facts"
        ),
    )
    judges_of_own: tuple[str, ...] = Field(
        (), description="judges that may judge though they are the model under test, or the base that it began with"
    )
    fact_prompts: tuple[str, str] = Field(
        ("facts", "verdicts"), description="names of bundled prompts or paths: what takes a text apart, what compares"
    )
    questions: str = Field(
        "",
        description=(
            "file or folder of certified questions about the anchors' videos, such as bench/certified.jsonl, which "
            "the model `reader` answers from captions alone; empty asks none"
        ),
    )
    question_format: str = Field("flywheel", description="as 'flywheel benchmark formats' lists")
    question_videos: str = Field("", description="the folder of their videos; 'videos' beside them where it is empty")
    question_prompt: str = Field("answers", description="name of a bundled prompt or a path: how the reader is asked")
    reader: str = Field("reader", description="role below `models` of the model that answers questions from captions")
    seed: int = Field(0, ge=0, le=MAX_SEED)


class Gate(Section):
    require: Literal["better", "not_worse"] = Field(
        "better",
        description=(
            "what a candidate must be shown to be on the anchors; "
            "`not_worse` by more than `margin`, with the anchors that power asks for"
        ),
    )
    measures: tuple[Literal["preference", "facts", "qa", "token_f1"], ...] = Field(
        ("token_f1",),
        min_length=1,
        description=(
            "what tells whether a candidate is better, the most trusted first: people's blind choices between its "
            "texts and the champion's (`preference`, see `review.compare`), facts shared with corrected texts "
            "(`facts`, see `evaluate.judges`), questions answered from its texts alone (`qa`, see "
            "`evaluate.questions`), word overlap with corrected texts (`token_f1`)"
        ),
    )
    fact_margin: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="loss of fact precision that is tolerated; a candidate that surely invents more is refused",
    )
    win_rate: float = Field(
        0.65,
        ge=0.55,
        le=1,
        description=(
            "share of blind choices, ties as half, that a candidate worth finding wins; with `power` it says how many "
            "choices are needed"
        ),
    )
    win_margin: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description="loss of blind choices below one half that is tolerated; who surely loses more is refused",
    )
    margin: float = Field(0.0, ge=0, description="loss of anchor quality (token F1) that `not_worse` tolerates")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description=(
            "chance that a candidate no better ever takes a champion's place, over all that try: "
            "the j-th may spend alpha / (j (j + 1))"
        ),
    )
    effect: float = Field(0.05, gt=0, le=1, description="gain in token F1 that is worth finding")
    power: float = Field(0.9, gt=0, lt=1, description="chance to find it, which says how many anchors are needed")
    min_anchors: int = Field(8, ge=2, description="fewer corrected anchors than this and the gate can't tell at all")
    untested: Literal["refuse", "promote"] = Field(
        "refuse", description="what becomes of a candidate then: it is not promoted, or promoted and said so"
    )
    min_refiners: int = Field(1, ge=1, description="people who must have given the anchors' texts")
    min_gold_accuracy: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "a refiner whose accuracy on gold is surely below this (95 %) stops the round; see `flywheel exclude`"
        ),
    )
    on_alarm: Literal["warn", "refuse"] = Field(
        "warn", description="what becomes of a round of whose texts the collapse watch gives an alarm"
    )
    flat_rounds: int = Field(
        3, ge=1, description="so many rounds in a row that were not promoted, and the round advises to stop"
    )
    diversity_margin: float = Field(
        0.1, ge=0, description="loss of distinct-3 against the champion's that is tolerated, as a share"
    )
    max_reject_share: float = Field(
        0.1, ge=0, le=1, description="share of clips of which the candidate may fail to write"
    )
    max_cost_ratio: float = Field(3.0, gt=0, description="tokens per text against the champion's")


class Tracking(Section):
    uri: str = Field("", description="MLflow tracking server; empty is mlflow.db in the workspace")
    experiment: str = Field("flywheel", description="MLflow experiment")
    enabled: bool = True


class Schedule(Section):
    cron: str = Field(
        "", description="when `flywheel schedule start` runs a round: minute hour day month weekday; empty is never"
    )
    timezone: str = Field("", description="zone of these times, such as Europe/Berlin; empty is the machine's")
    patience_hours: float = Field(
        0.0,
        ge=0,
        description=(
            "hours that a round waits for `review.wait_for` corrections before it goes on without; "
            "0 waits for as long as it takes"
        ),
    )
    max_hours: float = Field(
        0.0, ge=0, description="a run that takes longer is stopped, and goes on the next time; 0 is no limit"
    )
    max_money: float = Field(
        0.0,
        ge=0,
        description=(
            "a round whose texts (by annotate's prices) and training (by its price per hour) cost more is stopped; 0 "
            "is no limit"
        ),
    )
    hook: str = Field(
        "",
        description="command (JSON on its standard input) or URL (JSON by POST) told of waiting, done, refused, failed",
    )


class Store(Section):
    database: str = Field(
        "",
        description=(
            "SQLAlchemy URL of a PostgreSQL database (`postgresql://user@host/name`, `$VARIABLES` are filled in); "
            "empty is flywheel.db in the workspace"
        ),
    )
    copies_gib: float = Field(
        50.0, gt=0, description="GiB of records that a host keeps copies of, of a workspace on an object store"
    )


class Config(Section):
    """A workspace's configuration. Secrets never stand here: they come from the environment."""

    corpus: Corpus = Corpus()
    models: Mapping[str, Model] = Field(
        default_factory=lambda: {MAIN: Model()},
        description="models by role: `main`, which rounds improve, and those that prompts ask for by name",
    )
    transcribe: Transcribe = Transcribe()
    rounds: Rounds = Rounds()
    repair: Repair = Repair()
    curate: Curate = Curate()
    annotate: Annotate = Annotate()
    ray: Ray = Ray()
    pretrain: Pretrain = Pretrain()
    train: Train = Train()
    loss: Loss = Loss()
    finetune: Finetune = Finetune()
    review: Review = Review()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()
    index: Index = Index()
    retrieve: Retrieve = Retrieve()
    tracking: Tracking = Tracking()
    schedule: Schedule = Schedule()
    store: Store = Store()
    #: Sections of other packages' stages, by the stage's name, as they stand in the file.
    plugins: Mapping[str, Any] = Field(default_factory=dict, description="sections of other packages' stages")

    @model_validator(mode="after")
    def _facts_have_a_judge(self) -> Config:
        if "facts" in self.gate.measures and not self.evaluate.judges:
            raise ValueError("gate.measures: facts needs a judge. Name its role (below models) in evaluate.judges")
        if "qa" in self.gate.measures and not self.evaluate.questions:
            raise ValueError("gate.measures: qa needs questions. Name their file in evaluate.questions")
        if self.evaluate.questions and self.evaluate.reader not in self.models:
            raise ValueError(
                f"evaluate.questions needs a model that answers: models.{self.evaluate.reader} is missing. "
                "Add it, or name another role in evaluate.reader"
            )
        return self

    @field_validator("models")
    @classmethod
    def _with_main(cls, models: Mapping[str, Model]) -> Mapping[str, Model]:
        if bad := [role for role in models if not role.replace("_", "").replace("-", "").isalnum()]:
            raise ValueError(f"a role is a word of letters and digits, got {bad[0]!r}")
        return {MAIN: Model(), **models}

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of a new round in their order: `repair` and `curate` are among them where they are enabled."""
        wanted = {REPAIR: self.repair.enabled, CURATE: self.curate.enabled}
        named = tuple(name for name in self.rounds.stages if wanted.get(name, True))
        return (*(name for name, on in wanted.items() if on and name not in named), *named)

    @property
    def main(self) -> Model:
        """The model that rounds improve."""
        return self.models[MAIN]
