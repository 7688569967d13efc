"""The command line. `main` is the console script; command groups load when they are used."""

from interlock.cli.root import main

__all__ = ["main"]
