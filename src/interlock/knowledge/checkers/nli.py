"""An entailment model of the user's own: a folder with `model.onnx`, `tokenizer.json` and `config.json`.

Any cross-encoder for natural language inference in ONNX form works whose `config.json` names its labels (`id2label`
with one label that begins with "entail"). The passage is the premise, the claim the hypothesis; a long passage is
read in windows of sentences around the nearest one, and the best window counts.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anyio import to_thread

from interlock.core.errors import Misconfigured, ModelMissing
from interlock.knowledge.extras import needs_extra
from interlock.knowledge.ports import AskModel, Checker
from interlock.knowledge.types import SupportCase, SupportScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

__all__ = ["NliChecker", "plugin"]

_FILES = ("model.onnx", "tokenizer.json", "config.json")
_LONGEST = 512
"""Tokens of premise and hypothesis together, unless the model's own limit is lower."""
_HYPOTHESIS = 128
_WINDOW = 2
"""Sentences on either side of the nearest one."""


class NliChecker:
    """One run of the model for each claim and window. Loads on first use; may be shared between threads."""

    threshold = 0.5

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._folder = folder
        self._threads = threads
        self._loaded: _Loaded | None = None
        self._loading = threading.Lock()  # two first callers must not load the weights twice

    @property
    def id(self) -> str:
        """The digest of its three files; reads them again when one changed. Raises: ModelMissing."""
        stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in self._paths())
        return f"nli:{self._folder.name}:sha256:{_digest(self._folder, stamps)}"

    async def check(self, cases: Sequence[SupportCase], ask: AskModel | None = None) -> list[SupportScore]:
        """See `Checker`. Worker threads, one claim each: cancelling takes effect between two of them."""
        if not cases:
            return []
        loaded = await to_thread.run_sync(self._load)
        return [await to_thread.run_sync(loaded.judge, case) for case in cases]

    def _paths(self) -> list[Path]:
        paths = [self._folder / name for name in _FILES]
        for path in paths:
            if not path.is_file():
                raise ModelMissing(
                    f"the entailment model {self._folder.name!r} is not here: no {path.name!r}",
                    hint=f"put {', '.join(_FILES)} into {self._folder.name!r} in the models folder, "
                    "or choose another answer.checker",
                )
        return paths

    def _load(self) -> _Loaded:
        with self._loading:
            if self._loaded is None:
                with needs_extra(f"the checker 'nli' ({self._folder.name})"):
                    self._loaded = _Loaded(self._paths(), self._threads)
            return self._loaded


@lru_cache(maxsize=32)
def _digest(folder: Path, stamps: tuple[tuple[int, int], ...]) -> str:
    """Of the model's files; `stamps` only says when it must be taken again."""
    total = hashlib.sha256()
    for name in _FILES:
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


class _Labels(NamedTuple):
    entailment: int
    contradiction: int | None


class _Loaded:
    def __init__(self, paths: Sequence[Path], threads: int) -> None:
        import onnxruntime as ort
        from tokenizers import Tokenizer

        model, vocabulary, config = paths
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            facts = json.loads(config.read_text("utf-8"))
            self._labels = _labels(facts["id2label"])
            limit = facts.get("max_position_embeddings")
            self._limit = min(_LONGEST, limit if isinstance(limit, int) and limit > 0 else _LONGEST)
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(vocabulary))
            self._tokenizer.no_padding()
            self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            self._inputs = {given.name for given in self._session.get_inputs()}
            if "input_ids" not in self._inputs:
                raise ValueError("no input 'input_ids'")
        # onnxruntime and tokenizers raise bare Exceptions of many kinds for broken files.
        except Exception as error:
            raise Misconfigured(
                f"the entailment model {model.parent.name!r} cannot be used: a file is damaged, "
                "or config.json names no label that begins with 'entail'",
                hint="export it as an ONNX sequence classifier with its tokenizer.json and config.json (id2label)",
                param="answer.checker.model",
                code="model_damaged",
            ) from error

    def judge(self, case: SupportCase) -> SupportScore:
        """The best of the whole passage, its neighbourhood of the nearest sentence, and that sentence."""
        at = case.nearest
        near = case.sentences[max(0, at - _WINDOW) : at + _WINDOW + 1]
        windows = list(dict.fromkeys([" ".join(case.sentences), " ".join(near), case.sentences[at]]))
        rows = [self._probabilities(text, case.claim) for text in windows]
        best = max(rows, key=lambda row: float(row[self._labels.entailment]))
        entailed = float(best[self._labels.entailment])
        if entailed >= NliChecker.threshold:
            return SupportScore(round(entailed, 4), "ok")
        other = self._labels.contradiction
        against = other is not None and any(float(row[other]) >= NliChecker.threshold for row in rows)
        return SupportScore(round(entailed, 4), "contradicted" if against else "unstated")

    def _probabilities(self, premise: str, hypothesis: str) -> NDArray[np.float32]:
        import numpy as np

        # The claim is cut to its bound by us, so that only the premise can be truncated away.
        said = self._tokenizer.encode(hypothesis, add_special_tokens=False)
        if len(said.ids) > _HYPOTHESIS:
            hypothesis = hypothesis[: said.offsets[_HYPOTHESIS][0]]
        self._tokenizer.enable_truncation(self._limit, strategy="only_first")
        encoded = self._tokenizer.encode(premise, hypothesis)
        given = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.type_ids,
        }
        feed = {name: np.array([ids], dtype=np.int64) for name, ids in given.items() if name in self._inputs}
        logits = np.asarray(self._session.run(None, feed)[0], dtype=np.float32)[0]
        grown = np.exp(logits - logits.max())
        result: NDArray[np.float32] = grown / grown.sum()
        return result


def _labels(named: dict[str, str]) -> _Labels:
    """Which output means what. Raises: ValueError: no entailment among them."""
    places = {str(label).lower(): int(place) for place, label in named.items()}
    entailment = [place for label, place in places.items() if label.startswith("entail")]
    if len(entailment) != 1:
        raise ValueError("config.json names no single entailment label")
    against = [place for label, place in places.items() if label.startswith("contra")]
    return _Labels(entailment[0], against[0] if against else None)


class _Plugin:
    needs_model = False

    def open(self, name: str, *, models: Path, threads: int) -> Checker:
        if not name or Path(name).name != name or name in {".", ".."}:
            raise Misconfigured(
                f"the checker 'nli' needs the name of a folder in the models folder, not {name!r}",
                param="answer.checker.model",
                hint="put model.onnx, tokenizer.json and config.json into one and name it",
            )
        return NliChecker(models / name, threads=threads)


plugin = _Plugin()
