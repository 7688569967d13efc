"""The words every floor speaks: ids, canonical JSON, plug-ins, deadlines, contexts."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from interlock.core.canonical import canonical_bytes, digest_bytes, digest_json
from interlock.core.clock import Deadline
from interlock.core.context import Context, EndUser, Principal, Role
from interlock.core.errors import (
    DeadlineExceeded,
    Forbidden,
    InterlockError,
    InvalidInput,
    Misconfigured,
    MissingExtra,
    NotFound,
)
from interlock.core.ids import PrincipalId, TenantId, new_id, new_span_id, new_trace_id, ulid
from interlock.core.messages import Message, TextPart, Usage, text_message
from interlock.core.plugins import Registry

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def test_ids_sort_by_time_of_creation(monkeypatch):
    import interlock.core.ids as ids

    stamps = iter(range(1_700_000_000_000_000_000, 1_700_000_000_000_000_000 + 2000 * 1_000_000, 1_000_000))
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(stamps))
    made = [ulid() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert {len(one) for one in made} == {26}
    assert set("".join(made)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_ids_made_in_one_moment_differ():
    assert len({new_id("x") for _ in range(10_000)}) == 10_000
    assert new_id("key").startswith("key_")
    assert len(new_trace_id()) == 32
    assert len(new_span_id()) == 16


@given(JSON)
def test_canonical_json_reads_back_and_is_a_fixed_point(value):
    try:
        data = canonical_bytes(value)
    except UnicodeEncodeError:
        assume(False)
    again = json.loads(data)
    assert again == value
    assert canonical_bytes(again) == data
    assert digest_json(value) == digest_bytes(data)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_count(value, dice):
    keys = list(value)
    dice.shuffle(keys)
    assert digest_json({key: value[key] for key in keys}) == digest_json(value)


@given(JSON, JSON)
def test_two_values_share_a_digest_only_when_they_are_written_alike(a, b):
    if digest_json(a) == digest_json(b):
        assert json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, {1: "a"}, {"a": {None: 1}}, [{True: 1}], object(), b"x", "\ud800"]
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        canonical_bytes(value)


def test_the_canonical_form_is_what_it_always_was():
    value = {"b": [1, 2.5, None, True], "a": {"é": "\u2028", "z": -0.0}, "A": 1e21}
    assert digest_json(value) == "sha256:" + DIGEST
    assert canonical_bytes(value) == '{"A":1e+21,"a":{"z":-0.0,"é":"\u2028"},"b":[1,2.5,null,true]}'.encode()


DIGEST = "04ba85071c11542ccf9907d6f5a7122fede9b630324a934eed071cec1b742504"


def test_a_deadline_only_moves_nearer():
    early, late = Deadline.after(1), Deadline.after(100)
    ctx = Context(TenantId("t"), Principal(PrincipalId("p"), "user"), deadline=early)
    assert ctx.with_deadline(late).deadline is early
    assert ctx.with_deadline(Deadline.after(-1)).deadline.remaining_s() == 0
    late.check("waiting")
    with pytest.raises(DeadlineExceeded, match="waiting"):
        Deadline.after(-1).check("waiting")


def test_readers_come_only_from_a_proven_user():
    ctx = Context(TenantId("t"), Principal(PrincipalId("p"), "user", frozenset({Role.ADMIN})))
    assert ctx.readers == {"public"}
    assert ctx.on_behalf_of(EndUser("ada", frozenset({"hr"}))).readers == {"public", "user:ada", "group:hr"}


def test_the_unit_of_assignment_is_never_the_request():
    ctx = Context(TenantId("t"), Principal(PrincipalId("p"), "user"))
    again = Context(TenantId("t"), Principal(PrincipalId("p"), "user"))
    assert ctx.request_id != again.request_id
    assert ctx.assignment_unit == again.assignment_unit == "key:p"
    assert ctx.on_behalf_of(EndUser("ada"), "c1").assignment_unit == "user:ada"


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_what_it_is_for_and_admin_opens_all(role):
    holder = Context(TenantId("t"), Principal(PrincipalId("p"), "user", frozenset({role})))
    holder.require(role)
    others = [other for other in Role if other not in {role, Role.ADMIN}]
    if role is Role.ADMIN:
        holder.require(*others)
    else:
        with pytest.raises(Forbidden):
            holder.require(*others)


class Spans(list):
    def emit(self, span):
        self.append(span)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(None, "ok", ""), (NotFound("x"), "error", "not_found"), (ValueError(), "error", "internal_error"),
     (asyncio.CancelledError(), "cancelled", "client_left"), (GeneratorExit(), "cancelled", "client_left")],
)  # fmt: skip
def test_a_span_closes_with_its_status_on_every_exit(error, status, code):
    spans = Spans()
    ctx = Context(TenantId("t"), Principal(PrincipalId("p"), "user"), sink=spans)

    def work():
        with ctx.span("outer", size=3) as (span, inner), inner.span("inner") as (child, _):
            assert child.parent_id == span.span_id
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert [(s.name, s.status, s.error) for s in spans] == [("inner", status, code), ("outer", status, code)]
    assert spans[1].attributes == {"size": 3}


def errors():
    found, more = [], [InterlockError]
    while more:
        more += (one := more.pop()).__subclasses__()
        found.append(one)
    return [one for one in found if one.__module__ == "interlock.core.errors"]


def test_every_error_has_a_stable_code_and_a_status():
    table = {error.__name__: (error.code, error.status) for error in errors()}
    assert len({code for code, _ in table.values()}) == len(table)
    for error in errors():
        assert 400 <= error.status < 600
        documented = sys.modules["interlock.core.errors"].__doc__
        assert f"{error.status}  {error.code}" in documented, error


@pytest.fixture
def registry(tmp_path, monkeypatch):
    folder = tmp_path / "shelf_of_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "good.py").write_text("plugin = 'good one'")
    (folder / "empty.py").write_text("other = 1")
    (folder / "needy.py").write_text("import a_library_that_is_not_here\nplugin = 1")
    (folder / "_helper.py").write_text("raise RuntimeError('never imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("thing", "shelf_of_plugins", extra="things")
    for name in [name for name in sys.modules if name.startswith("shelf_of_plugins")]:
        del sys.modules[name]


def test_plug_ins_are_listed_without_being_imported(registry):
    assert registry.names() == ["empty", "good", "needy"]
    assert "shelf_of_plugins.good" not in sys.modules
    assert registry.get("good") == registry.get("good") == "good one"


def test_a_plug_in_that_cannot_be_had_says_why(registry):
    with pytest.raises(InvalidInput, match="did you mean 'good'"):
        registry.get("goood")
    with pytest.raises(InvalidInput, match="empty, good, needy"):
        registry.get("zzz")
    with pytest.raises(InvalidInput):
        registry.get("_helper")
    with pytest.raises(InvalidInput):
        registry.get("../good")
    with pytest.raises(Misconfigured, match="no symbol 'plugin'"):
        registry.get("empty")
    with pytest.raises(MissingExtra, match="a_library_that_is_not_here") as caught:
        registry.get("needy")
    assert "interlock[things]" in (caught.value.hint or "")


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 4, st.booleans()), max_size=6))
def test_usage_adds_up(rows):
    total = sum((Usage(*row) for row in rows), Usage())
    assert total.total_tokens == sum(row[0] + row[1] for row in rows)
    assert total.estimated == any(row[4] for row in rows)


def test_a_messages_text_is_its_text_parts():
    assert Message("user", (TextPart("a"), TextPart("b"))).text == "ab"
    assert text_message("user", "x").text == "x"
