"""Interlock: the engineering system for generative AI.

The names a user types live in :mod:`interlock.client` (call a running Interlock) and
:mod:`interlock.app` (run one in this process). Nothing heavy is imported here.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
