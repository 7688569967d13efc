from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.knowledge.sources import matches, parse_spec, read_spec, walk

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


def test_the_walk_is_ordered_filtered_and_stays_inside(tmp_path):
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
    spec = parse_spec({**GOOD, "sources": [{"path": "documents", "exclude": ["**/*.tmp"]}]}, base=tmp_path, name="x")
    found = {file.source: file.error for file in walk(spec)}
    assert list(found) == ["a.md", "b.md", "dangling.md", "inside.md", "leaves.md", "sub/c.md"]
    assert [name for name, error in found.items() if error] == ["leaves.md"]


def test_two_files_of_one_path_ask_for_a_prefix(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text("x")
    with pytest.raises(InvalidInput, match="prefix"):
        list(walk(parse_spec({**GOOD, "sources": [{"path": "one"}, {"path": "two"}]}, base=tmp_path, name="x")))
    folders = [{"path": "one"}, {"path": "two", "prefix": "second"}]
    spec = parse_spec({**GOOD, "sources": folders}, base=tmp_path, name="x")
    assert [file.source for file in walk(spec)] == ["a.md", "second/a.md"]
