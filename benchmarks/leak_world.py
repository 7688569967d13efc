"""Random documents, people and rules for the leak suite, and the oracle that says who may read what.

The oracle shares no code with the product: it matches rules and closes groups by itself. Every document carries words
of its own (canaries) in its path, its title, its metadata and its text; a word that stands only in documents somebody
may not read must never reach that person.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["CANARY", "Document", "Person", "World"]

CANARY = re.compile(r"zq[a-z]{3,}")
"""In case-folded text; no word of any language looks like it."""
_LETTERS = "abdefghiklmnoprstuv"
_TOPICS = ("travel", "budget", "security", "hiring", "parental leave", "laptop", "vendor", "pension")
_FOOTER = "This page is maintained by the handbook team and is reviewed once a year by its owner."
_GERMAN = (
    "Reisen werden vorher beim Büro angemeldet, und die Abrechnung ist spätestens nach vier Wochen einzureichen. "
    "Über Ausnahmen entscheidet die Leitung der Abteilung, die ihre Entscheidung schriftlich begründet."
)
_OVERSIGHT = frozenset({"operator", "developer"})


@dataclass
class Document:
    """One file."""

    path: str
    topic: str
    year: int
    facts: dict[str, str]
    """Canaries that overseers may see: of the path, the title, the project in its metadata."""
    text: dict[str, str]
    """Canaries of the text."""
    past: set[str] = field(default_factory=set)
    """Canaries of the text of older versions, which its readers may still open."""
    twin: Document | None = None
    """Says the same, but for what `exact` leaves."""
    exact: bool = False
    version: int = 1
    german: bool = False
    """Has a second part in German."""

    def tokens(self) -> set[str]:
        """Every canary that reading this document shows."""
        return self.facts_shown() | self.words() | self.past

    def facts_shown(self) -> set[str]:
        """Those that an overseer is told."""
        if self.twin is None or not self.exact:
            return set(self.facts.values())
        return {self.facts["path"]} | (self.twin.facts_shown() - {self.twin.facts["path"]})

    def words(self) -> set[str]:
        """Those of its text."""
        if self.twin is None:
            return set(self.text.values())
        shared = self.twin.words()
        return shared if self.exact else (shared - {self.twin.text["figure"]}) | {self.text["figure"]}

    def markdown(self) -> str:
        """What stands in the file."""
        said, facts = self.text, self.facts
        if self.twin is not None:
            said = {**self.twin.text, **({} if self.exact else {"figure": said["figure"]})}
            facts = self.twin.facts if self.exact else facts
        own = self.twin if self.twin is not None and self.exact else self
        topic = (self.twin or self).topic
        head = f"project: {facts['project']}\nyear: {own.year}\nversion: {own.version}\nupdated: {own.year}-03-01"
        lines = (
            f"---\n{head}\n---",
            f"# The {topic} policy {facts['title']}\n",
            f"The {topic} policy of {said['name']} allows {own.year - 1900} pounds a journey of {said['figure']}.",
            f"The {said['long']} kilo mund ({said['short'].upper()}) decides about all {topic} requests within 9 days.",
            f"\n## Who answers for {said['section']}\n",
            f"Questions about {topic} go to {said['mail']}@example.com, and the {said['owner']} team answers them.",
            f"\n| Case | Limit |\n| --- | --- |\n| {said['row']} | {own.year} |\n",
            *((_GERMAN,) * 6 if self.german else ()),
            _FOOTER,
        )
        return "\n".join(lines) + "\n"


@dataclass
class Person:
    """Somebody who asks."""

    name: str
    direct: set[str]
    """Groups they are put into by hand."""
    roles: frozenset[str] = frozenset()

    @property
    def oversees(self) -> bool:
        """Sees the facts of all documents."""
        return bool(self.roles & _OVERSIGHT)


class World:
    """Documents, rules, groups within groups, people; and changes of all of them.

    Args:
        draw: every choice comes from it.
        documents: how many at first.
    """

    def __init__(self, draw: random.Random, documents: int = 48) -> None:
        self.draw = draw
        self._used: set[str] = set()
        self._starts: dict[str, str] = {}
        self.parents: dict[str, set[str]] = {}
        for number in range(9):
            above = draw.sample(range(number), k=min(number, draw.randint(0, 2)))
            self.parents[f"g{number}"] = {f"g{other}" for other in above}
        names = list(self.parents)
        self.people = [Person(f"u{n}", set(draw.sample(names, k=draw.randint(0, 2)))) for n in range(6)]
        self.people += [
            Person("nobody", set()),
            Person("operator", set(draw.sample(names, k=1)), frozenset({"operator"})),
            Person("reviewer", set(), frozenset({"reviewer"})),
        ]
        self.documents: list[Document] = []
        self.gone: set[str] = set()
        """What overseers were told of documents that are no more; snapshots still name them."""
        for _ in range(documents):
            self.add()
        self.rules: list[tuple[str, list[str]]] = []
        for document in draw.sample(self.documents, k=documents // 3):
            self.rules.append((document.path, self._readers()))
        for folder in sorted({f for d in self.documents for f in _folders(d.path)}, key=lambda f: -f.count("/")):
            if draw.random() < 0.8:
                self.rules.append((f"{folder}/**", self._readers()))

    # ── the oracle ────────────────────────────────────────────────────────────────────────────────────────────────

    def groups(self, person: Person) -> set[str]:
        """With the groups that those groups are in."""
        found: set[str] = set()
        todo = list(person.direct)
        while todo:
            group = todo.pop()
            if group not in found:
                found.add(group)
                todo += self.parents[group]
        return found

    def may_read(self, person: Person, document: Document) -> bool:
        """By the first rule that names the document; without one nobody may."""
        mine = {"public", f"user:{person.name}", *(f"group:{group}" for group in self.groups(person))}
        if person.name == "nobody":
            mine = {"public"}
        for pattern, readers in self.rules:
            if pattern == document.path or (pattern.endswith("/**") and document.path.startswith(pattern[:-2])):
                return bool(mine & set(readers))
        return False

    def allowed(self, person: Person, *, facts: bool) -> frozenset[str]:
        """Canaries this person may be shown.

        Args:
            facts: they may be told the facts of all documents here.
        """
        found: set[str] = set(self.gone) if facts else set()
        for document in self.documents:
            if self.may_read(person, document):
                found |= document.tokens()
            elif facts:
                found |= document.facts_shown()
        return frozenset(found)

    def leaked(self, person: Person, said: str, asked: str, *, facts: bool = False) -> set[str]:
        """Canaries in `said` that this person may not be shown and did not say in `asked`."""
        own = set(CANARY.findall(asked.casefold()))
        # What they said themselves may come back, and so may its stem.
        words = {word for word in CANARY.findall(said.casefold()) if not any(mine.startswith(word) for mine in own)}
        # The beginning of a word counts as well: titles and snippets are cut.
        found = {self._starts.get(word[:7], "") for word in words} | words
        found &= self._used
        return found - self.allowed(person, facts=facts) if found else found

    # ── changes ───────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self) -> Document:
        """One more document: new, or a copy, a near copy or a version of another."""
        draw = self.draw
        topic = draw.choice(_TOPICS)
        facts = {kind: self._canary() for kind in ("path", "title", "project")}
        folder = "/".join(("docs", f"t{draw.randint(0, 2)}", f"s{draw.randint(0, 2)}")[: draw.randint(1, 3)])
        document = Document(f"{folder}/{facts['path']}.md", topic, draw.randint(2018, 2026), facts, self._words())
        plain = [one for one in self.documents if one.twin is None]
        if plain and draw.random() < 0.4:
            other = draw.choice(plain)
            document.topic, document.year = other.topic, other.year
            how = draw.random()
            if how < 0.35:
                document.twin, document.exact = other, True
            elif how < 0.7:
                document.twin = other
            else:
                document.facts["project"], document.version = self._canary(), other.version + 1
        self.documents.append(document)
        return document

    def add_hidden(self, person: Person) -> Document:
        """One more document, in two languages, that this person may not read."""
        document = self.add()
        document.german = True
        strange = sorted(self.parents.keys() - self.groups(person))
        self.rules.insert(0, (document.path, [f"group:{self.draw.choice(strange)}"] if strange else []))
        return document

    def edit(self) -> Document:
        """Another text for one document that no copy was made of."""
        bases = {id(one.twin) for one in self.documents}
        free = [one for one in self.documents if one.twin is None and id(one) not in bases]
        document = self.draw.choice(free or self.documents[:1])
        if id(document) not in bases:
            document.past |= document.words()
            document.text = self._words()
        return document

    def remove(self) -> str:
        """Take one document away and give its path."""
        bases = {id(one.twin) for one in self.documents}
        document = self.draw.choice([one for one in self.documents if id(one) not in bases])
        self.documents.remove(document)
        self.gone |= document.facts_shown()
        return document.path

    def change_rule(self) -> None:
        """Other readers for one rule, or a rule of its own for one document: rights come and go."""
        if self.draw.random() < 0.5:
            place = self.draw.randrange(len(self.rules))
            self.rules[place] = (self.rules[place][0], self._readers())
        else:
            self.rules.insert(0, (self.draw.choice(self.documents).path, self._readers()))

    def change_groups(self) -> None:
        """One person leaves or joins a group, or one group another."""
        person = self.draw.choice(self.people[:6])
        if person.direct and self.draw.random() < 0.6:
            person.direct.discard(self.draw.choice(sorted(person.direct)))
        else:
            person.direct.add(self.draw.choice(sorted(self.parents)))
        group = self.draw.choice(sorted(self.parents))
        if self.parents[group] and self.draw.random() < 0.5:
            self.parents[group].discard(self.draw.choice(sorted(self.parents[group])))

    # ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def permissions(self) -> list[Mapping[str, object]]:
        """The rules as a source file has them."""
        return [{"match": pattern, "readers": readers} for pattern, readers in self.rules]

    def question(self) -> str:
        """Something to ask: topics, words of documents as they stand, misspelt or cut, and short forms."""
        draw = self.draw
        document = draw.choice(self.documents)
        word = draw.choice([*sorted(document.tokens()), *document.text.values()])
        slip = draw.randrange(3, len(word))
        typed = draw.choice((word[:slip] + word[slip + 1 :], word[:slip] + "c" + word[slip:], word[:-1], word))
        return draw.choice(
            (
                f"what does the {document.topic} policy allow",
                f"who decides about {document.topic} requests",
                f"the {document.topic} policy of {typed}",
                f"{typed.capitalize()} {document.topic}",
                f"who answers for {typed} in {document.year}",
                f"what is the {document.text['short'].upper()} for {document.topic}",
                f"{document.topic} policy project {typed}",
                "handbook team",
            )
        )

    def _words(self) -> dict[str, str]:
        said = {kind: self._canary() for kind in ("name", "figure", "section", "mail", "owner", "row", "long")}
        short = said["long"][:5] + "k"
        self._used.add(short)
        return {**said, "short": short}

    def _canary(self) -> str:
        while True:
            word = "zq" + "".join(self.draw.choice(_LETTERS) for _ in range(8))
            if word[:7] not in self._starts and word[:5] + "k" not in self._used:
                self._used.add(word)
                self._starts[word[:7]] = word
                return word

    def _readers(self) -> list[str]:
        draw = self.draw
        groups = [f"group:{group}" for group in sorted(self.parents)]
        return draw.choice(
            (
                ["public"],
                [draw.choice(groups)],
                [draw.choice(groups)],
                sorted(draw.sample(groups, k=2)),
                [f"user:u{draw.randint(0, 5)}", draw.choice(groups)],
                [],
            )
        )


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    return ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
