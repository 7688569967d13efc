"""A cross-encoder of yours: a folder with `model.onnx` and `tokenizer.json` below `knowledge.models`.

What Hugging Face exports for ``cross-encoder/…`` or ``bge-reranker-…`` fits: inputs `input_ids`, `attention_mask` and
perhaps `token_type_ids`, output one logit a pair, or two of which the second says that it answers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from interlock.core.context import Context
from interlock.core.errors import Misconfigured, ModelMissing
from interlock.core.passages import Passage
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.retrieval.ports import Reranker, RerankerSurroundings
from interlock.knowledge.retrieval.types import StepFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CrossEncoder", "plugin"]

_LENGTH = 384
"""Tokens of a pair; most cross-encoders read 512."""
_BATCH = 8


class CrossEncoder:
    """One logit for each passage. Loads on first use and may be shared between threads.

    Args:
        folder: of `model.onnx` and `tokenizer.json`.
        threads: CPU threads of one batch.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._loaded: _Loaded | None = None
        self._loading = threading.Lock()  # two first callers must not load the weights twice

    async def rerank(self, ctx: Context, query: str, passages: Sequence[Passage]) -> Sequence[float]:
        """See `Reranker.rerank`. Runs in worker threads, eight pairs each: cancelling takes effect between two.

        Raises: ModelMissing, MissingExtra, Misconfigured (damaged files).
        """
        if not passages:
            return []
        loaded = await to_thread.run_sync(self._load)
        texts = [f"{passage.title}\n{passage.text}" if passage.title else passage.text for passage in passages]
        scores: list[float] = []
        for start in range(0, len(texts), _BATCH):
            ctx.deadline.check("reranking")
            scores += await to_thread.run_sync(loaded.run, query, texts[start : start + _BATCH])
        return scores

    def _load(self) -> _Loaded:
        with self._loading:
            if self._loaded is None:
                with needs_extra(self._folder.name):
                    self._loaded = _Loaded(self._folder, self._threads)
            return self._loaded


class _Loaded:
    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime as ort
        from tokenizers import Tokenizer

        for name in ("model.onnx", "tokenizer.json"):
            if not (folder / name).is_file():
                raise ModelMissing(
                    f"the reranker {folder.name!r} is not here: no {name!r}",
                    hint=f"put its model.onnx and tokenizer.json into {folder.name}/ in the folder of models",
                )
        try:
            # Of its own: a question alone cannot be cut as the second text of a pair is.
            self._questions = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._questions.no_truncation()
            self._questions.no_padding()
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.enable_truncation(_LENGTH, strategy="only_second")
            self._tokenizer.enable_padding()
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            self._session = ort.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise Misconfigured(
                f"the files of the reranker {folder.name!r} cannot be read: damaged, or no ONNX cross-encoder",
                hint="export it again, e.g. with optimum-cli export onnx --task text-classification",
                param="rerank.model",
                code="model_damaged",
            ) from error
        self._wanted = {given.name for given in self._session.get_inputs()}

    def run(self, query: str, texts: Sequence[str]) -> list[float]:
        import numpy as np

        asked = self._questions.encode(query, add_special_tokens=False)
        cut = asked.offsets[_LENGTH // 2 - 1][1] if len(asked.ids) > _LENGTH // 2 else len(query)
        encoded = self._tokenizer.encode_batch([(query[:cut], text) for text in texts])
        given: dict[str, NDArray[np.int64]] = {
            "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
        }
        try:
            logits = np.asarray(
                self._session.run(None, {name: v for name, v in given.items() if name in self._wanted})[0]
            )
            logits = logits.reshape(len(texts), -1)
        except Exception as error:
            raise StepFailed("the reranker's model does not read a question and a passage") from error
        if logits.shape[1] > 2:
            raise StepFailed("the reranker's model gives more than two figures for a pair")
        # Of two classes the difference, which is their log odds.
        found = logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]
        return [float(score) for score in found]


@lru_cache(maxsize=4)
def _encoder(folder: Path, threads: int) -> CrossEncoder:
    return CrossEncoder(folder, threads=threads)


class _Plugin:
    def open(self, given: RerankerSurroundings) -> Reranker:
        """See `RerankerPlugin.open`."""
        return _encoder(_folder(given.models, given.model), given.threads)

    def identity(self, models: Path, model: str) -> str:
        """See `RerankerPlugin.identity`: the digest of the weights and of the tokenizer."""
        digest = hashlib.sha256()
        for name in ("model.onnx", "tokenizer.json"):
            path = _folder(models, model) / name
            if not path.is_file():
                raise ModelMissing(f"the reranker {model!r} is not here: no {name!r}", hint="see rerank.model")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"onnx:{model}:sha256:{digest.hexdigest()}"


def _folder(models: Path, model: str) -> Path:
    if not model:
        raise StepFailed("rerank.model names no folder", skipped=True)
    folder = models / model
    if not folder.resolve().is_relative_to(models.resolve()):
        raise StepFailed("rerank.model must be a folder below knowledge.models")
    return folder


plugin = _Plugin()
