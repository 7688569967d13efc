"""A diff of settings says what it says, and leaves everything else as it stands."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.flows.settings_diff import diff_of, with_settings

PATH = ["knowledge", "collections", "docs"]
VALUES = {"chunking": {"max_words": 80}, "fusion": {"method": "convex", "dense_weight": 0.3}}
_DOCS = "knowledge:\n  collections:\n    docs:\n"
FILES = [
    "",
    "tenant: acme\n",
    "tenant: acme",
    "# top\ntenant: acme\n# before\nknowledge:\n  # mine\n  embedder: minilm # why\nserver:\n  port: 1\n",
    "knowledge: {embedder: minilm}\n",
    "knowledge: {collections: {docs: {fusion: {dense_weight: 0.9}, candidates: 7}}}\nx: 1\n",
    f"{_DOCS}      fusion: {{dense_weight: 0.9}}\n      candidates: 7 # seven\n    b: {{}}\n",
    f"{_DOCS}      fusion:\n        dense_weight: 0.9\n        k: 3\n\n    b: {{}}\nx: 2\n",
    "knowledge:\n  collections:\n    other:\n      candidates: 3\n",
    "knowledge:\n",
    "knowledge: {}\ntenant: a\n",
]


@pytest.mark.parametrize("text", FILES)
def test_settings_are_put_in_and_the_rest_stays(text, tmp_path):
    changed = with_settings(text, PATH, VALUES)
    wanted = yaml.safe_load(text) or {}
    wanted["knowledge"] = wanted.get("knowledge") or {}
    wanted["knowledge"].setdefault("collections", {}).setdefault("docs", {}).update(VALUES)
    assert yaml.safe_load(changed) == wanted
    for comment in ("# top", "# before", "# mine", "# why", "# seven"):
        assert (comment in text) == (comment in changed)
    (tmp_path / "interlock.yaml").write_text(text)
    done = subprocess.run(
        ["git", "apply", "-p1"], input=diff_of(text, changed, "interlock.yaml"), text=True, cwd=tmp_path,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "interlock.yaml").read_text() == changed


keys = st.text("abcdefgh", min_size=1, max_size=4)
trees = st.recursive(
    st.integers() | st.booleans() | st.text("xyz #:,", max_size=5),
    lambda inner: st.dictionaries(keys, inner, max_size=4) | st.lists(st.integers(), max_size=3),
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(keys, trees, max_size=4), st.booleans(), st.lists(keys, min_size=1, max_size=3), trees)
def test_any_file_says_afterwards_what_was_put_in(tree, flow, path, value):
    text = yaml.safe_dump(tree, default_flow_style=flow or None, sort_keys=False)
    at = tree
    for step in path:
        if at.get(step) is None:
            at[step] = {}
        at = at[step]
        if not isinstance(at, dict):
            return
    at.update({"zz": value})
    assert yaml.safe_load(with_settings(text, path, {"zz": value})) == tree
