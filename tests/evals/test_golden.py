"""Judging an answer against the places that hold what was asked."""

from interlock.core.answers import Answer
from interlock.core.passages import Citation, Span
from interlock.evals.golden.judging import judge
from interlock.evals.golden.types import Case


def answered(*quotes: tuple[str, str]) -> Answer:
    """An answer that cites these documents and quotes."""
    citations = tuple(
        Citation(
            marker=n, passage_id=f"p{n}", document_id=source, document_digest=source, source=source, title=source,
            page=None, span=Span(0, len(quote)), quote=quote, support="supported", score=1.0,
        )
        for n, (source, quote) in enumerate(quotes, 1)
    )  # fmt: skip
    return Answer(
        text=" ".join(quote for _, quote in quotes), sentences=(), citations=citations, outcome="extracted",
        decline_reason="", answerability=0.9, passages=(), snapshot="", conflicts=(), degraded="",
    )  # fmt: skip


CASE = Case.model_validate(
    {
        "id": "q1", "kind": "double", "question": "How long may it last, and who agrees?", "as": "guest",
        "answerable": True, "facts": [["8 hours"]],
        "gold": [
            {"document": "guide.md", "quote": "A pause may last up to 8 hours.", "place": 1},
            {"document": "news.md", "quote": "Pauses of 8 hours are possible now.", "place": 1},
            {"document": "guide.md", "quote": "The shift lead agrees to every pause."},
        ],
    }
)  # fmt: skip
LASTS = ("guide.md", "A pause may last up to 8 hours.")
NEWS = ("news.md", "Pauses of 8 hours are possible now.")
AGREES = ("guide.md", "The shift lead agrees to every pause.")


def judged(*quotes: tuple[str, str]) -> tuple[bool, bool]:
    """Whether any and whether every place is cited."""
    found = judge(CASE, answered(*quotes), forbidden=lambda source: False)
    return found.cited_any, found.cited_all


def test_one_statement_of_a_place_stands_for_the_place():
    assert judged(LASTS, AGREES) == (True, True)
    assert judged(NEWS, AGREES) == (True, True)


def test_a_place_that_no_citation_overlaps_is_missing():
    assert judged(LASTS, NEWS) == (True, False)
    assert judged(AGREES) == (True, False)
    assert judged(("other.md", LASTS[1])) == (False, False)
