"""Any sentence encoder in a folder, by onnxruntime: what sentence-transformers exports, or the same files by hand.

Read are ``tokenizer.json`` and ``model.onnx`` (or ``onnx/model.onnx``), and where they are there:
``1_Pooling/config.json`` (mean, first or last token), ``config_sentence_transformers.json`` (prompts for questions and
passages), ``sentence_bert_config.json`` or ``tokenizer_config.json`` (longest text). Weights in other formats are never
loaded.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from anyio import to_thread

from interlock.core.errors import InvalidInput, Misconfigured, ModelMissing, TooLarge
from interlock.core.ports import Embedder, TokenVectors
from interlock.knowledge.embedders._alone import alone
from interlock.knowledge.embedders._batches import batches
from interlock.knowledge.embedders._tokens import token_vectors
from interlock.knowledge.extras import needs_extra

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

__all__ = ["OnnxEmbedder", "plugin"]

_LONGEST = 8192
"""Whatever a folder says, no text has more tokens: tokenizers write 10^30 for "no limit"."""
_USUAL = 512
_SMALL_FILE = 1_000_000

Pooling = Literal["mean", "cls", "last"]


class _Card(NamedTuple):
    """What the files beside the weights say."""

    pooling: Pooling
    query: str
    passage: str
    max_tokens: int


class OnnxEmbedder:
    """L2-normalised vectors of one folder's model. Loads on first use and may be shared between threads.

    Args:
        folder: see the module.
        threads: CPU threads of one batch.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._loading = threading.RLock()  # two first callers must not load the weights twice

    @cached_property
    def id(self) -> str:
        """Identity of the space: the weights' digest, how they are pooled, and the prompts."""
        digest = hashlib.sha256()
        with self._weights.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        card = self._card
        prompts = hashlib.sha256(f"{card.query}\0{card.passage}".encode()).hexdigest()[:8]
        return f"onnx:{digest.hexdigest()[:16]}:{card.pooling}:{prompts}"

    @property
    def dimensions(self) -> int:
        """Length of a vector; loads the model."""
        width = self._session.get_outputs()[self._output].shape[-1]
        if not isinstance(width, int):
            raise self._odd("its output has no fixed width")
        return width

    @property
    def max_tokens(self) -> int:
        """Of the model, less its marks and the longer prompt."""
        return self._card.max_tokens - self._taken

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without marks and prompt. Raises: ModelMissing, Misconfigured."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), dimensions)`` float32, L2-normalised, in input order. CPU heavy, in worker threads.

        Raises: TooLarge, ModelMissing, MissingExtra, Misconfigured (damaged, or no sentence encoder).
        """
        with needs_extra("onnx"):
            import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        if len(texts) == 1:
            known = "_tokenizer" in self.__dict__ and "_card" in self.__dict__
            return await alone(lambda: self._encode(list(texts), kind), self._run, now=known)
        encodings = await to_thread.run_sync(self._encode, list(texts), kind)
        for rows in batches([len(encoding.ids) for encoding in encodings]):
            vectors[rows] = await to_thread.run_sync(self._run, [encodings[row] for row in rows])
        return vectors

    def tokens_of(self, text: str) -> Sequence[str]:
        """See :class:`interlock.core.ports.TokenEmbedder`."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).tokens)

    async def embed_tokens(self, texts: Sequence[str]) -> Sequence[TokenVectors]:
        """See :class:`interlock.core.ports.TokenEmbedder`. Raises: Misconfigured: the model pools by itself."""
        encodings = await to_thread.run_sync(self._encode, list(texts), "passage")
        prompt = self.count_tokens(self._card.passage) if self._card.passage else 0
        found: dict[int, TokenVectors] = {}
        for rows in batches([len(encoding.ids) for encoding in encodings]):
            batch = [encodings[row] for row in rows]
            hidden, _ = await to_thread.run_sync(self._given, batch)
            if hidden.ndim != 3:
                raise self._odd("it gives one vector a text, and none of its tokens")
            for row, own, encoding in zip(rows, hidden, batch, strict=True):
                found[row] = token_vectors(own, encoding, skip=prompt)
        return [found[row] for row in range(len(encodings))]

    def _encode(self, texts: list[str], kind: Literal["query", "passage"]) -> list[Encoding]:
        prompt = self._card.query if kind == "query" else self._card.passage
        encodings = list(self._tokenizer.encode_batch([prompt + text for text in texts]))
        for encoding in encodings:
            if len(encoding.ids) > self._card.max_tokens:
                raise TooLarge(
                    f"a text of {len(encoding.ids) - self._taken} tokens is longer than the {self.max_tokens} that the "
                    "embedding model reads whole",
                    hint="split it into shorter passages",
                )
        return encodings

    def _run(self, encodings: list[Encoding]) -> NDArray[np.float32]:
        import numpy as np

        found, mask = self._given(encodings)
        pooled = found if found.ndim == 2 else self._pooled(found, mask)
        if pooled.ndim != 2 or not np.isfinite(pooled).all():
            raise self._odd("it gives no vectors")
        unit: NDArray[np.float32] = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return unit

    def _given(self, encodings: list[Encoding]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What the model gives, and which places are tokens."""
        import numpy as np

        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        wanted = {node.name for node in self._session.get_inputs()}
        if not wanted <= given.keys():
            raise self._odd(f"it wants {', '.join(sorted(wanted - given.keys()))}")
        outputs = self._session.run(None, {name: value for name, value in given.items() if name in wanted})
        return np.asarray(outputs[self._output], dtype=np.float32), mask

    def _pooled(self, hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        import numpy as np

        if self._card.pooling == "cls":
            first: NDArray[np.float32] = hidden[:, 0]
            return first
        if self._card.pooling == "last":
            last: NDArray[np.float32] = hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
            return last
        weights = mask[:, :, None].astype(np.float32)
        mean: NDArray[np.float32] = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return mean

    # ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _weights(self) -> Path:
        for name in ("model.onnx", "onnx/model.onnx"):
            if (self._folder / name).is_file():
                return self._folder / name
        raise ModelMissing(
            f"the folder {self._folder.name!r} of embedding models has no 'model.onnx'",
            param="knowledge.embedder_model",
            hint="export it with: optimum-cli export onnx --model NAME FOLDER",
        )

    @cached_property
    def _card(self) -> _Card:
        pooling = self._json("1_Pooling/config.json")
        prompts = self._json("config_sentence_transformers.json").get("prompts") or {}
        longest = self._json("sentence_bert_config.json").get("max_seq_length")
        longest = longest or self._json("tokenizer_config.json").get("model_max_length") or _USUAL
        chosen: Pooling = "mean"
        if pooling.get("pooling_mode_cls_token"):
            chosen = "cls"
        elif pooling.get("pooling_mode_lasttoken"):
            chosen = "last"
        passage = prompts.get("passage") or prompts.get("document") or ""
        limit = int(min(longest, _LONGEST)) if isinstance(longest, int | float) else _USUAL
        return _Card(chosen, str(prompts.get("query") or ""), str(passage), limit)

    # Any: JSON that somebody else wrote.
    def _json(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        if not path.is_file():
            return {}
        if path.stat().st_size > _SMALL_FILE:
            raise self._odd(f"{name} is too large")
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise self._odd(f"{name} cannot be read") from error
        return found if isinstance(found, dict) else {}

    @cached_property
    def _taken(self) -> int:
        """Tokens of the longer prompt with the marks."""
        card = self._card
        return max(len(self._tokenizer.encode(prompt).ids) for prompt in (card.query, card.passage))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        with self._loading, needs_extra("onnx"):
            from tokenizers import Tokenizer

            path = self._folder / "tokenizer.json"
            if not path.is_file():
                raise ModelMissing(
                    f"the folder {self._folder.name!r} of embedding models has no 'tokenizer.json'",
                    param="knowledge.embedder_model",
                )
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:
                raise self._odd("tokenizer.json cannot be read") from error
            # Published files often cut; we refuse instead.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return tokenizer

    @cached_property
    def _session(self) -> ort.InferenceSession:
        with self._loading, needs_extra("onnx"):
            import onnxruntime as ort

            options = ort.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            try:
                return ort.InferenceSession(str(self._weights), options, providers=["CPUExecutionProvider"])
            except ModelMissing:
                raise
            except Exception as error:
                raise self._odd("model.onnx cannot be read") from error

    @cached_property
    def _output(self) -> int:
        names = [node.name for node in self._session.get_outputs()]
        return names.index("sentence_embedding") if "sentence_embedding" in names else 0

    def _odd(self, what: str) -> Misconfigured:
        return Misconfigured(
            f"the embedding model in {self._folder.name!r} cannot be used: {what}",
            param="knowledge.embedder_model",
            code="model_damaged",
        )


class _Plugin:
    def open(self, models: Path, *, threads: int, model: str = "") -> Embedder:
        folder = models / model
        if not model or not folder.resolve().is_relative_to(models.resolve()):
            raise InvalidInput(
                "the embedder 'onnx' needs a folder below knowledge.models",
                param="knowledge.embedder_model",
                hint="embedder_model: my-encoder",
            )
        return OnnxEmbedder(folder, threads=threads)


plugin = _Plugin()
