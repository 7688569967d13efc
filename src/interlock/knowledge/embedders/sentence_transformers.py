"""Any sentence-transformers model in a folder, by its own library: for models without an ONNX export. Needs torch.

Only safetensors are loaded, nothing is fetched, and no code that comes with a model is run.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anyio import to_thread

from interlock.core.errors import InvalidInput, Misconfigured, MissingExtra, ModelMissing, TooLarge
from interlock.core.ports import Embedder
from interlock.knowledge.embedders._batches import batches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SentenceTransformersEmbedder", "plugin"]

_NAME = "sentence_transformers"
_LONGEST = 8192
"""Whatever a folder says, no text has more tokens."""
_READ = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What decides a vector: weights, modules and their settings, prompts, vocabularies."""
_PROMPTS = {"query": ("query",), "passage": ("passage", "document")}


class SentenceTransformersEmbedder:
    """L2-normalised vectors of one folder's model. Loads on first use and may be shared between threads.

    Args:
        folder: as the library saves it.
        threads: CPU threads of the process; torch has one number for all its models.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._loading = threading.RLock()  # two first callers must not load the weights twice
        # torch's modules keep state while they run.
        self._running = threading.Lock()

    @cached_property
    def id(self) -> str:
        """Identity of the space: a digest of every file that decides a vector."""
        digest = hashlib.sha256()
        for path in sorted({path for shape in _READ for path in self._folder.rglob(shape)}):
            digest.update(f"{path.relative_to(self._folder).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return f"sentence-transformers:{digest.hexdigest()[:16]}"

    @property
    def dimensions(self) -> int:
        """Length of a vector; loads the model."""
        width = self._model.get_embedding_dimension()
        if not isinstance(width, int):
            raise self._odd("it does not say how long its vectors are")
        return width

    @cached_property
    def max_tokens(self) -> int:
        """Of the model, less its marks and the longer prompt."""
        longest = self._model.max_seq_length
        most = min(longest, _LONGEST) if isinstance(longest, int) else _LONGEST
        return int(most) - max(self._count(self._prompt(kind), marks=True) for kind in ("query", "passage"))

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` without marks and prompt. Raises: as `embed`."""
        return self._count(text, marks=False)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        """``(len(texts), dimensions)`` float32, L2-normalised, in input order. CPU heavy, in worker threads.

        Raises: TooLarge, ModelMissing, MissingExtra, Misconfigured (damaged, or no sentence encoder).
        """
        counts = await to_thread.run_sync(lambda: [self.count_tokens(text) for text in texts])
        for count in counts:
            if count > self.max_tokens:
                raise TooLarge(
                    f"a text of {count} tokens is longer than the {self.max_tokens} that the embedding model reads "
                    "whole",
                    hint="split it into shorter passages",
                )
        import numpy as np

        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for rows in batches(counts):
            vectors[rows] = await to_thread.run_sync(self._run, [texts[row] for row in rows], kind)
        return vectors

    def _run(self, texts: list[str], kind: Literal["query", "passage"]) -> NDArray[np.float32]:
        import numpy as np

        with self._running:
            found = self._model.encode(
                [self._prompt(kind) + text for text in texts],
                prompt="",
                batch_size=len(texts),
                convert_to_numpy=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        vectors = np.asarray(found, dtype=np.float32)
        if not np.isfinite(vectors).all():
            raise self._odd("it gives no vectors")
        return vectors

    def _prompt(self, kind: str) -> str:
        prompts = self._model.prompts or {}
        return next((str(prompts[name]) for name in _PROMPTS[kind] if prompts.get(name)), "")

    def _count(self, text: str, *, marks: bool) -> int:
        return len(self._model.tokenizer(text, add_special_tokens=marks, truncation=False)["input_ids"])

    # Any: the library is not there where types are checked.
    @cached_property
    def _model(self) -> Any:
        with self._loading:
            if not (self._folder / "modules.json").is_file():
                raise ModelMissing(
                    f"the folder {self._folder.name!r} of embedding models has no 'modules.json'",
                    param="knowledge.embedder_model",
                    hint="save it with: SentenceTransformer(NAME).save_pretrained(FOLDER)",
                )
            try:
                import torch
                from sentence_transformers import SentenceTransformer
            except ModuleNotFoundError as error:
                raise MissingExtra(
                    f"{_NAME} needs the library {error.name!r}", hint="pip install 'interlock[torch]'"
                ) from error
            torch.set_num_threads(self._threads)
            try:
                return SentenceTransformer(
                    str(self._folder),
                    device="cpu",
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"use_safetensors": True},
                )
            except Exception as error:
                # OSError, KeyError, ValueError, and what each architecture raises of its own.
                raise self._odd("it cannot be read") from error

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
                f"the embedder {_NAME!r} needs a folder below knowledge.models",
                param="knowledge.embedder_model",
                hint="embedder_model: my-encoder",
            )
        return SentenceTransformersEmbedder(folder, threads=threads)


plugin = _Plugin()
