"""``python:package.module:function``: a callable of one's own, plain or async.

It is given the case as a mapping (``input``, ``messages``, ``context``, ``variables``, ``user``, ``id``, ``repeat``,
``metadata``) and gives text, a mapping with the fields of an output, or an :class:`~interlock.evals.types.Output`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anyio import get_cancelled_exc_class, to_thread

from interlock.core.errors import InterlockError, InvalidInput, NotFound
from interlock.evals.targets._replies import asked, output_of
from interlock.evals.types import Case, Output

__all__ = ["PythonTarget", "plugin"]


class PythonTarget:
    """A callable. What it raises is a failed answer, not the end of the run."""

    identity: Mapping[str, object] = {}
    release_id = ""

    def __init__(self, name: str, function: Callable[[dict[str, Any]], Any]) -> None:  # Any: JSON in, an answer out
        self.name = name
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object whose call is a coroutine
        )

    async def run(self, case: Case, repeat: int) -> Output:
        """See `Target`."""
        try:
            told = asked(case, repeat)
            if self._is_async:
                reply = await self._function(told)
            else:
                reply = await to_thread.run_sync(self._function, told, abandon_on_cancel=True)
            return output_of(reply)
        except InterlockError as error:
            return Output(error=error.code)
        except (get_cancelled_exc_class(), KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the callable is somebody's code: whatever it raises, sys.exit too, is its failed answer
            return Output(error=type(error).__name__)

    async def close(self) -> None:
        """Nothing is held."""


class _Plugin:
    def open(self, address: str, options: Mapping[str, str]) -> PythonTarget:
        module, _, attribute = address.partition(":")
        if not module or not attribute:
            raise InvalidInput(f"{address!r} names no callable", param="target", hint="python:package.module:function")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            found: Any = importlib.import_module(module)  # Any: whatever the module holds
            for step in attribute.split("."):
                found = getattr(found, step)
        except ModuleNotFoundError as error:
            raise NotFound(
                f"there is no module {error.name!r}", param="target", hint="run it from its folder"
            ) from error
        except SystemExit as error:
            raise InvalidInput(
                f"{module!r} ends the process when it is imported",
                param="target",
                hint="put what it does as a program below `if __name__ == '__main__':`",
            ) from error
        except AttributeError as error:
            raise NotFound(f"{module!r} has no {attribute!r}", param="target") from error
        if not callable(found):
            raise InvalidInput(f"{address!r} cannot be called", param="target")
        return PythonTarget(f"python:{address}", found)


plugin = _Plugin()
