"""A tiny ONNX classifier, written byte by byte: logits are the sums of one row of a table for each token."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

_FLOAT, _INT64 = 1, 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, kind: int, dims: Sequence[str | int]) -> bytes:
    shape = b"".join(_field(1, _field(2, d) if isinstance(d, str) else _field(1, d)) for d in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, shape)))


def _node(op: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    return (
        b"".join(_field(1, name) for name in inputs)
        + _field(2, output)
        + _field(4, op)
        + b"".join(_field(5, attribute) for attribute in attributes)
    )


def token_sums(rows: Sequence[Sequence[float]]) -> bytes:
    """A model: `input_ids` (1, n) int64 to `logits` (1, k), the sum of `rows[token]`."""
    width = len(rows[0])
    raw = b"".join(struct.pack("<f", value) for row in rows for value in row)
    table = _field(1, len(rows)) + _field(1, width) + _field(2, _FLOAT) + _field(8, "table") + _field(9, raw)
    axes = _field(1, 1) + _field(2, _INT64) + _field(8, "axes") + _field(9, struct.pack("<q", 1))
    keep = _field(1, "keepdims") + _field(3, 0) + _field(20, 2)
    graph = (
        _field(1, _node("Gather", ["table", "input_ids"], "found"))
        + _field(1, _node("ReduceSum", ["found", "axes"], "logits", keep))
        + _field(2, "sums")
        + _field(5, table)
        + _field(5, axes)
        + _field(11, _value("input_ids", _INT64, ["one", "n"]))
        + _field(12, _value("logits", _FLOAT, ["one", width]))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))


def write_nli(folder: Path, words: Mapping[str, Sequence[float]], labels: Sequence[str]) -> Path:
    """A folder with a model whose labels' logits are the sums of the words' rows; other words count nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    nothing = [0.0] * len(labels)
    vocabulary = {"[UNK]": 0, **{word: number for number, word in enumerate(words, start=1)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.onnx").write_bytes(token_sums([nothing, *words.values()]))
    (folder / "config.json").write_text(json.dumps({"id2label": {str(i): name for i, name in enumerate(labels)}}))
    return folder
