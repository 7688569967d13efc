"""all-MiniLM-L6-v2, int8, by onnxruntime: 384 dimensions, 22 MB, English, no torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyio import to_thread

from interlock.core.errors import Misconfigured, ModelMissing, TooLarge
from interlock.core.ports import Embedder, TokenVectors
from interlock.knowledge.embedders._alone import alone
from interlock.knowledge.embedders._batches import run_batches
from interlock.knowledge.embedders._tokens import token_vectors
from interlock.knowledge.extras import needs_extra

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime as ort
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

__all__ = ["MiniLM", "plugin"]

_NAME = "minilm-l6-int8"
_FETCH = f"interlock models fetch {_NAME}"


class MiniLM:
    """Mean-pooled, L2-normalised sentence vectors. Loads on first use and may be shared between threads.

    The int8 model scales activations per batch, so one text's vector moves by about 0.001 cosine with its batch.
    """

    id = "all-minilm-l6-v2:int8:mean:no-prefix"
    dimensions = 384
    max_tokens = 254
    """256 positions as trained, less [CLS] and [SEP]."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._tokenizer: Tokenizer | None = None
        self._sessions: dict[int, ort.InferenceSession] = {}
        """By threads: all of them for one text, one for each of many batches."""
        self._loading = threading.Lock()  # two first callers must not load the weights twice

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without [CLS] and [SEP]. Reads the vocabulary on first use. Raises: ModelMissing."""
        return len(self._load_tokenizer().encode(text, add_special_tokens=False).ids)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), 384)`` float32, L2-normalised, in input order; about 2,500 tokens a CPU-second.

        This model takes no prefix, so queries and passages are read alike. Batches are built by length and run in
        worker threads: cancelling takes effect between two of them.
        Raises: TooLarge, ModelMissing, Misconfigured (damaged weights).
        """
        with needs_extra(_NAME):
            import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if not texts:
            return vectors
        if len(texts) == 1:
            return await alone(lambda: self._encode(list(texts)), self._run_alone, now=self._tokenizer is not None)
        encodings = await to_thread.run_sync(self._encode, list(texts))
        # Threads that share one batch wait for each other at every step of it, and for whatever else has their core:
        # they take batches of their own.
        session = await to_thread.run_sync(self._load_session, 1)

        def run(rows: list[int]) -> None:
            vectors[rows] = self._run([encodings[row] for row in rows], session)

        await run_batches([len(encoding.ids) for encoding in encodings], run, workers=self._threads)
        return vectors

    def tokens_of(self, text: str) -> Sequence[str]:
        """See :class:`interlock.core.ports.TokenEmbedder`."""
        return list(self._load_tokenizer().encode(text, add_special_tokens=False).tokens)

    async def embed_tokens(self, texts: Sequence[str]) -> Sequence[TokenVectors]:
        """See :class:`interlock.core.ports.TokenEmbedder`. The vectors of the last layer, before they are pooled."""
        encodings = await to_thread.run_sync(self._encode, list(texts))
        session = await to_thread.run_sync(self._load_session, 1)
        found: dict[int, TokenVectors] = {}

        def run(rows: list[int]) -> None:
            batch = [encodings[row] for row in rows]
            hidden, _ = self._hidden(batch, session)
            found.update(zip(rows, map(token_vectors, hidden, batch), strict=True))

        await run_batches([len(encoding.ids) for encoding in encodings], run, workers=self._threads)
        return [found[row] for row in range(len(encodings))]

    def _encode(self, texts: list[str]) -> list[Encoding]:
        encodings = list(self._load_tokenizer().encode_batch(texts))
        for encoding in encodings:
            if len(encoding.ids) > self.max_tokens + 2:
                raise TooLarge(
                    f"a text of {len(encoding.ids) - 2} tokens is longer than the {self.max_tokens} that "
                    f"{_NAME!r} reads whole",
                    hint="split it into shorter passages",
                )
        return encodings

    def _run_alone(self, encodings: list[Encoding]) -> NDArray[np.float32]:
        return self._run(encodings, self._load_session(self._threads))

    def _run(self, encodings: list[Encoding], session: ort.InferenceSession) -> NDArray[np.float32]:
        import numpy as np

        hidden, mask = self._hidden(encodings, session)
        weights = mask[:, :, None].astype(np.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: NDArray[np.float32] = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return unit

    @staticmethod
    def _hidden(
        encodings: list[Encoding], session: ort.InferenceSession
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """``(texts, tokens, 384)`` of the last layer, and which of them are tokens."""
        import numpy as np

        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return np.asarray(session.run(None, inputs)[0], dtype=np.float32), mask

    def _load_tokenizer(self) -> Tokenizer:
        with self._loading:
            if self._tokenizer is None:
                with needs_extra(_NAME):
                    from tokenizers import Tokenizer

                path = self._file("tokenizer.json")
                try:
                    tokenizer = Tokenizer.from_file(str(path))
                except Exception as error:
                    raise _damaged(path) from error
                # The published file cuts and pads at 128 tokens; we refuse instead of cutting.
                tokenizer.no_truncation()
                tokenizer.no_padding()
                self._tokenizer = tokenizer
            return self._tokenizer

    def _load_session(self, threads: int) -> ort.InferenceSession:
        with self._loading:
            if threads not in self._sessions:
                with needs_extra(_NAME):
                    import onnxruntime as ort

                path = self._file("model.onnx")
                options = ort.SessionOptions()
                options.intra_op_num_threads = threads
                options.inter_op_num_threads = 1
                options.log_severity_level = 3
                try:
                    self._sessions[threads] = ort.InferenceSession(
                        str(path), options, providers=["CPUExecutionProvider"]
                    )
                except Exception as error:
                    raise _damaged(path) from error
            return self._sessions[threads]

    def _file(self, name: str) -> Path:
        path = self._folder / name
        if not path.is_file():
            raise ModelMissing(f"the embedding model {_NAME!r} is not on this machine: no {name!r}", hint=_FETCH)
        return path


def _damaged(path: Path) -> Misconfigured:
    return Misconfigured(
        f"the file {path.name!r} of the model {_NAME!r} cannot be read: it is damaged or another model's",
        hint=f"delete its folder and run: {_FETCH}",
        param="knowledge.models",
        code="model_damaged",
    )


class _Plugin:
    def open(self, models: Path, *, threads: int, model: str = "") -> Embedder:
        return MiniLM(models / _NAME, threads=threads)


plugin = _Plugin()
