"""The cluster that passes may run on."""

from __future__ import annotations

from pydantic import Field

from flywheel.core.config.sections._section import Section


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
