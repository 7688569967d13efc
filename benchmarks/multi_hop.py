"""A made-up country of companies, people, teams and products, and questions that need two of its documents.

The first document says what the thing is that the question means (the company that somebody works for), the second what
is asked of it. Every fact is said in one of several ways, about half of which no rule of `knowledge/graph/phrases.py`
knows; forty documents of each kind say the same of others. The same folder always, written by `write`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

__all__ = ["write"]

_FIRST = "Marta Per Ines Tomas Anouk Yusuf Greta Leif Oona Silas Petra Ravi Noor Emil Dalia Bruno Hilde Kofi Lena Marek"
_LAST = "Olin Brandt Vasko Imre Tally Quist Oduya Ferro Hale Sørby Nyman Cask Revell Ostrow Penn Lindqvist Zavala Amadi"
_PLACES = "Torvik Halden Brask Ostrava Merrow Lunde Calder Vesper Rauma Stenby Arlo Pellworm Dunmore Kilda Varn Ebbe"
_STEMS = "Nord Basalt Kestrel Amber Quill Tidal Cobalt Harrow Linden Marlow Sable Thorn Umber Vellum Wren Yarrow Zephyr"
_KINDS = ("Freight", "Systems", "Energy", "Foods", "Optics", "Textiles", "Labs", "Mills")
_TEAMS = ("Guild", "Crew", "Desk", "Circle")
_STUDIES = (
    "geology",
    "law",
    "botany",
    "acoustics",
    "economics",
    "printing",
    "chemistry",
    "navigation",
    "music",
    "statistics",
)
_FILL = (
    "Visitors sign the book at the door and get a badge for the day.",
    "The canteen opens at seven, and on Fridays there is fish.",
    "A report is written every quarter and kept for ten years.",
    "Nobody has yet complained about the new lamps in the yard.",
    "The old archive was moved to the cellar after the flood.",
    "Colleagues speak well of the morning meetings, which are short.",
    "Parking is free for bicycles; cars need a permit from the porter.",
    "In winter the heating is switched on by the caretaker himself.",
)
_EMPLOYED = (
    "{a} works for {b}.",
    "{a} joined {b} eleven years ago.",
    "{a} has drawn a salary from {b} since leaving school.",
    "Most days one finds {a} at a window seat in the rooms of {b}.",
)
_BASED = (
    "{a} is based in {b}.",
    "{a} is headquartered in {b}.",
    "The windows of {a} look out over the harbour of {b}.",
    "Letters to {a} go to a yellow building in {b}.",
)
_FOUNDED = (
    "{a} was founded by {b}.",
    "{b} founded {a} with a loan from an aunt.",
    "{a} began in the garage of {b}.",
    "It was {b} who signed the first papers of {a}.",
)
_MAKER = (
    "{a} is made by {b}.",
    "{b} sells {a} to schools and ships.",
    "{a} comes off the benches of {b}.",
    "On the back of every {a} one reads the name {b}.",
)
_HEAD = (
    "{a} is led by {b}.",
    "The head of the {a} is {b}.",
    "In the {a}, {b} has the last word.",
    "{b} draws up the rota of the {a}.",
)
_STUDIED = (
    "{a} studied {b} before anything else.",
    "{a} holds a degree in {b}.",
    "At the university {a} read {b}.",
    "{a} came to this trade from {b}.",
)
_LOOKS_AFTER = (
    "The {a} maintains {b}.",
    "{b} is looked after by the {a}.",
    "When {b} stops, the telephone of the {a} rings.",
    "Repairs of {b} are a matter for the {a}.",
)
_COMES_AFTER = (
    "{a} replaces {b}.",
    "{b} was superseded by {a}.",
    "Where {b} stood for years there is now {a}.",
    "Those who knew {b} will feel at home with {a}.",
)
_QUESTIONS = {
    "employer city": "In which city is the company based that {0} works for?",
    "maker founder": "Who founded the company that makes {0}?",
    "head studies": "What did the person study who leads the {0}?",
    "team product": "Which older product was replaced by the one that the {0} looks after?",
    "maker city": "Where does the maker of {0} have its headquarters?",
}


def write(folder: Path, *, size: int = 40, seed: int = 5) -> None:
    """Write ``corpus.jsonl`` and ``questions.jsonl`` in the shape of `interlock knowledge eval`.

    Args:
        size: companies, people, teams and products, each.
    """
    draw = random.Random(seed)
    people = draw.sample([f"{a} {b}" for a in _FIRST.split() for b in _LAST.split()], size)
    firms = draw.sample([f"{a} {b}" for a in _STEMS.split() for b in _KINDS], size)
    teams = draw.sample([f"{a} {b}" for a in _PLACES.split() for b in _TEAMS], size)
    goods = draw.sample([f"{a} {n}" for a in _STEMS.split() for n in range(2, 9)], 2 * size)
    goods, older = goods[:size], goods[size:]
    documents: list[tuple[str, str, str]] = []

    def add(kind: str, number: int, title: str, facts: Sequence[str]) -> None:
        told = [*facts, *draw.sample(_FILL, 4)]
        draw.shuffle(told)
        documents.append((f"{kind}-{number}", title, " ".join(told)))

    def say(ways: Sequence[str], a: str, b: str) -> str:
        return draw.choice(ways).format(a=a, b=b)

    employer = [draw.randrange(size) for _ in range(size)]
    maker = [draw.randrange(size) for _ in range(size)]
    leader = draw.sample(range(size), size)
    tended = draw.sample(range(size), size)
    for n in range(size):
        add(
            "person",
            n,
            people[n],
            [say(_EMPLOYED, people[n], firms[employer[n]]), say(_STUDIED, people[n], draw.choice(_STUDIES))],
        )
        add(
            "firm",
            n,
            firms[n],
            [say(_BASED, firms[n], draw.choice(_PLACES.split())), say(_FOUNDED, firms[n], draw.choice(people))],
        )
        add(
            "team",
            n,
            teams[n],
            [say(_HEAD, teams[n], people[leader[n]]), say(_LOOKS_AFTER, teams[n], goods[tended[n]])],
        )
        add("product", n, goods[n], [say(_MAKER, goods[n], firms[maker[n]]), say(_COMES_AFTER, goods[n], older[n])])
    asked: list[tuple[str, str, list[str]]] = []
    for n in range(size):
        asked += [
            ("employer city", people[n], [f"person-{n}", f"firm-{employer[n]}"]),
            ("maker founder", goods[n], [f"product-{n}", f"firm-{maker[n]}"]),
            ("head studies", teams[n], [f"team-{n}", f"person-{leader[n]}"]),
            ("team product", teams[n], [f"team-{n}", f"product-{tended[n]}"]),
            ("maker city", goods[n], [f"product-{n}", f"firm-{maker[n]}"]),
        ]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for name, title, text in documents:
            file.write(json.dumps({"_id": name, "title": title, "text": f"# {title}\n\n{text}"}) + "\n")
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for number, (kind, start, relevant) in enumerate(draw.sample(asked, len(asked))):
            row = {"id": f"{kind}-{number}", "query": _QUESTIONS[kind].format(start), "relevant": relevant}
            file.write(json.dumps(row) + "\n")
