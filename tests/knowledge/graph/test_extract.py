"""Entities and relations of texts, by rules: what counts as a name, what is stated, and what holds for any text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.knowledge.graph.aliases import key_of, resolved
from interlock.knowledge.graph.extract import extract
from interlock.knowledge.graph.phrases import between

NOTE = """1.2 Billing Gateway

The billing gateway depends on Ledger Core and `rate_limits`. Marta Olin leads the Payments Guild. Olin reports to
Dr. Ines Brandt. Kestrel is replaced by Ledger Core. The owner of Ledger Core is the Payments Guild. Leave the building
on Monday 3 May 2026. Our service level agreement (SLA) names INC-2041, EUR 40 and 12 %.
"""


def names(text):
    return [mention.name for sentence in extract(text).sentences for mention in sentence.mentions]


def relations(text):
    return {stated[:3] for sentence in extract(text).sentences for stated in sentence.stated}


def test_names_headings_terms_short_forms_and_identifiers_are_entities():
    found = names(NOTE)
    expected = {"Billing Gateway", "billing gateway", "Ledger Core", "rate_limits", "Marta Olin", "Dr. Ines Brandt"}
    assert expected | {"Payments Guild", "Kestrel", "service level agreement", "SLA", "INC-2041", "EUR"} == {*found} - {
        "Olin"
    }
    assert not {"Leave", "The", "Monday", "May", "2026", "40"} & set(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Marta Olin reports to the director Ines Brandt.", ("marta olin", "reports to", "ines brandt")),
        ("Kestrel was superseded by Ledger Core.", ("ledger core", "replaces", "kestrel")),
        ("The Oslo Office is part of Nordwind.", ("oslo office", "part of", "nordwind")),
        ("Ines Brandt is the head of Nordwind.", ("ines brandt", "head of", "nordwind")),
        ("Nordwind's chief auditor is Ines Brandt.", ("ines brandt", "chief auditor of", "nordwind")),
        ("The owner of Ledger Core is Nordwind.", ("nordwind", "owner of", "ledger core")),
        ("Ledger Core, which runs on Basalt, is old.", ("ledger core", "uses", "basalt")),
        ("Nordwind (NW) acquired Basalt Systems.", ("nw", "acquired", "basalt systems")),
    ],
)
def test_relations_are_read_with_their_direction(text, wanted):
    assert wanted in relations(text)


def test_a_relation_is_carried_on_over_a_list():
    assert relations("Ledger Core replaces Kestrel, Basalt and Old Mill.") == {
        ("ledger core", "replaces", "kestrel"),
        ("ledger core", "replaces", "basalt"),
        ("ledger core", "replaces", "old mill"),
    }


def test_a_negated_or_unknown_phrase_states_nothing():
    assert relations("Ledger Core does not replace Kestrel. Ledger Core never met Kestrel.") == set()


def test_a_surname_is_the_only_person_of_that_name():
    keys = {m.key for s in extract("We met Marta Olin. Then Olin left.").sentences for m in s.mentions}
    assert keys == {"marta olin"}
    two = "We met Marta Olin and Per Olin. Then Olin left."
    both = {m.key for s in extract(two).sentences for m in s.mentions}
    assert both == {"marta olin", "per olin", "olin"}  # nobody knows which one left


PIECES = st.sampled_from(
    [
        "Ledger Core",
        "Marta Olin",
        "Olin",
        "The",
        " the ",
        ". ",
        ", ",
        "\n\n",
        " (LC) ",
        "# ",
        "`a_b`",
        " replaces ",
        " is the head of ",
        "'s",
        "’s ",
        "İ",
        "ß",
        "“X” means ",
        "INC-4",
        "a_b-c.d",
        "-",
        "_",
        "*",
        "** ",
        " and ",
        "Ａ",
        "日本",
        "\t",
        "ledger core (LC)",
        "A.B.",
        "&",
        "/",
        ":",
        " of ",
        "\xa0",
        "Dr. ",
        "(",
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=40).map("".join))


@given(TEXTS)
def test_every_offset_is_exact(text):
    extracted = extract(text)
    end = 0
    for sentence in extracted.sentences:
        assert end <= sentence.start < sentence.end <= len(text)
        end = sentence.end
        at = sentence.start
        for mention in sentence.mentions:
            assert at <= mention.start < mention.end <= sentence.end
            assert text[mention.start : mention.end] == mention.name
            assert mention.key == key_of(mention.name) or mention.key.endswith(key_of(mention.name))
            at = mention.end
        keys = {mention.key for mention in sentence.mentions}
        for stated in sentence.stated:
            assert sentence.start <= stated.start < stated.end <= sentence.end
            assert {stated.source, stated.target} <= keys and stated.source != stated.target
    assert extracted == extract(text)


@given(st.text(max_size=60))
def test_a_key_is_its_own_key(name):
    assert key_of(key_of(name)) == key_of(name)
    assert key_of(f"  {name}\n") == key_of(name)


KEYS = st.sampled_from(["a", "b", "c", "ab", "abc", "long form"])


@given(st.lists(st.lists(st.tuples(KEYS, KEYS), max_size=4), max_size=6), st.randoms(use_true_random=False))
def test_aliases_do_not_depend_on_the_order(texts, draw):
    known = resolved(texts)
    mixed = [draw.sample(text, len(text)) for text in draw.sample(texts, len(texts))]
    assert resolved(mixed) == known
    # Whatever a name is resolved to stays what it is.
    assert all(known.get(to, to) == to for to in known.values())


@given(st.text(" abcdefghi's()-of isreplacedby", max_size=120))
def test_any_text_between_names_is_read(text):
    phrase = between(text)
    assert phrase is None or phrase.kind


def test_hostile_texts_take_no_time_worth_telling():
    """A pattern that backs off again and again would not end within the suite's limit for a test."""
    draw = random.Random(3)
    for piece in ("a_", "A ", "# ", "a.", "A's ", "(A", "the of ", "-1", "`", "“x", "A & ", "Is of "):
        extract(piece * 20_000)
        extract(piece * 2_000 + "!")
    extract("".join(draw.choice("aA_.-'#( \n") for _ in range(200_000)))
