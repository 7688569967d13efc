"""An embedder that ends the worker it is in; workers import it by its name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from interlock.testing.embedders import HashEmbedder


class Deadly(HashEmbedder):
    """Kills its process the first `times` that it embeds."""

    def __init__(self, mark: Path, times: int) -> None:
        super().__init__()
        self._mark, self._times = mark, times

    async def embed(self, texts, kind):
        with self._mark.open("a") as file:
            file.write("x")
        if len(self._mark.read_text()) <= self._times:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().embed(texts, kind)
