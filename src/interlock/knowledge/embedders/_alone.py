"""One text, mostly a question: the shortest way to a model and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["alone"]

E = TypeVar("E")

_AT_ONCE = 4


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="interlock-embed")


async def alone(encode: Callable[[], E], run: Callable[[E], NDArray[np.float32]], *, now: bool) -> NDArray[np.float32]:
    """Encode one text and run the model.

    A model needs the interpreter for a moment and then works without it for milliseconds: it is on its way before this
    first waits, and whatever else the caller does goes on beside it.

    Args:
        encode: tokens of the text, bounded by what the model reads.
        run: gives its vector.
        now: encode here (a fifth of a millisecond); else, while the tokenizer is not loaded, in the thread.
    """
    if now:
        encoded = encode()
        future = _threads().submit(run, encoded)
    else:
        future = _threads().submit(lambda: run(encode()))
    return await asyncio.wrap_future(future)
