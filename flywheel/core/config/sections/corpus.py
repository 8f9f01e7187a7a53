"""What of videos becomes clips, and how models see and hear them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from flywheel.core.config.sections._section import Section


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
