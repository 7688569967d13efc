"""A tiny cross-encoder as a user would export it: ONNX bytes and a tokenizer, written here by hand.

It adds up what the words of the passage weigh; the question it reads and ignores.
"""

from __future__ import annotations

import struct

from tokenizers import Tokenizer, models, pre_tokenizers, processors

WEIGHTS = {"thirty": 5.0, "days": 1.0, "stairs": -3.0}
_FLOAT, _INT64 = 1, 7


def _varint(value):
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _field(number, value):
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _node(kind, inputs, outputs, *attributes):
    parts = [_field(1, name) for name in inputs] + [_field(2, name) for name in outputs] + [_field(4, kind)]
    return b"".join(parts + [_field(5, each) for each in attributes])


def _integer(name, value):
    return _field(1, name) + _field(3, value) + _field(20, 2)


def _integers(name, *values):
    return _field(1, name) + b"".join(_field(8, value) for value in values) + _field(20, 7)


def _value(name, kind, width):
    shape = _field(1, _field(2, "batch")) + _field(1, _field(2, width) if isinstance(width, str) else _field(1, width))
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, shape)))


def model_bytes(weights, classes=1):
    """An ONNX file: inputs `input_ids` and `token_type_ids`, output one logit a pair, or two."""
    tensor = b"".join(
        (
            _field(1, len(weights)),
            _field(2, _FLOAT),
            _field(8, "weights"),
            _field(9, struct.pack(f"<{len(weights)}f", *weights)),
        )
    )
    nodes = [
        _node("Gather", ["weights", "input_ids"], ["each"], _integer("axis", 0)),
        _node("Cast", ["token_type_ids"], ["kinds"], _integer("to", _FLOAT)),
        _node("Mul", ["each", "kinds"], ["passage"]),
        _node(
            "ReduceSum",
            ["passage"],
            ["logits" if classes == 1 else "sum"],
            _integers("axes", 1),
            _integer("keepdims", 1),
        ),
    ]
    if classes > 1:
        nodes += [
            _node("Neg", ["sum"], ["against"]),
            _node("Concat", ["against", *["sum"] * (classes - 1)], ["logits"], _integer("axis", 1)),
        ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "cross") + _field(5, tensor)
    graph += _field(11, _value("input_ids", _INT64, "tokens")) + _field(11, _value("token_type_ids", _INT64, "tokens"))
    graph += _field(12, _value("logits", _FLOAT, classes))
    return _field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 11))


def write_model(folder, classes=1):
    """`model.onnx` and `tokenizer.json`."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WEIGHTS]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.onnx").write_bytes(model_bytes([WEIGHTS.get(word, 0.0) for word in words], classes))
    return folder
