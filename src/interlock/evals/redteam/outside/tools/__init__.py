"""Tools of others. One file each, with a `plugin` that says how it is called and what it found."""

from interlock.core.plugins import Registry
from interlock.evals.redteam.outside.types import Tool

__all__ = ["tools"]

tools: Registry[Tool] = Registry("redteam_tool", "interlock.evals.redteam.outside.tools")
