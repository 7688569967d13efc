from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.knowledge.sentences import sentences


def split(text):
    return [text[span.start : span.end] for span in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It works. So does this.", ["It works.", "So does this."]),
        ("Dr. Smith paid $3.50 for v3.2.1. It works.", ["Dr. Smith paid $3.50 for v3.2.1.", "It works."]),
        ("Use e.g. SMS, i.e. text. Done!", ["Use e.g. SMS, i.e. text.", "Done!"]),
        ("He said no. We left.", ["He said no.", "We left."]),
        ("See No. 5 and Fig. 2. Then stop.", ["See No. 5 and Fig. 2.", "Then stop."]),
        ('"Yes!" he said. OK?', ['"Yes!" he said.', "OK?"]),
        (
            "Within 30 days [1]. Opened boxes cost 10%. [2] More.",
            ["Within 30 days [1].", "Opened boxes cost 10%. [2]", "More."],
        ),
        ("1. Restart it. Wait.\n2. Check.", ["1. Restart it.", "Wait.", "2. Check."]),
        ("Team | 29 | a. B\nStarter | 9", ["Team | 29 | a. B", "Starter | 9"]),
        ("A hard\nwrap stays. One\n\nTwo", ["A hard\nwrap stays.", "One", "Two"]),
        ("- first\n- second one. And more.", ["- first", "- second one.", "And more."]),
        ("これは文です。次の文！", ["これは文です。", "次の文！"]),
        ("Wait... what? Fine.", ["Wait... what?", "Fine."]),
        ("Mail a.b@c.de or open x.io/y. Thanks.", ["Mail a.b@c.de or open x.io/y.", "Thanks."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, expected):
    assert split(text) == expected


@given(st.text(alphabet=st.sampled_from("ab A.!?。\n|-1[]( )é\t"), max_size=200))
def test_sentences_are_ordered_trimmed_and_cover_all_words(text):
    spans = sentences(text)
    position = 0
    for span in spans:
        assert not text[position : span.start].strip()
        piece = text[span.start : span.end]
        assert piece == piece.strip() != ""
        position = span.end
    assert not text[position:].strip()


@given(st.text(max_size=100), st.text(max_size=100))
def test_a_range_is_split_like_its_own_text(before, text):
    shifted = [(s.start - len(before), s.end - len(before)) for s in sentences(before + text, len(before))]
    assert shifted == [(s.start, s.end) for s in sentences(text)]
