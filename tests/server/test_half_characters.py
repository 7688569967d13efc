"""A provider that cuts an emoji in two, seen by clients of every API."""

from __future__ import annotations

import json

import pytest

from interlock.testing.upstream import Reply

from .test_lane import JSON, MODEL, USAGE, site

ASKS = {
    "/v1/chat/completions": {},
    "/v1/messages": {"max_tokens": 9},
    "/v1/responses": {"input": "hi", "messages": None},
}


def answer(stream, *pieces):
    # Escaped as JSON allows: the two halves of an emoji each for itself, and one that has no other.
    if not stream:
        message = {"role": "assistant", "content": "".join(pieces)}
        body = {"id": "c1", "object": "chat.completion", "created": 1, "model": MODEL, "usage": USAGE}
        body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return Reply([json.dumps(body).encode()], headers=JSON)
    base = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunks = [
        {**base, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]} for piece in pieces
    ]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE})
    return Reply([f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASKS)
async def test_an_answer_with_half_characters_arrives(tmp_path, path, stream):
    async with site(tmp_path, on=False) as s:
        s.upstream.will(answer(stream, "ab \ud83d", "\ude00 cd \ud83d", " e"))
        found = await s.ask(path=path, stream=stream, **ASKS[path])
        assert found.status_code == 200, found.text
        if stream:
            events = [json.loads(line[6:]) for line in found.text.splitlines() if line.startswith("data: {")]
            texts = [
                event.get("delta") if isinstance(event.get("delta"), str) else (event.get("delta") or {}).get("text")
                for event in events
            ]
            texts += [choice["delta"].get("content") for event in events for choice in event.get("choices", ())]
            text = "".join(filter(None, texts))
        else:
            body = found.json()
            text = (
                body["choices"][0]["message"]["content"]
                if "choices" in body
                else (body.get("content") or body["output"][0]["content"])[0]["text"]
            )
        assert text == "ab 😀 cd \ufffd e"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_lane_forwards_half_characters_as_they_came(tmp_path, stream):
    async with site(tmp_path) as s:
        s.upstream.will(answer(True, "warm"))
        await s.warm(stream=True)
        s.upstream.will(answer(stream, "ab \ud83d", "\ude00 cd \ud83d", " e"))
        found = await s.ask(stream=stream)
        assert await s.took_lane(found)
        if stream:
            events = [json.loads(line[6:]) for line in found.text.splitlines() if line.startswith("data: {")]
            text = "".join(c["delta"].get("content") or "" for event in events for c in event.get("choices", ()))
            assert found.text.endswith("data: [DONE]\n\n")
        else:
            text = json.loads(found.content)["choices"][0]["message"]["content"]
        assert text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") == "ab 😀 cd \ufffd e"
