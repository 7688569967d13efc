"""Plug-ins: one file, one symbol ``plugin``.

Built-ins are the files of a folder (file name = plug-in name; ``_x.py`` is a shared helper and is skipped), third
parties register entry points in the group ``interlock.<kind>``. Names list without importing anything; a file is
imported when its plug-in is first asked for.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Generic, TypeVar, cast

from interlock.core.errors import InvalidInput, Misconfigured, MissingExtra

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """The plug-ins of one kind.

    Args:
        kind: what one is called in messages and in the entry-point group, e.g. ``loader``.
        package: dotted name of the folder that holds the built-ins.
        extra: the extra that installs the libraries the built-ins need.
    """

    def __init__(self, kind: str, package: str, extra: str = "all") -> None:
        self.kind = kind
        self._package = package
        self._extra = extra
        self._loaded: dict[str, T] = {}

    def names(self) -> list[str]:
        """All known names, sorted, without importing a plug-in."""
        return sorted({*self._builtin(), *self._third_party()})

    def get(self, name: str) -> T:
        """Import (once) and return the plug-in `name`.

        Raises:
            InvalidInput: no such plug-in; the hint names near ones.
            MissingExtra: its library is not installed.
            Misconfigured: two packages claim the name, or the file has no symbol ``plugin``.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> T:
        builtin = name in self._builtin()
        third_party = self._third_party()
        if builtin and name in third_party:
            raise Misconfigured(
                f"two packages define the {self.kind} {name!r}", hint=f"uninstall {third_party[name].value!r}"
            )
        try:
            if builtin:
                module = importlib.import_module(f"{self._package}.{name}")
                if not hasattr(module, "plugin"):
                    raise Misconfigured(f"{module.__name__} defines no symbol 'plugin'")
                # The folder's own convention says what `plugin` is; its conformance suite checks it.
                return cast(T, module.plugin)
            if name in third_party:
                return cast(T, third_party[name].load())
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"the {self.kind} {name!r} needs the library {error.name!r}",
                hint=f"pip install 'interlock[{self._extra}]'",
            ) from error
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.names())}"
        raise InvalidInput(f"no {self.kind} named {name!r}", hint=hint)

    def _builtin(self) -> set[str]:
        spec = importlib.util.find_spec(self._package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        return {p.stem for folder in folders for p in Path(folder).glob("*.py") if not p.stem.startswith("_")}

    def _third_party(self) -> dict[str, metadata.EntryPoint]:
        return _entry_points().get(f"interlock.{self.kind}", {})


@functools.cache
def _entry_points() -> dict[str, dict[str, metadata.EntryPoint]]:
    """What installed packages offer, by group and name; of two that agree in both, the first on the path is found.

    Reading it opens a file of every installed package, so a process reads it once.
    """
    found: dict[str, dict[str, metadata.EntryPoint]] = {}
    for distribution in metadata.distributions():
        for point in distribution.entry_points:
            found.setdefault(point.group, {}).setdefault(point.name, point)
    return found
