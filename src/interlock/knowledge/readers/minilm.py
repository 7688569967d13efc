"""MiniLM made to read a question and a sentence together: our low-rank changes on the weights of the embedder.

There are two sets of changes (1.4 MB each, `minilm*.npz` beside this file, Apache-2.0), both from
`benchmarks/train_reader.py` with different training questions; a logit is the mean of the two. They are laid over the
int8 matrices of the embedder's own ONNX file when it is loaded; no other model is fetched.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from interlock.core.errors import Misconfigured, ModelMissing
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.ports import Reader
from interlock.knowledge.readers._weights import Matrix, read_weights
from interlock.knowledge.types import Reading

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

__all__ = ["MiniLMReader", "encode", "plugin"]

SHA256 = {
    "minilm.npz": "79c4b95b375522f26e8ba7e4a09c6062d912b1767013e21610b699983690c456",
    "minilm-2.npz": "260e22589ddabd4538d3e4200c3c321ff906180b299097beeccc539b322b4271",
}
"""Of each set of changes; printed by its training script."""
_CHANGES = tuple(Path(__file__).with_name(name) for name in SHA256)
_EMBEDDER = "minilm-l6-int8"
_FETCH = f"interlock models fetch {_EMBEDDER}"
_LENGTH, _QUESTION, _BEFORE = 144, 48, 48
_CLS, _SEP = 101, 102
_BATCH = 8
_KINDS = "inner.embeddings.token_type_embeddings.weight"


class MiniLMReader:
    """One logit for each question and sentence. Loads on first use and may be shared between threads.

    Memory: 65 MB for each set of changes, besides the embedder. About 1,000 tokens a CPU-second; a pair has 60 to 144.
    """

    id = "minilm-reader:sha256:" + hashlib.sha256("".join(SHA256.values()).encode()).hexdigest()

    def __init__(self, folder: Path, *, threads: int = 1, changes: Sequence[Path] = _CHANGES) -> None:
        """
        Args:
            folder: of the embedder's `model.onnx` and `tokenizer.json`.
            changes: the trained parts; other files than ours are refused.
        """
        self._folder = folder
        self._threads = threads
        self._changes = changes
        self._loaded: _Loaded | None = None
        self._loading = threading.Lock()  # two first callers must not load the weights twice

    async def read(self, pairs: Sequence[Reading]) -> NDArray[np.float32]:
        """``(len(pairs),)`` float32 logits, in input order: above 0 the sentence rather answers its question.

        Runs in worker threads, eight pairs each: cancelling takes effect between two of them.
        Raises: ModelMissing, MissingExtra, Misconfigured (damaged file).
        """
        with needs_extra(_EMBEDDER):
            import numpy as np

        logits = np.zeros(len(pairs), dtype=np.float32)
        if not pairs:
            return logits
        loaded = await to_thread.run_sync(self._load)
        encoded = [encode(loaded.tokenizer, pair) for pair in pairs]
        order = sorted(range(len(pairs)), key=lambda i: len(encoded[i][0]))
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            logits[rows] = await to_thread.run_sync(loaded.run, [encoded[i] for i in rows])
        return logits

    def _load(self) -> _Loaded:
        with self._loading:
            if self._loaded is None:
                with needs_extra(_EMBEDDER):
                    self._loaded = _Loaded(self._folder, self._changes, self._threads)
            return self._loaded


def encode(tokenizer: Tokenizer, pair: Reading) -> tuple[list[int], list[int]]:
    """Token ids and kinds (0 question, 1 the rest) of ``[CLS] question [SEP] sentence [SEP] text before it [SEP]``.

    At most 144 tokens: the question's first 48, then the sentence, then the last 48 before it that still fit.
    """
    asked = tokenizer.encode(pair.question, add_special_tokens=False).ids[:_QUESTION]
    room = _LENGTH - len(asked) - 4
    said = tokenizer.encode(pair.sentence, add_special_tokens=False).ids[:room]
    before = tokenizer.encode(pair.before, add_special_tokens=False).ids
    before = before[max(0, len(before) - min(_BEFORE, room - len(said))) :]
    ids = [_CLS, *asked, _SEP, *said, _SEP, *([*before, _SEP] if before else [])]
    return ids, [0] * (len(asked) + 2) + [1] * (len(ids) - len(asked) - 2)


class _Loaded:
    """A session with changed matrices for each set of changes, and the heads on their last states."""

    def __init__(self, folder: Path, changes: Sequence[Path], threads: int) -> None:
        from tokenizers import Tokenizer

        given = [_read_changes(path) for path in changes]
        model, vocabulary = folder / "model.onnx", folder / "tokenizer.json"
        for path in (model, vocabulary):
            if not path.is_file():
                raise ModelMissing(f"the embedding model {_EMBEDDER!r} is not here: no {path.name!r}", hint=_FETCH)
        try:
            self.tokenizer: Tokenizer = Tokenizer.from_file(str(vocabulary))
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()
            self._sessions = [_session(model, one, threads) for one in given]
        except Exception as error:
            raise Misconfigured(
                f"the files of the model {_EMBEDDER!r} cannot be read: they are damaged or another model's",
                hint=f"delete its folder and run: {_FETCH}",
                param="knowledge.models",
                code="model_damaged",
            ) from error
        self._heads = [{name: value for name, value in one.items() if name.startswith("head.")} for one in given]

    def run(self, encoded: Sequence[tuple[list[int], list[int]]]) -> NDArray[np.float32]:
        """Logits of one batch: the mean over the sets of changes."""
        import numpy as np

        width = max(len(ids) for ids, _ in encoded)
        ids = np.zeros((len(encoded), width), dtype=np.int64)
        kinds, mask = np.ones_like(ids), np.zeros_like(ids)
        for row, (tokens, which) in enumerate(encoded):
            ids[row, : len(tokens)], kinds[row, : len(tokens)], mask[row, : len(tokens)] = tokens, which, 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        asked = ((kinds == 0) & (mask == 1))[:, :, None]
        total = np.zeros(len(encoded), dtype=np.float32)
        for session, head in zip(self._sessions, self._heads, strict=True):
            states = np.asarray(session.run(None, inputs)[0], dtype=np.float32)
            total += _judged(states, asked, head)
        logits: NDArray[np.float32] = total / np.float32(len(self._heads))
        return logits


def _judged(
    states: NDArray[np.float32], asked: NDArray[np.bool_], head: dict[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Logits from the last states, ``(batch, tokens, 384)``."""
    import numpy as np

    pooled = np.concatenate([states[:, 0], (states * asked).sum(1) / asked.sum(1)], axis=1)
    hidden = pooled @ head["head.hidden.w"].T + head["head.hidden.b"]
    hidden = hidden * _normal(hidden)
    logits: NDArray[np.float32] = hidden @ head["head.logit.w"][0] + head["head.logit.b"][0]
    return logits


def _normal(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The normal distribution function, as GELU has it; by Abramowitz and Stegun 7.1.26, error below 2e-7."""
    import numpy as np

    z = np.abs(x) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    half = 0.5 * poly * np.exp(-z * z)
    result: NDArray[np.float32] = np.where(x >= 0, 1.0 - half, half).astype(np.float32)
    return result


def _read_changes(path: Path) -> dict[str, NDArray[np.float32]]:
    """Our trained part as float32 by name. Raises: Misconfigured when it is not the published one."""
    import numpy as np

    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256.get(path.name):
            raise ValueError("another SHA-256")
        with np.load(path) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Misconfigured(
            f"the reader's file {path.name!r} is damaged or another version's",
            hint="install interlock again, or set knowledge.reader: none",
            param="knowledge.reader",
            code="reader_damaged",
        ) from error


def _session(model: Path, given: dict[str, NDArray[np.float32]], threads: int) -> ort.InferenceSession:
    """The embedder's network with changed matrices."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The bytes are changed in place: an initializer that is handed over beside the file comes after constant folding.
    file = bytearray(model.read_bytes())
    weights = read_weights(file)
    weights.tensors[_KINDS][...] = given["kinds"]
    for (layer, place), matrix in weights.matrices.items():
        _change(matrix, given[f"{layer}.{place}.down"], given[f"{layer}.{place}.up"])
    return ort.InferenceSession(bytes(file), options, providers=["CPUExecutionProvider"])


def _change(matrix: Matrix, down: NDArray[np.float32], up: NDArray[np.float32]) -> None:
    """Add ``(up @ down).T`` to the matrix, in int8 again with a step for each column."""
    import numpy as np

    values = matrix.values.astype(np.float32) * matrix.steps + (up @ down).T
    steps = np.maximum(np.abs(values).max(axis=0, keepdims=True), 1e-8) / 127.0
    matrix.values[...] = np.rint(values / steps).astype(np.int8)
    matrix.steps[...] = steps


class _Plugin:
    def open(self, models: Path, *, threads: int) -> Reader:
        return MiniLMReader(models / _EMBEDDER, threads=threads)


plugin = _Plugin()
