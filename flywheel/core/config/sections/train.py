"""Devices of a training, and how it is spread over them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from flywheel.core.config.sections._section import Section


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
