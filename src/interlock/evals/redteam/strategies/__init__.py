"""Ways in which a model attacks, choosing what it says by what it was answered. One file each, with a `plugin`."""

from interlock.core.plugins import Registry
from interlock.evals.redteam.strategies._talk import Attack

__all__ = ["strategies"]

strategies: Registry[Attack] = Registry("attack_strategy", "interlock.evals.redteam.strategies")
