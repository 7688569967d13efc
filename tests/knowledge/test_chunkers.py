from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.knowledge.chunkers import chunkers
from interlock.knowledge.chunkers.structural import plugin
from interlock.knowledge.history.kept import decode_kept, encode_kept
from interlock.knowledge.loaders import loaders
from interlock.knowledge.settings import ChunkingSettings
from interlock.testing.embedders import HashEmbedder

from . import samples

count = HashEmbedder().count_tokens


def cut(document, *, name="structural", max_tokens=254):
    return chunkers.get(name).chunk(document, count_tokens=count, max_tokens=max_tokens)


def check(document, chunks, max_tokens=254):
    position = 0
    for chunk in chunks:
        assert position <= chunk.span.start < chunk.span.end <= len(document.text)
        assert document.text[chunk.span.start : chunk.span.end].strip()
        assert count(chunk.search_text) <= max_tokens
        position = chunk.span.end


markdown = st.lists(
    st.one_of(
        st.integers(1, 4).map(lambda n: "#" * n + f" Heading {n}"),
        st.integers(1, 80).map(lambda n: " ".join(f"word{i}" for i in range(n)) + "."),
        st.integers(1, 30).map(lambda n: "| a | b |\n|---|---|\n" + "\n".join(f"| r{i} | {i} |" for i in range(n))),
        st.just("- one\n- two"),
        st.just("x" * 3000),
    ),
    min_size=1,
    max_size=12,
).map("\n\n".join)


@pytest.mark.parametrize("name", chunkers.names())
@settings(deadline=None, max_examples=60)
@given(source=markdown)
def test_chunks_are_ordered_in_range_and_fit_the_embedder(name, source):
    document = loaders.get("markdown").load(source.encode(), "x.md")
    check(document, cut(document, name=name, max_tokens=60), max_tokens=60)


@settings(deadline=None, max_examples=60)
@given(source=markdown)
def test_no_body_text_is_lost(source):
    document = loaders.get("markdown").load(source.encode(), "x.md")
    covered = bytearray(len(document.text))
    for chunk in cut(document):
        covered[chunk.span.start : chunk.span.end] = b"\x01" * (chunk.span.end - chunk.span.start)
    for block in document.blocks:
        if block.kind != "heading":
            missed = [i for i in range(block.span.start, block.span.end) if not covered[i]]
            assert not "".join(document.text[i] for i in missed).strip()


def test_a_chunk_stays_in_its_section_and_carries_its_headings():
    source = "# Manual\n\n## One\n\nAlpha is first.\n\n## Two\n\nBeta is second.\n\n### Detail\n\nGamma is third."
    document = loaders.get("markdown").load(source.encode(), "m.md")
    first, second = cut(document)
    assert (first.heading, first.search_text) == ("Manual › One", "Manual › One\nAlpha is first.")
    text = document.text[second.span.start : second.span.end]
    assert text == "Beta is second.\n\nDetail\n\nGamma is third."
    assert second.heading == "Manual › Two"


def test_long_sections_are_cut_between_sentences_near_the_target():
    body = " ".join(f"Sentence number {n} has exactly eight words here." for n in range(100))
    document = loaders.get("markdown").load(f"# T\n\n{body}".encode(), "t.md")
    chunks = cut(document)
    words = [len(document.text[c.span.start : c.span.end].split()) for c in chunks]
    assert all(100 <= n <= 150 for n in words[:-1])
    assert all(document.text[c.span.end - 1] == "." for c in chunks)


def test_a_table_is_cut_between_rows_and_each_row_knows_its_columns():
    rows = "\n".join(f"Item{n},{n}0,a note about item number {n}" for n in range(60))
    document = loaders.get("csv").load(f"name,price,note\n{rows}".encode(), "t.csv")
    chunks = cut(document)
    assert len(chunks) > 2
    for chunk in chunks:
        text = document.text[chunk.span.start : chunk.span.end]
        assert text.count("\n") == chunk.search_text.count("\n") - 1
        assert "price: " in chunk.search_text
        assert "price: " not in text


def test_pages_are_kept():
    document = loaders.get("pdf").load(samples.pdf_file(), "m.pdf")
    assert [chunk.page for chunk in cut(document)] == [1, 2, 3]


def test_a_section_of_a_heading_alone_stays_findable():
    document = loaders.get("markdown").load(b"# Manual\n\n## Reserved\n\n## Two\n\nText.", "m.md")
    assert any("Reserved" in chunk.search_text for chunk in cut(document))


@settings(deadline=None, max_examples=40)
@given(source=markdown, words=st.integers(20, 400), overlap=st.integers(0, 5), header=st.booleans())
def test_whatever_the_settings_chunks_fit_and_never_overlap(source, words, overlap, header):
    document = loaders.get("markdown").load(source.encode(), "x.md")
    chosen = ChunkingSettings(max_words=words, overlap_sentences=overlap, header=header)
    chunks = plugin.tuned(chosen).chunk(document, count_tokens=count, max_tokens=60)
    check(document, chunks, max_tokens=60)


def test_overlap_is_searched_and_not_quoted_and_a_header_can_be_left_out():
    told = [f"Sentence number {n} speaks of thing {n} alone and says no more of it." for n in range(12)]
    document = loaders.get("markdown").load(("# Title\n\n## Part\n\n" + " ".join(told)).encode(), "x.md")
    plain = plugin.tuned(ChunkingSettings(max_words=60)).chunk(document, count_tokens=count, max_tokens=254)
    overlapping = ChunkingSettings(max_words=60, overlap_sentences=1)
    chunks = plugin.tuned(overlapping).chunk(document, count_tokens=count, max_tokens=254)
    assert [chunk.span for chunk in chunks] == [chunk.span for chunk in plain]
    last = document.text[chunks[0].span.start : chunks[0].span.end].split(". ")[-1]
    assert last in chunks[1].search_text
    assert last not in plain[1].search_text
    bare = plugin.tuned(ChunkingSettings(max_words=60, header=False))
    assert all("Title" not in c.search_text for c in bare.chunk(document, count_tokens=count, max_tokens=254))
    assert all("Title" in chunk.search_text for chunk in plain)


def test_every_setting_has_a_version_of_its_own_and_the_default_keeps_the_old_one():
    assert plugin.tuned(ChunkingSettings()).version == "structural/2:150:110:40"
    chosen = [ChunkingSettings(), *(ChunkingSettings(**one) for one in (
        {"max_words": 80}, {"overlap_sentences": 1}, {"overlap_sentences": 2}, {"header": False},
    ))]  # fmt: skip
    assert len({plugin.tuned(one).version for one in chosen}) == len(chosen)


@pytest.mark.parametrize("source", ["f" * 30_000, "# Dump\n\n" + "0a" * 20_000, "x" * 1_900 + " " + "y" * 1_900])
def test_no_passage_is_longer_than_a_reader_can_use_however_few_its_tokens(source):
    document = loaders.get("markdown").load(source.encode(), "x.md")
    chunks = chunkers.get("structural").chunk(document, count_tokens=lambda text: len(text.split()), max_tokens=254)
    assert max(chunk.span.end - chunk.span.start for chunk in chunks) <= 254 * 8
    assert sum(chunk.span.end - chunk.span.start for chunk in chunks) >= len(source) - 10


def test_a_document_of_a_heading_alone_is_found():
    document = loaders.get("markdown").load(b"# Emergency number 112 is for everybody", "x.md")
    (chunk,) = cut(document)
    assert chunk.search_text == "Emergency number 112 is for everybody"


def test_words_of_headings_count_as_often_as_they_should_in_the_lexical_leg_alone():
    source = b"# Herons\n\n## Food\n\nThey eat fish.\n\n## Nests\n\nThey build high.\n"
    document = loaders.get("markdown").load(source, "x.md")
    plain = plugin.tuned(ChunkingSettings())
    thrice = plugin.tuned(ChunkingSettings(heading_weight=3))
    assert plain.version != thrice.version
    once, more = [each.chunk(document, count_tokens=count, max_tokens=254) for each in (plain, thrice)]
    assert [chunk.search_text for chunk in more] == [chunk.search_text for chunk in once]
    assert [chunk.stressed for chunk in once] == ["", ""]
    assert all(chunk.stressed.count("Herons") == 2 and chunk.stressed.count("Nests") in {0, 2} for chunk in more)
    vectors = np.zeros((2, 4), dtype=np.float32)
    kept = decode_kept(encode_kept(more, vectors, embedder="e", fingerprint="f"))
    assert kept.chunks == tuple(more)
