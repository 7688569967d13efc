from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.knowledge.connectors import connectors
from interlock.knowledge.ports import Surroundings
from interlock.knowledge.sources import matches, parse_spec, read_spec

GOOD = {"collection": "docs", "sources": [{"path": "documents"}]}


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("**", "a/b.md", True),
        ("**/*", "b.md", True),
        ("**/*", "a/b/c.md", True),
        ("hr/**", "hr/a/b.md", True),
        ("hr/**", "hrx/a.md", False),
        ("*.md", "a.md", True),
        ("*.md", "a/b.md", False),
        ("**/*.md", "b.md", True),
        ("a?c.md", "abc.md", True),
        ("a?c.md", "a/c.md", False),
        ("[ab].md", "a.md", True),
        ("[!ab].md", "a.md", False),
        ("a.md", "axmd", False),
        ("public.md", "secret/public.md", False),
        ("[a-c].md", "b.md", True),
        ("[?--]", "-", True),
    ],
)
def test_globs_match_whole_paths(glob, path, expected):
    assert matches(glob, path) is expected


@given(st.text(alphabet="abc/.*?[]!-\\^$(", max_size=12), st.text(alphabet="abc/.", max_size=12))
def test_no_glob_breaks_and_everything_is_below_two_stars(glob, path):
    matches(glob, path)
    assert matches("**", path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"collection": "Not A Name"}, "collection"),
        ({"sources": []}, "sources"),
        ({"sources": [{"path": "x", "glob": "*"}]}, "sources.0.glob"),
        ({"sources": ["x"]}, "sources.0"),
        ({"sources": [{"path": "x"}, {"kind": "gopher"}]}, "sources.1.kind"),
        ({"sources": [{"kind": "folder"}]}, "sources.0.path"),
        ({"sources": [{"path": "x", "schedule": "often"}]}, "sources.0.schedule"),
        ({"permissions": [{"match": "**", "readers": ["everyone"]}]}, "permissions.0.readers.0"),
        ({"permissions": [{"readers": ["public"]}]}, "permissions.0.match"),
        ({"metadata": [{"match": "**", "set": {"a": [1]}}]}, "metadata.0.set.a"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, change, field):
    with pytest.raises(InvalidInput) as caught:
        parse_spec({**GOOD, **change}, base=tmp_path, name="docs.yaml")
    assert caught.value.param == field


@pytest.mark.parametrize("text", ["a: [", "- x", "", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "docs.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput):
        read_spec(path)


def test_the_first_permission_wins_and_none_means_nobody(tmp_path):
    rules = [{"match": "hr/**", "readers": ["group:hr"]}, {"match": "**/*.md", "readers": ["public"]}]
    spec = parse_spec({**GOOD, "permissions": rules}, base=tmp_path, name="docs.yaml")
    assert spec.readers_of("hr/a.md") == {"group:hr"}
    assert spec.readers_of("a.md") == {"public"}
    assert spec.readers_of("a.csv") == frozenset()


async def listing(spec):
    (source,) = spec.sources
    connector = connectors.get(source.kind).open(source, Surroundings(1000, {}))
    (page,) = [page async for page in connector.changes(None)]
    assert page.complete
    return {item.source: item.error for item in page.items}


async def test_the_walk_is_ordered_and_stays_inside(tmp_path):
    root = tmp_path / "documents"
    for name in ["b.md", "a.md", "sub/c.md", "sub/d.tmp", ".git/config", "~$a.docx"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.md").write_text("x")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "leaves.md").symlink_to(tmp_path / "outside" / "secret.md")
    (root / "inside.md").symlink_to(root / "a.md")
    (root / "dangling.md").symlink_to(root / "nowhere")
    found = await listing(parse_spec(GOOD, base=tmp_path, name="x"))
    assert list(found) == ["a.md", "b.md", "dangling.md", "inside.md", "leaves.md", "sub/c.md", "sub/d.tmp"]
    assert [name for name, error in found.items() if error] == ["leaves.md"]


def test_sources_have_names_that_stay_and_differ(tmp_path):
    given = [{"path": "one"}, {"path": "two", "name": "second", "fresh_within": "1h", "schedule": "15m"}]
    spec = parse_spec({**GOOD, "sources": given}, base=tmp_path, name="x")
    again = parse_spec({**GOOD, "sources": given[::-1]}, base=tmp_path / "moved", name="x")
    assert [s.name for s in spec.sources] == [s.name for s in again.sources][::-1]
    assert spec.sources[1].fresh_within.total_seconds() == 3600
    with pytest.raises(InvalidInput, match="called 'a'") as caught:
        parse_spec(
            {**GOOD, "sources": [{"path": "one", "name": "a"}, {"path": "two", "name": "a"}]}, base=tmp_path, name="x"
        )
    assert caught.value.param == "sources.1.name"
