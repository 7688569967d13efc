"""Characters that a provider cut in two."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.messages import Finish, NativeDelta, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from interlock.gateway.texts import Texts

END = Finish("stop", Usage(1, 1), "m")
KINDS = {
    "text": (TextDelta, lambda event: event.text),
    "reasoning": (lambda text: ReasoningDelta(text, "openai"), lambda event: event.text),
    "call": (lambda text: ToolCallDelta(0, arguments=text), lambda event: event.arguments),
}


def units(text):
    """UTF-16 units as a careless server sends them, each a piece."""
    raw = text.encode("utf-16-le", "surrogatepass")
    return [raw[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(raw), 2)]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=30), size=st.integers(1, 4))
def test_a_text_that_was_cut_between_halves_is_whole_again(kind, text, size):
    make, read = KINDS[kind]
    pieces = units(text)
    texts, out = Texts(), []
    for start in range(0, len(pieces), size):
        out += texts.take(make("".join(pieces[start : start + size])))
    out += texts.take(END)
    assert "".join(read(event) for event in out[:-1]) == text
    assert out[-1] == END


@given(st.lists(st.text(alphabet=["a", "é", "\ud83d", "\ude00", "😀"], max_size=4), max_size=6))
def test_whatever_comes_can_be_encoded_and_nothing_else_is_lost(pieces):
    texts = Texts()
    out = [event for piece in pieces for event in texts.take(TextDelta(piece))]
    out += texts.take(END)
    text = "".join(event.text for event in out[:-1])
    text.encode()
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert text == whole


def test_channels_keep_their_halves_apart():
    texts = Texts()
    assert texts.take(TextDelta("a\ud83d")) == (TextDelta("a"),)
    assert texts.take(ToolCallDelta(0, "i", "f", '{"x": "\ude00')) == (ToolCallDelta(0, "i", "f", '{"x": "\ufffd'),)
    assert texts.take(TextDelta("\ude00b")) == (TextDelta("😀b"),)
    assert texts.take(TextDelta("\ud83d")) == ()
    assert texts.take(END) == (TextDelta("\ufffd"), END)


def test_facts_that_travel_along_are_cleaned_as_well():
    (event,) = Texts().take(NativeDelta("anthropic", 0, block={"a": ["\ud83d", {"\ude00": 1}]}))
    json.dumps(event.block, ensure_ascii=False).encode()
