"""Matrices of one folder, one file each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from interlock.core.errors import InvalidInput, NotFound
from interlock.evals.matrix.types import Matrix

__all__ = ["Shelf"]

_SHORTEST = 6


class Shelf:
    """Blocking; the files are small."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def put(self, matrix: Matrix) -> None:
        """Write it, whole or not at all."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self._home / f"{matrix.id}.json"
        fresh = place.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(matrix), indent=1))
        os.replace(fresh, place)

    def list(self) -> Iterator[Matrix]:
        """Newest first; damaged ones are left out."""
        for place in sorted(self._home.glob("mx_*.json"), reverse=True):
            try:
                yield msgspec.json.decode(place.read_bytes(), type=Matrix)
            except (OSError, msgspec.MsgspecError):
                continue

    def get(self, name: str) -> Matrix:
        """By its id, a beginning of it, or ``last``. Raises: NotFound, InvalidInput: damaged, or several begin so."""
        places = sorted(self._home.glob("mx_*.json"), reverse=True)
        if name != "last":
            places = [place for place in places if place.stem == name or _begins(place.stem, name)]
        if not places:
            raise NotFound(f"there is no comparison {name!r}", param="id", hint="interlock compare list")
        if name != "last" and len(places) > 1:
            raise InvalidInput(f"several comparisons begin with {name!r}", param="id")
        try:
            return msgspec.json.decode(places[0].read_bytes(), type=Matrix)
        except (OSError, msgspec.MsgspecError) as error:
            raise InvalidInput(f"the comparison {places[0].stem!r} is damaged", param="id") from error


def _begins(stem: str, name: str) -> bool:
    return len(name) >= _SHORTEST and stem.startswith(name)
