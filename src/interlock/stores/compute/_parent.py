"""A child that ends with its parent, however that ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

__all__ = ["end_with_parent"]

_LOOK_S = 0.5
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """End this process when `parent`, the process that started it, is gone.

    A busy child does not read its input, so the end of that tells it nothing. Linux ends it at once, native code that
    holds the interpreter's lock included; elsewhere a thread looks twice a second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_look, args=(parent,), daemon=True, name="parent").start()


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)
