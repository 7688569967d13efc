"""What every loader promises, as one suite.

A plug-in's author derives a test class and says where a well-formed file comes from::

    class TestMyLoader(LoaderConformance):
        name = "mine"
        file_name = "sample.mine"

        def sample(self) -> bytes:
            return b"..."

        words = ("some", "words", "of", "the", "sample")
"""

from __future__ import annotations

import random

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders import find_loader, loaders
from interlock.knowledge.ports import Loader
from interlock.knowledge.types import LoadedDocument

__all__ = ["HOSTILE", "LoaderConformance", "check_document"]

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t\n ",
    "one NUL": b"\x00",
    "NULs": b"abc\x00def\x00" * 400,
    "random bytes": random.Random(7).randbytes(4096),  # noqa: S311 - a fixed sample
    "an executable": b"\x7fELF\x02\x01\x01" + bytes(4000),
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
    "a PDF's head": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog",
    "a zip's head": b"PK\x03\x04" + bytes(200),
    "invalid UTF-8": b"caf\xe9 cr\xe8me \xff\xfe end",
    "lone surrogates": "x\ud800y".encode("utf-8", "surrogatepass") * 20,
    "a UTF-16 mark alone": b"\xff\xfe",
    "very long line": b"word " * 100_000,
    "deep nesting": b"<div>" * 10_000 + b"deep" + b"</div>" * 10_000,
    "deep quotes": b"> " * 5_000 + b"deep",
    "deep lists": b"\n".join(b" " * (2 * n) + b"- x" for n in range(300)),
    "many brackets": b"[" * 20_000 + b"]" * 20_000,
    "an entity bomb": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx">'
    + b"".join(b'<!ENTITY x%d "%s">' % (n, b"&x%d;" % (n - 1) * 10) for n in range(1, 12))
    + b"]><a>&x11;</a>",
    "a quoted cell without end": b'a,b\n1,"' + b"x\n" * 1000,
}
"""Bytes no loader may choke on: each gives a core error that names the file, or a right document."""


def check_document(document: LoadedDocument) -> None:
    """Assert everything a loaded document promises."""
    assert document.title.strip(), "a document has a title"
    assert document.text.strip(), "a document has text"
    assert document.blocks, "a document has blocks"
    assert "\x00" not in document.text
    document.text.encode("utf-8")
    position = 0
    for block in document.blocks:
        assert position <= block.span.start < block.span.end <= len(document.text), "blocks are in order, in range"
        content = document.text[block.span.start : block.span.end]
        assert content.strip(), "a block is not blank"
        assert not document.text[position : block.span.start].strip(), "no text lies between blocks"
        assert block.kind != "heading" or block.headings, "a heading lists itself"
        assert block.page is None or (document.pages is not None and 1 <= block.page <= document.pages)
        assert not block.labelled or block.kind == "table_row"
        position = block.span.end
    assert not document.text[position:].strip(), "no text lies after the blocks"
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in document.metadata.items())


class LoaderConformance:
    """Derive, set the three attributes and `sample`; pytest collects the rest."""

    name: str
    """The plug-in's name."""
    file_name: str
    """A file name the loader claims."""
    words: tuple[str, ...] = ()
    """Words that the sample's text holds, in this order."""

    def sample(self) -> bytes:
        """A well-formed file."""
        raise AssertionError(f"{type(self).__name__} must give a sample of its format")

    @property
    def loader(self) -> Loader:
        """The plug-in."""
        return loaders.get(self.name)

    def test_its_suffix_finds_it(self) -> None:
        """The registry chooses it for its own files."""
        assert find_loader(self.file_name) == self.name
        assert find_loader(self.file_name.upper()) == self.name

    def test_it_has_a_version(self) -> None:
        """So that a changed parser reads files again."""
        assert self.loader.version

    def test_offsets_point_into_the_text(self) -> None:
        """Blocks are in order, in range, and cover the text."""
        check_document(self.loader.load(self.sample(), self.file_name))

    def test_words_are_read_in_order(self) -> None:
        """Reading order is kept."""
        text = self.loader.load(self.sample(), self.file_name).text
        position = 0
        for word in self.words:
            position = text.find(word, position)
            assert position >= 0, f"{word!r} is missing or out of order"

    def test_the_same_bytes_give_the_same_document(self) -> None:
        """Digests of the text decide what is unchanged."""
        first = self.loader.load(self.sample(), self.file_name)
        assert first == self.loader.load(self.sample(), self.file_name)

    def test_hostile_bytes_give_a_clear_error_or_a_right_document(self) -> None:
        """Nothing but a core error that names the file may come out."""
        for what, data in HOSTILE.items():
            self._try(what, data)

    def test_a_file_cut_anywhere_is_survived(self) -> None:
        """Half a download is common."""
        whole = self.sample()
        for part in range(1, 8):
            self._try(f"{part}/8 of the sample", whole[: len(whole) * part // 8])

    def test_flipped_bytes_are_survived(self) -> None:
        """Damage inside the file is common too."""
        dice = random.Random(11)  # noqa: S311 - reproducible damage, no secret
        for number in range(20):
            data = bytearray(self.sample())
            for _ in range(1 + len(data) // 200):
                data[dice.randrange(len(data))] = dice.randrange(256)
            self._try(f"damaged copy {number}", bytes(data))

    def _try(self, what: str, data: bytes) -> None:
        try:
            document = self.loader.load(data, self.file_name)
        except InvalidInput as error:
            refusal = error
        else:
            check_document(document)
            return
        assert refusal.param == self.file_name, f"{what}: {refusal!r}"
        assert self.file_name in refusal.message, f"{what}: {refusal!r}"
