"""Section `compute`: where ingests do their heavy work."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from interlock.stores.compute.base import Executor, ExecutorKind, Limits, Opening, available_cores
from interlock.stores.compute.inline import InlineExecutor

__all__ = ["ComputeChoice", "ComputeSettings", "open_executor"]

MiB = 1024 * 1024
_INLINE = 2
"""Of units in one process: one is embedded while another is read, or stored."""


class ComputeChoice(NamedTuple):
    """What one run wants otherwise than the settings say."""

    executor: ExecutorKind | None = None
    workers: int | None = None


class ComputeSettings(BaseModel):
    """Section `compute`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Literal["inline", "processes", "ray"] = Field(
        default="inline", description="inline: this process; processes: worker processes; ray: a Ray cluster"
    )
    workers: int = Field(default=0, ge=0, le=1024, description="workers of one run; 0: as many as there are cores")
    address: str = Field(
        default="",
        pattern=r"^$|^(ray://)?[^\s/@]+:\d{1,5}$",
        description="host:port of a Ray cluster; empty starts one on this machine for each run",
    )
    memory_bytes: int = Field(default=4096 * MiB, ge=256 * MiB, description="data of one worker")
    unit_timeout_s: float = Field(default=900.0, gt=0, description="a worker that takes longer for one unit is killed")

    @property
    def count(self) -> int:
        """Workers of one run."""
        return self.workers or (_INLINE if self.executor == "inline" else available_cores())

    def chosen(self, choice: ComputeChoice | None) -> ComputeSettings:
        """These settings as one run wants them."""
        if choice is None:
            return self
        wanted = {"executor": choice.executor, "workers": choice.workers}
        return self.model_copy(update={name: value for name, value in wanted.items() if value is not None})


def open_executor(settings: ComputeSettings, opening: Opening) -> Executor:
    """The executor that settings name; ``async with`` it.

    Raises, on entering: MissingExtra, Unavailable (``ray_away``), Misconfigured (``not_picklable``).
    """
    limits = replace(Limits(), memory_bytes=settings.memory_bytes, unit_s=settings.unit_timeout_s)
    workers = settings.count
    if settings.executor == "processes":
        from interlock.stores.compute.processes import ProcessExecutor

        return ProcessExecutor(opening, workers=workers, limits=limits)
    if settings.executor == "ray":
        from interlock.stores.compute.ray import RayExecutor

        return RayExecutor(opening, workers=workers, address=settings.address, limits=limits)
    return InlineExecutor(opening, workers=workers)
