"""Targets that need no workspace. One file each, with a `plugin` that opens one by its address."""

from interlock.core.plugins import Registry
from interlock.evals.ports import TargetPlugin

__all__ = ["targets"]

targets: Registry[TargetPlugin] = Registry("target", "interlock.evals.targets", extra="eval")
