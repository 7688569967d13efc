"""The weights inside MiniLM's ONNX file, by our own names. Reads the file itself: the `onnx` package is not needed.

An ONNX file is a protocol-buffer message; only its initializers (constant tensors) and its nodes' inputs are looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PLACES", "Matrix", "Weights", "read_weights"]

PLACES = ("query", "key", "value", "output", "up", "down")
"""The matrices of a layer, in the order they are used."""


class Matrix(NamedTuple):
    """One int8 matrix of the file."""

    values: NDArray[np.int8]
    """``(inputs, outputs)`` int8."""
    steps: NDArray[np.float32]
    """``(1, outputs)`` float32: what one unit of a column is worth."""


class Weights(NamedTuple):
    """What the file holds."""

    tensors: dict[str, NDArray[np.generic]]
    matrices: dict[tuple[int, str], Matrix]
    """By layer and place."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message; groups do not occur."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, at = _varint(data, at)
        elif not size:
            raise ValueError(f"wire type {kind} in an ONNX file")
        yield key >> 3, data[at : at + size]
        at += size


_DTYPES = {1: "<f4", 3: "<i1", 7: "<i8"}


def _tensor(data: memoryview) -> tuple[str, NDArray[np.generic]] | None:
    """``TensorProto``: dims 1, data_type 2, float_data 4, name 8, raw_data 9."""
    import numpy as np

    shape: list[int] = []
    kind, name, raw = 0, "", memoryview(b"")
    for number, value in _fields(data):
        if number == 1 and isinstance(value, memoryview):
            at = 0
            while at < len(value):
                size, at = _varint(value, at)
                shape.append(size)
        elif number == 1 and isinstance(value, int):
            shape.append(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, memoryview):
            name = bytes(value).decode()
        elif number == 9 and isinstance(value, memoryview):
            raw = value
    if kind not in _DTYPES or not raw:
        return None
    return name, np.frombuffer(raw, dtype=_DTYPES[kind]).reshape(shape)


def read_weights(file: bytearray) -> Weights:
    """Every tensor and the six matrices of each layer, as views: writing to one changes `file`.

    Raises: ValueError when the file is another's.
    """
    import numpy as np

    data = memoryview(file)
    tensors: dict[str, NDArray[np.generic]] = {}
    try:
        for number, graph in _fields(data):
            if number != 7 or not isinstance(graph, memoryview):
                continue
            for part, value in _fields(graph):
                if part == 5 and isinstance(value, memoryview):
                    tensor = _tensor(value)
                    if tensor:
                        tensors[tensor[0]] = tensor[1]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("not an ONNX file that can be read") from error
    quantised = [name for name, t in tensors.items() if name.startswith("val_") and name.endswith("_q")]
    quantised.sort(key=lambda name: int(name.split("_")[1]))
    if len(quantised) % len(PLACES):
        raise ValueError("not the MiniLM file that the reader was made for")
    matrices = {}
    for i, name in enumerate(quantised):
        scale = name.removesuffix("_q") + "_scale"
        place = PLACES[i % len(PLACES)]
        matrices[i // len(PLACES), place] = Matrix(tensors[name].view(np.int8), tensors[scale].view(np.float32))
    return Weights(tensors, matrices)
