"""Searching an index elsewhere: both kinds, over HTTP, by every caller's rights."""

from __future__ import annotations

import base64
import json
import logging
import random
import ssl
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.knowledge.conftest import OPERATOR, caller

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.errors import InvalidInput, LimitExceeded, Misconfigured, NotFound, Unavailable
from interlock.knowledge.filters import read_filter
from interlock.knowledge.retrieval.settings import RetrievalSteps
from interlock.testing.search_index import Forced, SearchIndex, serve_index

pytestmark = pytest.mark.anyio
VECTORS = {"field": "vector", "embedder": "hash:64"}


async def three(branch):
    await branch.put("a", "Hardware is returned within 30 days.", "public", title="Returns", url="https://x/returns")
    await branch.put(
        "b", "The salary band of engineers is 61,000.", "group:finance", title="Bands", team="HR", year=2024
    )
    await branch.put("c", "Hardware without a label: nobody returns it.", title="Unlabelled")


def clauses(body):
    """Every key of a body, at any depth."""
    if isinstance(body, dict):
        for key, value in body.items():
            yield key
            yield from clauses(value)
    elif isinstance(body, list):
        for value in body:
            yield from clauses(value)


async def test_words_find_what_the_caller_may_read_and_nothing_without_a_label(branch):
    await three(branch)
    knowledge = branch.knowledge()
    [found] = await knowledge.search(caller(), "returned hardware", collection="docs")
    assert (found.title, found.source) == ("Returns", "https://x/returns")
    assert await knowledge.search(caller(), "salary", collection="docs") == []
    [band] = await knowledge.search(caller("finance"), "salary", collection="docs")
    assert dict(band.metadata) == {"team": "HR", "year": "2024"}
    for body in branch.server.asked:
        [rights] = [one for one in body["query"]["bool"]["filter"] if "terms" in one]
        assert "public" in rights["terms"]["acl.readers"]
    assert branch.server.asked[0]["query"]["bool"]["filter"] != branch.server.asked[2]["query"]["bool"]["filter"]
    await knowledge.close()


async def test_meaning_and_words_are_fused_and_scores_are_cosines(branch):
    await three(branch)
    knowledge = branch.knowledge(vector=VECTORS)
    found = await knowledge.search(caller(), "Hardware is returned within 30 days.", collection="docs")
    assert found[0].title == "Returns"
    assert found[0].dense_score == pytest.approx(1.0, abs=1e-3)
    assert found[0].lexical_score == 1.0
    assert len(branch.server.asked) == 2
    for mode, asked in (("dense", 1), ("lexical", 1)):
        branch.server.asked.clear()
        assert (await knowledge.search(caller(), "hardware", collection="docs", mode=mode))[0].title == "Returns"
        assert len(branch.server.asked) == asked
    await knowledge.close()


async def test_vectors_of_another_embedder_are_not_compared(branch):
    await three(branch)
    knowledge = branch.knowledge(vector={**VECTORS, "embedder": "other:64"})
    with pytest.raises(Misconfigured) as caught:
        await knowledge.search(caller(), "hardware", collection="docs")
    assert caught.value.param == "index.vector.embedder"
    assert await knowledge.search(caller(), "hardware", collection="docs", mode="lexical")
    without = branch.knowledge()
    with pytest.raises(InvalidInput, match="no vectors"):
        await without.search(caller(), "hardware", collection="docs", mode="dense")
    await knowledge.close()
    await without.close()


async def test_what_was_found_can_be_read_cited_and_explained(branch):
    text = "\n\n".join(f"Section {n}. Nothing to see in part {n}, as in all the others." for n in range(60))
    text = text.replace("Section 40.", "Section 40. The torque of the flange is 12 newton metres.")
    await branch.put("long/one?", text, "public", title="Manual")
    knowledge = branch.knowledge()
    [found] = await knowledge.search(caller(), "torque of the flange", collection="docs")
    assert "12 newton metres" in found.text
    assert len(found.text) <= 1100
    whole = await knowledge.document_text(caller(), found.document_id, found.document_digest)
    assert whole.text[found.span.start : found.span.end] == found.text
    assert whole.digest == digest_bytes(text.encode())
    assert await knowledge.span_boxes(caller(), found.document_id, found.span) == ()
    parts = await knowledge.passages(caller(), found.document_id)
    assert found.id in {part.id for part in parts}
    assert len(await knowledge.evidence(caller(), parts[:3], budget_tokens=2000)) == 1
    told = await knowledge.explain(caller(), "torque of the flange", collection="docs", document=found.document_id)
    assert [candidate.fate for candidate in told.candidates] == ["context"]
    assert told.why_not.reason == "found"
    assert {"torqu", "flang"} <= set(told.candidates[0].words)
    branch.server.documents["long/one?"]["text"] = "Changed."
    with pytest.raises(NotFound):
        await knowledge.document_text(caller(), found.document_id, found.document_digest)
    assert (await knowledge.document_text(caller(), found.document_id)).text == "Changed."
    await knowledge.close()


async def test_a_document_is_read_by_its_readers_alone(branch):
    await three(branch)
    knowledge = branch.knowledge()
    [band] = await knowledge.search(caller("finance"), "salary", collection="docs")
    stranger = caller("finance", tenant="other")
    for who in (caller(), OPERATOR, stranger):
        for read in (knowledge.document_text, knowledge.document, knowledge.passages, knowledge.original_bytes):
            with pytest.raises(NotFound):
                await read(who, band.document_id)
    with pytest.raises(NotFound):
        await knowledge.explain(OPERATOR, "salary", collection="docs", document=band.document_id)
    for broken in ("ext_docs.", "ext_docs.!!", band.document_id + "=", "ext_other.YQ", "ext_docs." + "Y" * 5000):
        with pytest.raises(NotFound):
            await knowledge.document_text(caller("finance"), broken)
    assert await knowledge.search(stranger, "salary", collection="docs") == []
    branch.server.documents["b"]["acl"] = {"readers": ["group:board"]}
    with pytest.raises(NotFound):
        await knowledge.document_text(caller("finance"), band.document_id)
    assert await knowledge.collection_names(caller("nobody")) == ["docs"]
    branch.server.documents.pop("a")
    assert await knowledge.collection_names(caller("nobody")) == []
    await knowledge.close()


async def test_random_documents_and_callers_never_meet_without_a_common_label(branch):
    draw = random.Random(7)
    labels = ["public", *(f"group:g{n}" for n in range(8)), "user:ada", "user:bo"]
    words = ["hardware", "salary", "torque", "return", "policy"]
    for number in range(200):
        readers = draw.sample(labels, draw.choice([0, 1, 1, 2, 3]))
        await branch.put(f"d{number}", f"secret{number} " + " ".join(draw.choices(words, k=6)), *readers)
    knowledge = branch.knowledge(vector=VECTORS)
    allowed = {name: set(d.get("acl", {}).get("readers", [])) for name, d in branch.server.documents.items()}
    leaks = checks = missed = 0
    for _ in range(60):
        ctx = caller(
            *[f"g{n}" for n in draw.sample(range(8), draw.randint(0, 3))], user=draw.choice(["ada", "bo", "cy"])
        )
        changed = draw.choice(list(branch.server.documents))
        allowed[changed] = set(draw.sample(labels, draw.choice([0, 1, 2])))
        branch.server.documents[changed]["acl"] = {"readers": sorted(allowed[changed])}
        found = await knowledge.search(ctx, " ".join(draw.sample(words, 2)), collection="docs", limit=200)
        seen = {int(passage.text.split()[0].removeprefix("secret")) for passage in found}
        for number in range(200):
            checks += 1
            leaks += number in seen and not allowed[f"d{number}"] & ctx.readers
        one = draw.randrange(200)
        texts = await knowledge.search(ctx, f"secret{one}", collection="docs", limit=5, mode="lexical")
        missed += bool(allowed[f"d{one}"] & ctx.readers) != bool(texts)
    assert (leaks, missed, checks) == (0, 0, 12_000)
    await knowledge.close()


async def test_an_index_that_ignores_the_filter_is_not_believed(branch):
    await three(branch)
    knowledge = branch.knowledge()
    everything = branch.server.search({"query": {"match_all": {}}})
    branch.server.forced = [Forced(body=json.dumps(everything).encode())]
    assert {p.title for p in await knowledge.search(caller(), "hardware", collection="docs")} == {"Returns"}
    await knowledge.close()


async def test_labels_of_the_index_are_mapped(branch):
    await branch.put("a", "The quarterly report.", "acl-17")
    await branch.put("b", "The quarterly plan.", "group:finance")
    knowledge = branch.knowledge(readers_map={"group:finance": ["acl-17", "acl-18"]})
    [found] = await knowledge.search(caller("finance"), "quarterly", collection="docs")
    assert found.text == "The quarterly report."
    asked = len(branch.server.asked)
    assert await knowledge.search(caller("sales"), "quarterly", collection="docs") == []
    assert len(branch.server.asked) == asked
    await knowledge.close()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"team": "red"}, "a"),
        ({"team": ["RED", "blue"]}, "ab"),
        ({"team": {"ne": "red"}}, "bc"),
        ({"team": {"exists": False}}, "c"),
        ({"team": {"contains": "LU"}}, "b"),
        ({"team": {"contains": "*"}}, ""),
        ({"team": {"matches": "b*"}}, "b"),
        ({"document.source": {"matches": "docs/*"}}, "a"),
        ({"document.source": {"matches": "docs/**"}}, "ab"),
        ({"document.source": {"matches": "docs/[a-c]"}}, "a"),
        ({"document.source": {"matches": "[!a]*/**"}}, "ab"),
        ({"document.source": {"matches": "docs/**/b"}}, "b"),
        ({"document.source": {"matches": "docs/**/a"}}, "a"),
        ({"document.source": {"matches": "**/c"}}, "c"),
        ({"document.source": {"matches": "*" * 900}}, "abc"),
        ({"updated": {"gte": "yesterday"}}, ""),
        ({"updated": "now||-1d"}, ""),
        ({"updated": {"gte": "2024"}}, "b"),
        ({"updated": "2024-05-01"}, "b"),
        ({"year": {"gte": 2023}}, "b"),
        ({"year": 2020}, "a"),
        ({"year": "x"}, ""),
        ({"updated": {"lt": "2024-01-01"}}, "a"),
        ({"live": True}, "b"),
        ({"nothing": "x"}, ""),
        ({"nothing": {"ne": "x"}}, "abc"),
    ],
)
async def test_metadata_filters_are_the_indexs_own(branch, given, names):
    await branch.put("a", "alpha text", "public", team="red", year=2020, updated="2023-05-01", live=False, url="docs/a")
    await branch.put(
        "b", "beta text", "public", team="blue", year=2024, updated="2024-05-01", live=True, url="docs/x/b"
    )
    await branch.put("c", "gamma text", "public", url="c")
    knowledge = branch.knowledge(vector=VECTORS)
    found = await knowledge.search(caller(), "text", collection="docs", filter=read_filter(given))
    assert "".join(sorted(passage.text[0] for passage in found)) == names.replace("c", "g")
    await knowledge.close()


@pytest.mark.parametrize("given", [{"team": {"gt": "a"}}, {"year": {"contains": "2"}}, {"document.language": "en"}])
async def test_a_filter_that_cannot_be_asked_names_its_field(branch, given):
    knowledge = branch.knowledge()
    with pytest.raises(InvalidInput) as caught:
        await knowledge.search(caller(), "text", collection="docs", filter=read_filter(given))
    assert caught.value.param == f"filter.{next(iter(given))}"
    await knowledge.close()


@pytest.mark.parametrize(
    "query",
    [
        'acl.readers:* OR _exists_:text AND "salary"',
        '"}}],"filter":[]}},"query":{"match_all":{}}',
        "salary\u0000 AND NOT -public /.*/ ~2 ^9",
        "word " * 3000,
        "字" * 5000,
    ],
)
async def test_a_question_is_never_syntax(branch, query):
    await three(branch)
    knowledge = branch.knowledge(vector=VECTORS)
    found = await knowledge.search(caller(), query, collection="docs", mode="lexical")
    assert {passage.title for passage in found} <= {"Returns"}
    [body] = branch.server.asked
    assert not {"query_string", "simple_query_string", "script", "regexp"} & set(clauses(body))
    await knowledge.close()


async def test_limits_of_the_index_are_waited_for_and_then_told(branch):
    await three(branch)
    knowledge = branch.knowledge()
    branch.server.forced = [Forced(429, b"{}", {"retry-after": "0"}), Forced(503, b"{}", {"retry-after": "0"})]
    assert await knowledge.search(caller(), "hardware", collection="docs")
    branch.server.forced = [Forced(429, b"{}", {"retry-after": "0"})] * 3
    with pytest.raises(LimitExceeded):
        await knowledge.search(caller(), "hardware", collection="docs")
    branch.server.forced = [Forced(429, b"{}", {"retry-after": "3600"})]
    with pytest.raises(LimitExceeded) as caught:
        await knowledge.search(caller(), "hardware", collection="docs")
    assert caught.value.retry_after_s == 3600
    await knowledge.close()


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("forced", "code"),
    [
        (Forced(200, b"<html>"), "index_malformed"),
        (Forced(200, b"[]"), "index_malformed"),
        (Forced(200, b"{}"), "index_malformed"),
        (Forced(200, DEEP), "index_malformed"),
        (Forced(200, b'{"hits": {"hits": [{"_id": 1}]}}'), "index_malformed"),
        (
            Forced(200, b'{"hits": {"hits": [{"_id": "1", "_source": {"text": "x"}, "_score": NaN}]}}'),
            "index_malformed",
        ),
        (Forced(200, b'{"timed_out": true, "hits": {"hits": []}}'), "index_timeout"),
        (Forced(200, b" " * 20_000), "index_answer_too_large"),
        (Forced(301, b"", {"location": "http://127.0.0.1:1/"}), "index_unreachable"),
        (Forced(403, b"{}"), "index_refused"),
        (Forced(404, b"{}"), "index_not_found"),
        (Forced(400, b'{"error": {"type": "x_y", "reason": "salary"}}'), "index_query_refused"),
        (Forced(500, b"salary"), "index_unreachable"),
        (Forced(200, b"{}", delay_s=3), "index_timeout"),
    ],
)
async def test_a_wrong_answer_is_a_clear_error_without_anybodys_text(branch, forced, code, caplog):
    branch.environ["INDEX_KEY"] = "hush-hush"
    knowledge = branch.knowledge(
        max_response_bytes=16_384 if code != "index_malformed" else 1_000_000,
        timeout_s=0.5,
        retries=0,
        auth={"api_key_env": "INDEX_KEY"},
        plain_http=True,
    )
    branch.server.forced = [forced]
    with caplog.at_level(logging.DEBUG, logger="interlock"), pytest.raises(Unavailable) as caught:
        await knowledge.search(caller(), "salary", collection="docs")
    assert caught.value.code == code
    for told in (str(caught.value), caught.value.hint or "", caplog.text):
        assert "salary" not in told
        assert "hush" not in told
    await knowledge.close()


async def test_an_index_that_is_away_and_a_deadline_that_is_over(branch):
    knowledge = branch.knowledge(url="http://127.0.0.1:9", retries=1)
    with pytest.raises(Unavailable) as caught:
        await knowledge.search(caller(), "hardware", collection="docs")
    assert (caught.value.code, caught.value.retryable) == ("index_unreachable", True)
    assert await knowledge.collection_names(caller()) == []
    await knowledge.close()


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"api_key_env": "ONE"}, "ApiKey first"),
        ({"bearer_env": "ONE"}, "Bearer first"),
        ({"user_env": "ONE", "password_env": "TWO"}, "Basic " + base64.b64encode(b"first:second").decode()),
    ],
)
async def test_credentials_come_from_the_environment(branch, auth, said):
    await three(branch)
    branch.server.authorization = said
    knowledge = branch.knowledge(auth=auth, plain_http=True)
    with pytest.raises(Misconfigured, match="ONE"):
        await knowledge.search(caller(), "hardware", collection="docs")
    branch.environ |= {"ONE": "wrong", "TWO": "second"}
    with pytest.raises(Unavailable) as caught:
        await knowledge.search(caller(), "hardware", collection="docs")
    assert caught.value.code == "index_refused"
    branch.environ["ONE"] = "first"
    assert await knowledge.search(caller(), "hardware", collection="docs")
    await knowledge.close()


async def test_the_servers_certificate_is_checked_by_the_file_that_is_named(branch, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "search")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = made.add_extension(here, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    file = tmp_path / "search.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "search.key").write_bytes(key.private_bytes(pem, *plain))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, tmp_path / "search.key")
    await three(branch)
    index = SearchIndex(branch.server.kind, branch.server.mapping)
    index.documents = branch.server.documents
    with serve_index(index, tls):
        for more, code in (({}, "index_unreachable"), ({"ca_file": "search.pem"}, None)):
            knowledge = branch.knowledge(url=index.url, retries=0, **more)
            if code is None:
                assert await knowledge.search(caller(), "hardware", collection="docs")
            else:
                with pytest.raises(Unavailable) as caught:
                    await knowledge.search(caller(), "hardware", collection="docs")
                assert caught.value.code == code
            await knowledge.close()
    missing = branch.knowledge(ca_file="nothing.pem")
    with pytest.raises(Misconfigured) as caught:
        await missing.search(caller(), "hardware", collection="docs")
    assert caught.value.param == "index.ca_file"


async def test_steps_that_need_the_words_of_a_collection_say_why_they_did_nothing(branch):
    await three(branch)
    knowledge = branch.knowledge()
    steps = RetrievalSteps.model_validate({"spelling": True, "self_query": {}, "diversity": {"per_document": 1}})
    told = await knowledge.explain(caller(), "hardware", collection="docs", steps=steps)
    outcomes = {step.name: step.outcome for step in told.steps}
    assert outcomes["spelling"] == outcomes["self_query"] == "skipped"
    assert "elsewhere" in told.steps[0].told
    await knowledge.close()


async def test_there_is_nothing_to_ingest(branch):
    knowledge = branch.knowledge()
    for work in (knowledge.ingest, knowledge.rebuild):
        with pytest.raises(InvalidInput) as caught:
            await work(OPERATOR, branch.spec())
        assert caught.value.code == "index_is_external"
    assert await knowledge.due(OPERATOR, branch.spec()) == []
    await knowledge.close()


@pytest.mark.parametrize(
    ("index", "param"),
    [
        ({"auth": {"api_key_env": "KEY"}}, "index"),
        ({"auth": {}}, "index.auth"),
        ({"auth": {"user_env": "A"}}, "index.auth"),
        ({"url": "http://name:secret@host"}, "index.url"),
        ({"url": "ftp://host"}, "index.url"),
        ({"index": "logs-*"}, "index.index"),
        ({"index": "a,b"}, "index.index"),
        ({"fields": {"text": "text"}}, "index.fields.readers"),
        ({"timeout_s": 0}, "index.timeout_s"),
    ],
)
async def test_a_wrong_file_names_its_field(branch, index, param):
    with pytest.raises(InvalidInput) as caught:
        branch.spec(**index)
    assert caught.value.param == param
    assert "secret" not in str(caught.value)
