"""A pattern that backtracks for ever is given up on, wherever it meets other people's text."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from pydantic import ValidationError

from interlock.app import open_app
from interlock.core.errors import InvalidInput, Misconfigured
from interlock.core.patterns import aside, found_in, replaced, slow_on, spans
from interlock.examination import examine
from interlock.gateway.structured.schema import first_violation
from interlock.gateway.types import Cascade
from interlock.guardrails.service import Guardrails
from interlock.guardrails.types import GuardrailSpec, Rule
from interlock.server.asgi import build_asgi
from interlock.testing.workspaces import write_workspace

SLOW = "(a|aa)+$"
EVIL = "a" * 60 + "!"


async def test_a_slow_rewrite_of_a_route_fails_its_call_and_the_server_goes_on(tmp_path):
    providers = {"toy": {"kind": "scripted", "script": [{"reply": EVIL}]}}
    post = [{"regex_replace": {"pattern": SLOW, "with": "x"}}]
    fallback = {"targets": ["toy/m"], "strategy": "cascade", "cascade": {"reject": [SLOW]}}
    routes = {"post": {"targets": ["toy/m"], "post": post}, "cascade": fallback}
    settings = {"gateway": {"providers": providers, "routes": routes}}
    async with open_app(write_workspace(tmp_path / "w", settings=settings)) as app:
        transport = httpx2.ASGITransport(app=build_asgi(app), client=("127.0.0.1", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            body = {"messages": [{"role": "user", "content": "hi"}]}
            answer = await http.post("/v1/chat/completions", json={**body, "model": "route/post"})
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "pattern_too_slow"
            assert EVIL not in answer.text
            assert (await http.get("/healthz")).status_code == 200
            good = await http.post("/v1/chat/completions", json={**body, "model": "toy/m"})
            assert good.json()["choices"][0]["message"]["content"] == EVIL


def test_a_guardrail_that_could_not_be_checked_does_not_pass():
    rule = Rule(id="r", detector="patterns", at=["output"], action="block", patterns=[SLOW])
    with pytest.raises(Misconfigured) as caught:
        Guardrails().check(GuardrailSpec(rules=[rule]), "output", EVIL)
    assert caught.value.code == "pattern_too_slow"


def test_a_slow_pattern_of_a_schema_is_refused_and_a_quadratic_one_has_a_longest_text():
    with pytest.raises(InvalidInput) as caught:
        first_violation({"type": "string", "pattern": SLOW}, EVIL)
    assert caught.value.code == "schema_unsupported"
    violation = first_violation({"type": "string", "pattern": "a+x"}, "a" * 100_000)
    assert violation is not None
    assert violation.schema_path == "/pattern"


def test_patterns_mean_what_they_mean_to_python():
    assert found_in(r"\bключ\b", "это ключ.")
    assert not found_in(r"(?<!a)b", "ab")
    assert replaced(r"(?P<x>a)(b)", r"\2\g<x>", "abz") == "baz"
    assert [(span.start, span.end) for span in spans("É+", "aéébé")] == [(1, 3), (4, 5)]
    with pytest.raises(ValidationError):
        Cascade(reject=["("])


async def test_slow_patterns_hold_neither_the_loop_nor_more_than_their_share_of_time():
    def many():
        return [found_in(pattern, EVIL) for pattern in ("a", SLOW, SLOW, SLOW)]

    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.ensure_future(others())
    with pytest.raises(Misconfigured) as caught:
        await aside(many)
    task.cancel()
    assert caught.value.code == "pattern_too_slow"
    # While the patterns were tried, the loop went on.
    assert turns > 100


async def test_a_configuration_with_a_slow_pattern_is_not_taken(tmp_path):
    route = {"targets": ["toy/m"], "cascade": {"reject": ["fine.*", SLOW]}, "strategy": "cascade"}
    route["post"] = ["trim", {"regex_replace": {"pattern": "(ab|a|b)+$", "with": ""}}]
    settings = {"gateway": {"providers": {"toy": {"kind": "scripted"}}, "routes": {"r": route}}}
    rule = {"id": "r", "detector": "patterns", "at": ["output"], "action": "block", "patterns": [r"(\d|\d\d)+$"]}
    apps = {"a": {"guardrails": {"rules": [rule]}, "route": {"targets": ["toy/m"]}}}
    workspace = write_workspace(tmp_path / "w", settings=settings, apps=apps)
    async with open_app(workspace) as app:
        problems = await app.configuration.problems(app.workspace)
        assert [problem.field for problem in problems] == [
            "gateway.routes.r.cascade.reject[1]",
            "gateway.routes.r.post[1].regex_replace.pattern",
        ]
        found = [finding for finding in [one async for one in examine(app)] if "pattern" in finding.cause]
        assert ("warn", "app a, guardrails rule r") in [(finding.state, finding.what) for finding in found]


@pytest.mark.parametrize("pattern", [r"\bkey-[0-9a-f]{8,}\b", r"(?i)as an ai (big )?model", r"^\s*\{.*\}\s*$", "."])
def test_usual_patterns_are_not_called_slow(pattern):
    assert slow_on(pattern) is None
