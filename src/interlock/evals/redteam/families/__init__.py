"""Families of attacks. One file each, with a `plugin` that makes them."""

from interlock.core.plugins import Registry
from interlock.evals.redteam.types import Family

__all__ = ["families"]

families: Registry[Family] = Registry("attack_family", "interlock.evals.redteam.families")
