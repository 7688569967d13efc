"""Files whose names are written alike, lead nowhere, or lead elsewhere by the time they are read."""

from __future__ import annotations

import os
import shutil
import unicodedata
from email.message import EmailMessage

import pytest
from tests.knowledge.connectors.test_folder import Folder
from tests.knowledge.connectors.test_git import Repository

from interlock.testing.connectors import desk

__all__ = ["desk"]


@pytest.fixture
async def world(tmp_path):
    root = tmp_path / "world"
    root.mkdir()
    return Folder({"path": "world"}, {}, root)


def put(root, name, text):
    """A file by the bytes of its name."""
    path = os.path.join(os.fsencode(root), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(text)


async def both(desk, plain):
    """Two documents with texts of their own, one of them at `plain`; a second run changes nothing."""
    report = await desk.ingest()
    assert report.failed == ()
    for _ in range(2):
        documents = await desk.documents()
        assert len(documents) == 2
        assert plain in documents
        assert len(await desk.found("heron")) == 1
        assert len(await desk.found("otter")) == 1
        assert await desk.found("heron") != await desk.found("otter")
        again = await desk.ingest()
        assert (again.added, again.changed, again.deleted) == (0, 0, 0)
    return documents[plain].id


@pytest.mark.parametrize(
    ("first", "second", "plain"),
    [
        (unicodedata.normalize("NFC", "café.md").encode(), unicodedata.normalize("NFD", "café.md").encode(), "café.md"),
        (b"\xff.md", b"\xfe.md", "?.md"),
        (b"a b.md", b"a\nb.md", "a b.md"),
        (b"sub\xff/n.md", b"sub\xfe/n.md", "sub?/n.md"),
    ],
)
async def test_files_whose_names_are_written_alike_are_two_documents(desk, world, first, second, plain):
    put(world.root, first, b"The heron stands by the river.")
    await desk.ingest()
    (alone,) = (await desk.documents()).values()
    assert alone.source == plain
    put(world.root, second, b"The otter swims at night.")
    assert await both(desk, plain) == alone.id


async def test_names_that_git_keeps_as_bytes_are_two_documents(tmp_path, desk):
    repository = Repository({"kind": "git", "url": "world", "ref": "main"}, {}, desk.world.root)
    repository.git("init", "-q", "-b", "main")
    desk.world = repository
    for name, text in ((b"\xff.md", b"The heron stands by the river."), (b"\xfe.md", b"The otter swims at night.")):
        put(repository.root, name, text)
    repository.commit()
    await both(desk, "\ufffd.md")
    put(repository.root, b"\xfe.md", b"The otter sleeps by day.")
    repository.commit()
    assert (await desk.ingest()).changed == 1
    assert len(await desk.documents()) == 2
    os.unlink(os.path.join(os.fsencode(repository.root), b"\xff.md"))
    repository.commit()
    await desk.ingest()
    assert len(await desk.documents()) == 1
    assert await desk.found("heron") == set()


async def test_links_that_go_round_are_one_line_of_the_report(desk, world):
    await world.put("n0", "The heron stands by the river.")
    (world.root / "a.md").symlink_to("b.md")
    (world.root / "b.md").symlink_to("a.md")
    (world.root / "self.md").symlink_to("self.md")
    report = await desk.ingest()
    assert report.added == 1
    assert {(f.source, f.code) for f in report.failed} == {(n, "unreadable_file") for n in ("a.md", "b.md", "self.md")}


def mail(text, identity="<1@example.org>"):
    message = EmailMessage()
    message["Subject"], message["From"], message["Message-ID"] = "Birds", "ada@example.org", identity
    message.set_content(text)
    return message.as_bytes()


async def test_mails_with_one_message_id_and_links_that_go_round(desk, world):
    (world.root / "a.eml").write_bytes(mail("The heron stands by the river."))
    (world.root / "copy.eml").write_bytes(mail("The heron stands by the river."))
    world.source = {"kind": "mbox", "path": "world"}
    await desk.ingest()
    (alone,) = (await desk.documents()).values()
    (world.root / "b.eml").write_bytes(mail("The otter swims at night."))
    assert await both(desk, alone.source) == alone.id
    (world.root / "self.eml").symlink_to("self.eml")
    (world.root / "large.eml").write_bytes(mail("endless " * 40_000, "<2@example.org>"))
    report = await desk.ingest()
    assert {(f.source, f.code) for f in report.failed} == {
        ("self.eml", "unreadable_file"),
        ("large.eml", "request_too_large"),
    }
    assert (report.unchanged, report.deleted) == (2, 0)


@pytest.mark.parametrize("swapped", ["file", "folder"])
async def test_a_file_that_became_a_link_after_it_was_listed_is_not_followed(desk, world, tmp_path, swapped):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "n1.md").write_text("The secret is under the stone.")
    (world.root / "sub").mkdir()
    (world.root / "n0.md").write_text("The heron stands by the river.")
    (world.root / "sub" / "n1.md").write_text("The otter swims at night.")

    async def swap(progress):
        if progress.message != "n0.md":
            return
        if swapped == "file":
            (world.root / "sub" / "n1.md").unlink()
            (world.root / "sub" / "n1.md").symlink_to(outside / "n1.md")
        else:
            shutil.rmtree(world.root / "sub")
            (world.root / "sub").symlink_to(outside)

    report = await desk.ingest(swap)
    assert [(f.source, f.code) for f in report.failed] == [("sub/n1.md", "link_outside_source")]
    assert await desk.found("secret stone") == set()
    assert await desk.found("heron") == {"n0.md"}


async def test_a_link_that_leads_inside_again_is_read(desk, world, tmp_path):
    outside = tmp_path / "outside.md"
    outside.write_text("The heron stands by the river.")
    (world.root / "n0.md").symlink_to(outside)
    assert [f.code for f in (await desk.ingest()).failed] == ["link_outside_source"]
    # The same file, with the same times and size.
    (world.root / "n0.md").unlink()
    os.rename(outside, world.root / "n0.md")
    report = await desk.ingest()
    assert report.failed == ()
    assert await desk.found("heron") == {"n0.md"}
