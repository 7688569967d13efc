"""Probabilities of tokens between OpenAI's and Google's APIs, through Google's and OpenAI's own clients."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from google import genai
from google.genai import errors, types

from interlock.testing.upstream import Reply, sse
from interlock.testing.wires import GoogleWire

from .test_lane import site

ENTRY = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]}
OTHER = {"token": "Yo", "logprob": -1.5, "bytes": [89, 111]}


def openai_reply():
    logprobs = {"content": [{**ENTRY, "top_logprobs": [ENTRY, OTHER]}], "refusal": None}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1-mini"}
    said = {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": None, "logprobs": logprobs}
    end = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    chunks = [{**head, "choices": [said]}, {**head, "choices": [end]}, {**head, "choices": [], "usage": usage}]
    return Reply([*sse(*chunks), b"data: [DONE]\n\n"])


def google_reply():
    def told(entry):
        return {"token": entry["token"], "logProbability": entry["logprob"], "tokenId": 7}

    result = {"chosenCandidates": [told(ENTRY)], "topCandidates": [{"candidates": [told(ENTRY), told(OTHER)]}]}
    wire = GoogleWire()
    first = wire._chunk([{"text": "Hi"}], logprobsResult=result)
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1}
    return Reply(sse(first, {**wire._chunk([], finishReason="STOP"), "usageMetadata": usage}))


UPSTREAMS = pytest.mark.parametrize(
    ("kind", "model", "reply"),
    [("openai", "gpt-4.1-mini", openai_reply), ("google", "gemini-2.5-flash", google_reply)],
)
BOTH = pytest.mark.parametrize("stream", [False, True])


def asked_upstream(sent):
    config = sent.body.get("generationConfig")
    if config is None:
        return sent.body["logprobs"], sent.body["top_logprobs"]
    return config["responseLogprobs"], config["logprobs"]


@UPSTREAMS
@BOTH
async def test_googles_client_reads_them_whoever_answers(tmp_path, kind, model, reply, stream):
    async with site(tmp_path, on=False, kind=kind, model=model) as s:
        s.upstream.will(reply())
        with genai.Client(api_key=s.key, http_options=types.HttpOptions(base_url=s.server.url)) as client:
            config = types.GenerateContentConfig(response_logprobs=True, logprobs=2)
            ask = client.models.generate_content_stream if stream else client.models.generate_content

            def run():
                answer = ask(model="route/r", contents="hi", config=config)
                return list(answer) if stream else [answer]

            chunks = await asyncio.to_thread(run)
        (candidate,) = [c.candidates[0] for c in chunks if c.candidates[0].logprobs_result]
        (chosen,) = candidate.logprobs_result.chosen_candidates
        assert (chosen.token, chosen.log_probability) == ("Hi", -0.25)
        (tops,) = candidate.logprobs_result.top_candidates
        assert [(top.token, top.log_probability) for top in tops.candidates] == [("Hi", -0.25), ("Yo", -1.5)]
        assert candidate.avg_logprobs == -0.25
        assert asked_upstream(s.upstream.requests[-1]) == (True, 2)


@UPSTREAMS
@BOTH
async def test_openais_client_reads_them_whoever_answers(tmp_path, kind, model, reply, stream):
    async with site(tmp_path, on=False, kind=kind, model=model) as s:
        s.upstream.will(reply())
        async with openai.AsyncOpenAI(base_url=f"{s.server.url}/v1", api_key=s.key) as client:
            messages = [{"role": "user", "content": "hi"}]
            wanted = {"model": "route/r", "messages": messages, "logprobs": True, "top_logprobs": 2}
            if stream:
                chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **wanted)]
                choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
            else:
                choices = (await client.chat.completions.create(**wanted)).choices
        (logprobs,) = [choice.logprobs for choice in choices if choice.logprobs]
        (entry,) = logprobs.content
        assert (entry.token, entry.logprob, entry.bytes) == ("Hi", -0.25, [72, 105])
        assert [top.token for top in entry.top_logprobs] == ["Hi", "Yo"]
        assert asked_upstream(s.upstream.requests[-1]) == (True, 2)


@UPSTREAMS
async def test_a_schema_in_googles_dialect_or_as_json_schema_reaches_every_target(tmp_path, kind, model, reply):
    dialect = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}, "required": ["a"]}
    plain = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}
    text = json.dumps({"a": None})
    async with site(tmp_path, on=False, kind=kind, model=model) as s:
        for name, schema in (("response_schema", dialect), ("response_json_schema", plain)):
            said = GoogleWire().answer([text]) if kind == "google" else None
            s.upstream.will(
                Reply(said) if said else Reply([p.replace(b"Hi", b'{\\"a\\": null}') for p in openai_reply().pieces])
            )
            config = types.GenerateContentConfig(response_mime_type="application/json", **{name: schema})
            with genai.Client(api_key=s.key, http_options=types.HttpOptions(base_url=s.server.url)) as client:
                answer = await asyncio.to_thread(
                    client.models.generate_content, model="route/r", contents="hi", config=config
                )
            assert json.loads(answer.text) == {"a": None}
            sent = s.upstream.requests[-1].body
            found = (
                sent["generationConfig"]["responseJsonSchema"]
                if kind == "google"
                else sent["response_format"]["json_schema"]["schema"]
            )
            assert found["properties"] == plain["properties"]


async def test_how_many_without_asking_for_them_is_an_error(tmp_path):
    async with site(tmp_path, on=False) as s:
        with genai.Client(api_key=s.key, http_options=types.HttpOptions(base_url=s.server.url)) as client:
            config = types.GenerateContentConfig(logprobs=2)
            with pytest.raises(errors.ClientError, match=r"responseLogprobs"):
                await asyncio.to_thread(client.models.generate_content, model="route/r", contents="hi", config=config)
        assert s.upstream.requests == []
