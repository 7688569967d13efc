"""Compacts a folder of spans once: a server starts this in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, time
from pathlib import Path

from interlock.stores.events.parquet import ParquetEvents


async def _main(root: Path, retention_days: int, today: datetime) -> None:
    events = ParquetEvents(root, retention_days=retention_days, clock=lambda: today)
    try:
        await events.compact()
    finally:
        await events.close()


if __name__ == "__main__":
    os.umask(0o077)
    os.nice(10)
    day = datetime.fromisoformat(sys.argv[3])
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]), datetime.combine(day, time(), UTC)))
