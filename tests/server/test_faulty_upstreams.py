"""Upstreams that report nonsense, fall silent, ask to wait or answer otherwise than asked: on both paths the same."""

from __future__ import annotations

import pytest

from interlock.testing.upstream import Reply

from .test_lane import BOTH, JSON, USAGE, site, streamed, whole

LONG = [{"role": "user", "content": "word " * 20_000}]


async def warmed(s):
    s.upstream.will(streamed("ok"))
    await s.warm(stream=True)


@BOTH
@pytest.mark.parametrize(
    "reported",
    [
        {"prompt_tokens": -1_000_000, "completion_tokens": -5, "total_tokens": -1_000_005},
        {"prompt_tokens": 10**18, "completion_tokens": 1, "total_tokens": 1},
    ],
    ids=["negative", "huge"],
)
async def test_usage_that_cannot_be_is_replaced_by_an_estimate(tmp_path, on, reported):
    async with site(tmp_path, on=on) as s:
        await warmed(s)
        s.upstream.will(whole(usage=reported))
        answer = await s.ask()
        assert answer.status_code == 200, answer.text
        (row,) = (await s.trace(answer))["ledger"]
        assert row["usage"]["estimated"]
        assert 0 < row["usage"]["input_tokens"] < 1000
        assert float(row["cost_usd"]) > 0


@BOTH
@pytest.mark.parametrize("body", [b"{}", b'{"choices": []}', b"[]", b"nonsense"])
async def test_what_is_no_answer_is_none(tmp_path, on, body):
    async with site(tmp_path, on=on, route={"retries": 0}) as s:
        await warmed(s)
        s.upstream.will(Reply([body], headers=JSON))
        answer = await s.ask()
        assert answer.status_code == 502, answer.text
        assert answer.json()["error"]["code"].startswith("provider_")


@BOTH
async def test_an_event_that_is_no_json_ends_the_stream_with_an_error(tmp_path, on):
    async with site(tmp_path, on=on) as s:
        await warmed(s)
        pieces = streamed("Hello").pieces
        s.upstream.will(Reply([*pieces[:2], b"data: {broken\n\n", b"data: [DONE]\n\n"]))
        answer = await s.ask(stream=True)
        assert "{broken" not in answer.text
        assert '"error"' in answer.text


@BOTH
async def test_how_long_an_answer_may_be_is_the_caller_s_to_say(tmp_path, on):
    async with site(tmp_path, on=on, route={"max_output_tokens": None}) as s:
        await warmed(s)
        for asked in ({}, {"max_tokens": 4000}):
            s.upstream.will(whole())
            assert (await s.ask(**asked)).status_code == 200
            assert s.upstream.requests[-1].body.get("max_tokens") == asked.get("max_tokens")


@BOTH
async def test_a_target_that_asks_to_wait_is_not_waited_for_while_there_is_another(tmp_path, on):
    route = {"targets": ["up/gpt-4.1-mini", "up/gpt-4.1"], "retries": 2}
    async with site(tmp_path, on=on, route=route) as s:
        await warmed(s)
        s.upstream.will(Reply([b"{}"], status=429, headers={**JSON, "retry-after": "7"}), whole())
        answer = await s.ask()
        assert answer.status_code == 200, answer.text
        assert [sent.body["model"] for sent in s.upstream.requests] == ["gpt-4.1-mini", "gpt-4.1"]


@BOTH
async def test_a_silent_target_leaves_the_next_one_its_share_of_the_time(tmp_path, on):
    route = {"targets": ["up/gpt-4.1-mini", "up/gpt-4.1"], "retries": 2, "total_timeout_s": 4}
    async with site(tmp_path, on=on, route=route) as s:
        await warmed(s)
        s.upstream.will(Reply(silent_first=True), whole())
        answer = await s.ask()
        assert answer.status_code == 200, answer.text
        assert [sent.body["model"] for sent in s.upstream.requests] == ["gpt-4.1-mini", "gpt-4.1"]


async def test_a_prompt_beyond_every_context_is_the_caller_s_to_shorten(tmp_path):
    async with site(tmp_path, route={"targets": ["up/gpt-4"]}) as s:
        answer = await s.ask(messages=LONG)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("model", ["up/漢", "up/a\r\nx-evil: 1", "up/\x7f", "up/" + "a" * 300])
async def test_a_name_that_cannot_stand_in_a_header_is_refused(tmp_path, model):
    async with site(tmp_path) as s:
        answer = await s.ask(model=model)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "model"
        assert not s.upstream.requests


async def test_more_calls_than_connections_are_kept_go_out_at_once(tmp_path):
    import asyncio

    async with site(tmp_path, on=False) as s:
        s.upstream.will(whole(usage=USAGE))
        answers = await asyncio.gather(*(s.ask() for _ in range(300)))
        assert {answer.status_code for answer in answers} == {200}
