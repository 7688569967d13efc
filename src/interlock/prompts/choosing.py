"""Which few-shot examples go along with one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from interlock.core.ports import Embedder
from interlock.prompts.tokens import estimate_tokens
from interlock.prompts.types import Example, ExamplesSpec

__all__ = ["Nearness", "choose"]

Ranks = Sequence[int]
"""Places of the examples, best first."""
_MOST_KEPT = 20_000


class Nearness:
    """Ranks examples by how near they are to a question. Vectors of examples are kept: a release never changes them."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[tuple[str, str], list[float]] = {}

    async def ranks(self, examples: ExamplesSpec, question: str) -> Ranks:
        """Nearest first, equals in their order. Raises: ModelMissing and its kin."""
        vectors = await self._vectors([each.input for each in examples.rows])
        asked = await self._embedder.embed([self._short(question)], "query")
        wanted = [float(each) for each in asked[0]]
        scores = [sum(a * b for a, b in zip(wanted, vector, strict=True)) for vector in vectors]
        return sorted(range(len(scores)), key=lambda place: -scores[place])

    async def _vectors(self, texts: Sequence[str]) -> list[list[float]]:
        key = self._embedder.id
        missing = [text for text in dict.fromkeys(texts) if (key, text) not in self._known]
        if missing:
            if len(self._known) > _MOST_KEPT:
                self._known.clear()
                missing = list(dict.fromkeys(texts))
            made = await self._embedder.embed([self._short(text) for text in missing], "query")
            self._known.update(
                {(key, text): [float(each) for each in vector] for text, vector in zip(missing, made, strict=True)}
            )
        return [self._known[key, text] for text in texts]

    def _short(self, text: str) -> str:
        """Its beginning, as far as the model reads."""
        most = self._embedder.max_tokens
        while (count := self._embedder.count_tokens(text)) > most:
            text = text[: max(1, min(len(text) - 1, len(text) * most // count))]
        return text


def choose(examples: ExamplesSpec, values: Mapping[str, JsonValue], ranks: Ranks | None = None) -> list[Example]:
    """The examples of one request, in the order in which they are shown.

    Args:
        ranks: of all rows, nearest first, for `similar`; without it the first ones are taken.

    One that does not fit the token budget ends the list, so that a smaller budget never shows another set's rest. The
    nearest stands last, next to the question.
    """
    order = list(range(len(examples.rows)))
    if examples.select == "similar" and ranks is not None:
        order = list(ranks)
    if examples.select == "tag":
        wanted = {*examples.tags}
        if examples.tag_from is not None and values.get(examples.tag_from) is not None:
            wanted.add(str(values[examples.tag_from]))
        order = [place for place in order if wanted.intersection(examples.rows[place].tags)]
    if examples.select != "all":
        order = order[: examples.count]
    taken: list[int] = []
    spent = 0
    for place in order:
        row = examples.rows[place]
        spent += estimate_tokens(row.input) + estimate_tokens(row.output)
        if examples.max_tokens is not None and spent > examples.max_tokens:
            break
        taken.append(place)
    if examples.select == "similar" and ranks is not None:
        taken.reverse()
    return [examples.rows[place] for place in taken]
