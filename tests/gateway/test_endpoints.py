"""What providers do besides chat, where they send it, and the presets."""

from __future__ import annotations

import json
from contextlib import aclosing

import pytest

from interlock.core.errors import InvalidInput, Misconfigured, NotFound, ProviderError
from interlock.core.messages import ChatRequest, ReasoningPart, text_message
from interlock.gateway.ports import CountsTokens, Moderates, Ranked, RelayCall, Relays, Reranks
from interlock.gateway.presets import presets
from interlock.gateway.profiles import profile
from interlock.gateway.service import PROVIDERS, collect
from interlock.gateway.settings import ProviderSettings
from interlock.testing.providers import caller, deps, events_of
from interlock.testing.upstream import Reply, fake_upstream
from interlock.testing.wires import AnthropicWire, BedrockWire, GoogleWire, OpenAIWire

HI = ChatRequest("x/m", (text_message("user", "hi"),))


@pytest.fixture
async def upstream():
    async with fake_upstream() as upstream:
        upstream.base = upstream.url.removesuffix("/v1")
        yield upstream


@pytest.fixture
async def build():
    built = []

    def make(kind, environ=None, **settings):
        provider = PROVIDERS.get(kind)("mine", ProviderSettings(kind=kind, **settings), deps(environ=environ or {}))
        built.append(provider)
        return provider

    yield make
    for provider in built:
        await provider.close()


def reply(body, status=200, **headers):
    return Reply([json.dumps(body).encode()], status, {"content-type": "application/json", **headers})


@pytest.mark.parametrize("name", sorted(presets()))
async def test_a_preset_answers_a_chat(name, upstream, build):
    preset = presets()[name]
    environ = {preset.key_env: "k"} if preset.key_env else {}
    provider = build(name, environ, base_url=upstream.url)
    upstream.will(Reply(OpenAIWire().answer(["hi"], thought="hm")))
    result = await collect(provider.stream(caller(), HI, "m"))
    assert result.message.text == "hi"
    assert isinstance(result.message.parts[0], ReasoningPart)
    (request,) = upstream.requests
    assert request.headers.get("authorization") == ("Bearer k" if preset.key_env else None)
    assert ("stream_options" in request.body) is preset.quirks.stream_options
    if preset.key_env:
        with pytest.raises(Misconfigured) as caught:
            await events_of(build(name, base_url=upstream.url).stream(caller(), HI, "m"))
        assert preset.key_env in (caught.value.hint or "")


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(InvalidInput) as caught:
        PROVIDERS.get("opnrouter")
    assert "did you mean 'openrouter'?" in caught.value.hint
    assert "bedrock" in caught.value.hint


async def test_a_preset_without_an_address_asks_for_one(build):
    with pytest.raises(Misconfigured) as caught:
        build("databricks", {"DATABRICKS_TOKEN": "k"})
    assert caught.value.param == "gateway.providers.mine.base_url"


def test_bedrocks_names_find_their_family():
    assert profile("us.anthropic.claude-sonnet-4-5-20250929-v1:0") == profile("claude-sonnet-4-5")
    assert profile("eu.amazon.nova-lite-v1:0").images


async def test_documents_are_reranked(upstream, build):
    rows = {"results": [{"index": 1, "relevance_score": 0.2}, {"index": 0, "relevance_score": 0.9}]}
    upstream.will(reply({**rows, "usage": {"total_tokens": 12}}))
    provider = build("jina", {"JINA_API_KEY": "k"}, base_url=upstream.url)
    assert isinstance(provider, Reranks)
    found = await provider.rerank(caller(), "q", ["a", "b"], "m", limit=1)
    assert (list(found.rows), found.usage.input_tokens) == ([Ranked(0, 0.9)], 12)
    assert upstream.requests[0].body == {"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1}

    upstream.will(reply([{"index": 0, "score": 0.9}]))
    tei = build("tei", base_url=upstream.url)
    assert (await tei.rerank(caller(), "q", ["a"], "m", limit=None)).rows == [Ranked(0, 0.9)]
    assert upstream.requests[1].body == {"query": "q", "texts": ["a"]}

    upstream.will(reply({"data": [{"index": 0, "relevance_score": 0.9}]}))
    await build("voyage", {"VOYAGE_API_KEY": "k"}, base_url=upstream.url).rerank(caller(), "q", ["a"], "m", limit=3)
    assert upstream.requests[2].body["top_k"] == 3

    upstream.will(reply({**rows, "meta": {"billed_units": {"search_units": 1}}}))
    cohere = build("cohere", {"K": "k"}, base_url=upstream.base, api_key_env="K")
    assert (await cohere.rerank(caller(), "q", ["a", "b"], "m", limit=None)).searches == 1
    assert upstream.requests[3].path == "/v2/rerank"

    upstream.will(reply(rows))
    bedrock = build("bedrock", {"K": "k"}, base_url=upstream.base, api_key_env="K", region="r")
    found = await bedrock.rerank(caller(), "q", ["a", "b"], "cohere.rerank-v3-5:0", limit=None)
    assert (found.searches, upstream.requests[4].path) == (1, "/model/cohere.rerank-v3-5%3A0/invoke")


@pytest.mark.parametrize("body", [{"results": [{"index": 5, "relevance_score": 1}]}, {"results": "x"}, [], [{}], 7])
async def test_a_ranking_of_another_shape_is_a_provider_error(upstream, build, body):
    upstream.will(reply(body))
    provider = build("vllm", base_url=upstream.url)
    if body == []:
        assert (await provider.rerank(caller(), "q", ["a"], "m", limit=None)).rows == []
        return
    with pytest.raises(ProviderError):
        await provider.rerank(caller(), "q", ["a"], "m", limit=None)


async def test_texts_are_moderated(upstream, build):
    row = {"flagged": True, "categories": {"hate": True, "self-harm": False}, "category_scores": {"hate": 0.9}}
    upstream.will(reply({"results": [row]}))
    provider = build("openai", base_url=upstream.url)
    assert isinstance(provider, Moderates)
    (verdict,) = await provider.moderate(caller(), ["x"], "omni-moderation-latest")
    assert (verdict.flagged, verdict.categories["hate"], verdict.scores) == (True, True, {"hate": 0.9})
    with pytest.raises(ProviderError):
        await provider.moderate(caller(), ["x", "y"], "m")
    with pytest.raises(InvalidInput):
        await build("groq", {"GROQ_API_KEY": "k"}, base_url=upstream.url).moderate(caller(), ["x"], "m")


FORM = (
    b'--b1\r\nContent-Disposition: form-data; name="model"\r\n\r\nx/whisper-1\r\n'
    b'--b1\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"RIFF\r\n\r\n\x00name=model\xff\r\n--b1--\r\n"
)


async def test_audio_is_relayed_under_the_providers_own_name(upstream, build):
    upstream.will(reply({"text": "hello"}))
    provider = build("openai", base_url=upstream.url)
    assert isinstance(provider, Relays)
    call = RelayCall("transcription", "multipart/form-data; boundary=b1", FORM)
    answer = await provider.relay(caller(), call, "whisper-1")
    async with aclosing(answer.body) as body:
        assert json.loads(b"".join([piece async for piece in body])) == {"text": "hello"}
    request = upstream.requests[0]
    assert request.path == "/v1/audio/transcriptions"
    assert request.raw.count(b'name="model"') == 1
    assert b"\r\n\r\nwhisper-1\r\n" in request.raw
    assert b"x/whisper-1" not in request.raw
    assert b"RIFF\r\n\r\n\x00name=model\xff\r\n--b1--\r\n" in request.raw


async def test_sound_comes_as_it_is_made_and_leaving_hangs_up(upstream, build):
    provider = build("openai", base_url=upstream.url)
    call = RelayCall("speech", "application/json", b'{"model": "x/tts-1", "input": "hi"}')
    upstream.will(Reply([b"ID3", b"abc"], headers={"content-type": "audio/mpeg"}))
    answer = await provider.relay(caller(), call, "tts-1")
    assert answer.content_type == "audio/mpeg"
    assert b"".join([piece async for piece in answer.body]) == b"ID3abc"
    assert upstream.requests[0].body == {"model": "tts-1", "input": "hi"}
    upstream.will(Reply([b"abc"], then="repeat"))
    for read in (True, False):
        answer = await provider.relay(caller(), call, "tts-1")
        if read:
            await anext(answer.body)
        await answer.body.aclose()
        await upstream.until_idle()
    upstream.will(Reply([b"abc"], then="break off"))
    answer = await provider.relay(caller(), call, "tts-1")
    with pytest.raises(ProviderError):
        _ = [piece async for piece in answer.body]


async def test_a_relayed_call_that_fails_raises_before_any_body(upstream, build):
    provider = build("openai", base_url=upstream.url)
    upstream.will(OpenAIWire().error(404, "model_not_found", "no"))
    with pytest.raises(NotFound):
        await provider.relay(caller(), RelayCall("speech", "application/json", b"{}"), "tts-1")
    for kind, body in (
        ("text/plain", b"x"),
        ("application/json", b"["),
        ("application/json", b"[]"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b1", b"--b1\r\n\r\nx"),
    ):
        with pytest.raises(InvalidInput):
            await provider.relay(caller(), RelayCall("transcription", kind, body), "m")


async def test_prompts_are_counted_by_their_provider(upstream, build):
    anthropic = build("anthropic", base_url=upstream.url)
    assert isinstance(anthropic, CountsTokens)
    upstream.will(reply({"input_tokens": 14}))
    assert await anthropic.count_tokens(caller(), HI, "claude-haiku-4-5") == 14
    assert upstream.requests[0].path == "/v1/messages/count_tokens"
    assert set(upstream.requests[0].body) == {"model", "messages"}
    upstream.will(reply({"totalTokens": 15}))
    assert await build("google", base_url=upstream.url).count_tokens(caller(), HI, "gemini-2.5-flash") == 15
    assert upstream.requests[1].body["generateContentRequest"]["model"] == "models/gemini-2.5-flash"
    upstream.will(reply({"inputTokens": 16}))
    bedrock = build("bedrock", {"K": "k"}, base_url=upstream.url, api_key_env="K", region="r")
    assert await bedrock.count_tokens(caller(), HI, "m") == 16
    upstream.will(reply({}))
    with pytest.raises(ProviderError):
        await bedrock.count_tokens(caller(), HI, "m")


async def test_azure_takes_a_token_and_the_v1_path(upstream, build):
    env = {
        "AZURE_AUTHORITY_HOST": upstream.base,
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_SECRET": "s",
    }
    provider = build("azure", env, base_url=upstream.base, deployments={"gpt-4.1-mini": "prod-mini"})
    upstream.will(reply({"access_token": "tok", "expires_in": 3600}), Reply(OpenAIWire().answer(["hi"])))
    await events_of(provider.stream(caller(), HI, "gpt-4.1-mini"))
    request = upstream.requests[1]
    assert request.path == "/openai/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer tok"
    assert request.body["model"] == "prod-mini"
    assert await provider.models() == ["gpt-4.1-mini"]
    with pytest.raises(Misconfigured):
        build("azure")


async def test_azures_older_path_holds_the_deployment(upstream, build):
    provider = build("azure", {"K": "k"}, base_url=upstream.base, api_version="2024-10-21", api_key_env="K")
    upstream.will(Reply(OpenAIWire().answer(["hi"])))
    await events_of(provider.stream(caller(), HI, "my dep"))
    assert upstream.requests[0].path == "/openai/deployments/my%20dep/chat/completions?api-version=2024-10-21"
    assert upstream.requests[0].headers["api-key"] == "k"


async def test_vertex_calls_its_project_with_a_token(upstream, build, tmp_path):
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    file = tmp_path / "adc.json"
    file.write_text(json.dumps({**user, "token_uri": f"{upstream.base}/token"}))
    settings = {"base_url": upstream.url, "project": "p", "region": "europe-west4", "models": ["gemini-2.5-flash"]}
    upstream.will(
        reply({"access_token": "ya29", "expires_in": 3600}),
        Reply(GoogleWire().answer(["hi"])),
        reply({"predictions": [{"embeddings": {"values": [1.0], "statistics": {"token_count": 2}}}]}),
    )
    provider = build("vertex", **settings, credentials=f"file:{file}")
    result = await collect(provider.stream(caller(), HI, "gemini-2.5-flash"))
    assert result.message.text == "hi"
    place = "/v1/projects/p/locations/europe-west4/publishers/google/models"
    assert upstream.requests[1].path == f"{place}/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert upstream.requests[1].headers["authorization"] == "Bearer ya29"
    assert await provider.embed(caller(), ["a"], "text-embedding-005") == ([[1.0]], 2)
    upstream.will(Reply(AnthropicWire().answer(["salut"])))
    result = await collect(provider.stream(caller(), HI, "claude-sonnet-4-5@20250929"))
    assert result.message.text == "salut"
    claude = upstream.requests[-1]
    assert claude.path == f"{place.replace('google', 'anthropic')}/claude-sonnet-4-5@20250929:streamRawPredict"
    assert claude.body["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in claude.body
    with pytest.raises(Misconfigured):
        build("vertex")


async def test_bedrock_signs_what_it_sends(upstream, build):
    auth = pytest.importorskip("botocore.auth")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    env = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_REGION": "eu-central-1"}
    provider = build("bedrock", env, base_url=upstream.base)
    upstream.will(Reply(BedrockWire().answer(["hi"])))
    await events_of(provider.stream(caller(), HI, "eu.anthropic.claude-haiku-4-5-20251001-v1:0"))
    (request,) = upstream.requests
    assert request.path == "/model/eu.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream"
    url = upstream.base + request.path
    again = AWSRequest("POST", url, data=request.raw, headers={"content-type": request.headers["content-type"]})
    again.context["timestamp"] = request.headers["x-amz-date"]
    again.headers["X-Amz-Date"] = request.headers["x-amz-date"]
    signer = auth.SigV4Auth(Credentials("AKIDEXAMPLE", "s3cret"), "bedrock", "eu-central-1")
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert request.headers["authorization"].endswith(signature)
    with pytest.raises(Misconfigured):
        build("bedrock")


async def test_a_damaged_frame_is_told(upstream, build):
    provider = build("bedrock", {"K": "k"}, base_url=upstream.base, api_key_env="K", region="r")
    whole = b"".join(BedrockWire().answer(["hi"]))
    for broken in (whole[:-3], whole[:50] + b"x" + whole[51:], b"\x00" * 40):
        upstream.will(Reply([broken]))
        with pytest.raises(ProviderError):
            await events_of(provider.stream(caller(), HI, "m"))


async def test_titan_and_cohere_embed_on_bedrock(upstream, build):
    provider = build("bedrock", {"K": "k"}, base_url=upstream.base, api_key_env="K", region="r")
    upstream.will(reply({"embedding": [1.0], "inputTextTokenCount": 3}))
    assert await provider.embed(caller(), ["a", "b"], "amazon.titan-embed-text-v2:0") == ([[1.0], [1.0]], 6)
    for rows in ([[1.0]], {"float": [[1.0]]}):
        upstream.will(reply({"embeddings": rows}))
        assert await provider.embed(caller(), ["a"], "cohere.embed-v4:0") == ([[1.0]], 0)
    upstream.will(reply({"embedding": None}))
    with pytest.raises(ProviderError):
        await provider.embed(caller(), ["a"], "amazon.titan-embed-text-v2:0")
