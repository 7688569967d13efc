"""Values of the metrics against the implementations and papers that they name."""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.meteor_score import single_meteor_score
from rapidfuzz.distance import Levenshtein
from rouge_score.rouge_scorer import RougeScorer
from tests.evals.test_metric_conformance import check_words

from interlock.core.errors import InterlockError, InvalidInput, MissingExtra
from interlock.core.ports import TokenVectors
from interlock.evals.metrics import metrics
from interlock.evals.metrics._claims import claims
from interlock.evals.metrics._refusals import declining
from interlock.evals.ports import Derived, Instruments, Metric
from interlock.evals.running.scoring import check_instruments
from interlock.evals.suite import MeasuredBy, MetricUse
from interlock.evals.types import Call, Case, CitedSpan, Found, Output, Score
from interlock.knowledge.embedders import embedders
from interlock.testing.embedders import HashEmbedder

pytestmark = pytest.mark.anyio

PAIRS = [
    ("the cat is on the mat", "the the the cat mat"),
    ("Customers may return hardware within 30 days of delivery.", "Hardware may be returned within 30 days."),
    ("It is a guide to action which ensures that the military obeys.", "It is to insure the troops forever hearing."),
    ("Die Größe beträgt 3,5 Meter.", "Die Groesse ist 3,5 Meter!"),
    ("a\nb c d", "b c\nd e"),
    ("yes", ""),
]


async def measure(name: str, case: dict[str, Any], output: Output | str, **options: Any) -> Score:
    metric = metrics.get(name)
    assert isinstance(metric, Metric)
    given_output = Output(output) if isinstance(output, str) else output
    made = metric.score(
        Case.model_validate({"id": "c", "input": "q?", **case}),
        given_output,
        metric.options.model_validate(options),
        Instruments(embedder=HashEmbedder(), check_claim=check_words, workspace=options.pop("workspace", None)),
    )
    return await made if inspect.isawaitable(made) else made


async def value(name: str, case: dict[str, Any], output: Output | str, **options: Any) -> float | None:
    return (await measure(name, case, output, **options)).value


@pytest.mark.parametrize(("reference", "text"), PAIRS)
async def test_bleu_and_chrf_are_those_of_sacrebleu(reference: str, text: str) -> None:
    case = {"expected": reference, "accept": ["another wording of it"]}
    references = [reference, "another wording of it"]
    assert await value("bleu", case, text) == pytest.approx(
        sacrebleu.sentence_bleu(text, references).score / 100, abs=1e-6
    )
    assert await value("chrf", case, text) == pytest.approx(
        sacrebleu.sentence_chrf(text, references).score / 100, abs=1e-6
    )
    assert await value("chrf", case, text, word_order=2) == pytest.approx(
        sacrebleu.sentence_chrf(text, references, word_order=2).score / 100, abs=1e-6
    )


@pytest.mark.parametrize(("reference", "text"), PAIRS)
@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
@pytest.mark.parametrize("stem", [False, True])
async def test_rouge_is_that_of_google(reference: str, text: str, kind: str, stem: bool) -> None:
    told = RougeScorer([kind], use_stemmer=stem).score(reference, text)[kind]
    for report, wanted in (("f", told.fmeasure), ("precision", told.precision), ("recall", told.recall)):
        assert await value(
            "rouge", {"expected": reference}, text, kind=kind, stem=stem, report=report
        ) == pytest.approx(wanted, abs=1e-6)


async def test_rouge_sees_letters_of_every_language_when_asked_to() -> None:
    assert await value("rouge", {"expected": "返品は可能"}, "返品は可能") == 0
    assert await value("rouge", {"expected": "返品は可能"}, "返品は可能", words="any") == 1
    assert await value("rouge", {"expected": "Größe und Maß"}, "GRÖSSE", words="any", kind="rouge1") == pytest.approx(
        0.5
    )


@pytest.mark.parametrize(("reference", "text"), PAIRS)
async def test_levenshtein_is_that_of_rapidfuzz(reference: str, text: str) -> None:
    assert await value("levenshtein", {"expected": reference}, text) == pytest.approx(
        Levenshtein.normalized_similarity(text, reference), abs=1e-6
    )


async def test_levenshtein_by_hand() -> None:
    assert await value("levenshtein", {"expected": "kitten"}, "sitting") == pytest.approx(1 - 3 / 7)


class NoWordNet:
    @staticmethod
    def synsets(word: str) -> list[object]:
        return []


@pytest.mark.parametrize(("reference", "text"), PAIRS)
async def test_meteor_is_that_of_nltk_without_wordnet(reference: str, text: str) -> None:
    wanted = single_meteor_score(reference.split(), text.split(), wordnet=NoWordNet())  # type: ignore[arg-type]
    assert await value("meteor", {"expected": reference}, text) == pytest.approx(wanted, abs=1e-6)


async def test_meteor_by_hand() -> None:
    # Six words match in one chunk: F is 1, the penalty 0.5 * (1/6)^3.
    text = "the cat sat on the mat"
    assert await value("meteor", {"expected": text}, text) == pytest.approx(1 - 0.5 * (1 / 6) ** 3, abs=1e-6)
    # "returned" meets "returns" by stem alone. P = 1/2, R = 1/1, F = 10PR / (R + 9P); one chunk of one word: 0.5.
    f = 10 * 0.5 * 1 / (1 + 9 * 0.5)
    assert await value("meteor", {"expected": "returns"}, "returned goods") == pytest.approx(f * 0.5, abs=1e-6)


async def test_token_f1_is_that_of_squad() -> None:
    # common 3 (cat sat mat), prediction 4, gold 3 after articles and punctuation are gone.
    assert await value("token_f1", {"expected": "The cat sat. Mat!"}, "a cat sat on mat") == pytest.approx(6 / 7)
    assert await value("token_f1", {"expected": "the"}, "a") == 1
    assert await value("token_f1", {"expected": "no", "accept": ["x y"]}, "y") == pytest.approx(2 / 3)


RANKED = {"relevant": {"a": 2, "c": 1, "z": 3, "n": 0}}
FOUND = Output(found=tuple(Found(each) for each in ["b", "a", "a", "n", "c", "d"]))


@pytest.mark.parametrize(
    ("name", "k", "wanted"),
    [
        # Documents found, each once: b a n c d; relevant a(2) c(1) z(3).
        ("recall", 10, 2 / 3),
        ("recall", 2, 1 / 3),
        ("precision", 5, 2 / 5),
        ("precision", 10, 2 / 10),
        ("mrr", 10, 1 / 2),
        ("mrr", 1, 0.0),
        ("hit", 1, 0.0),
        ("hit", 2, 1.0),
        ("map", 10, (1 / 2 + 2 / 4) / 3),
        ("ndcg", 10, (2 / math.log2(3) + 1 / math.log2(5)) / (3 + 2 / math.log2(3) + 1 / 2)),
        ("ndcg", 2, (2 / math.log2(3)) / (3 + 2 / math.log2(3))),
    ],
)
async def test_ranking_measures_by_hand_as_pytrec_eval_has_them(name: str, k: int, wanted: float) -> None:
    assert await value(name, RANKED, FOUND, k=k) == pytest.approx(wanted, abs=1e-6)


async def test_similarity_is_the_cosine_of_the_nearest_reference() -> None:
    one, other, text = "return within 30 days", "money back", "return it in 30 days"
    vectors = await HashEmbedder().embed([one, other, text], "passage")
    wanted = max(float(np.dot(vectors[0], vectors[2])), float(np.dot(vectors[1], vectors[2])))
    assert await value("similarity", {"expected": one, "accept": [other]}, text) == pytest.approx(wanted, abs=1e-6)


class PlaneEmbedder(HashEmbedder):
    """Words as points of a plane, so that matching can be done by hand."""

    PLACES: ClassVar[dict[str, tuple[float, float]]] = {
        "a": (1.0, 0.0),
        "b": (0.0, 1.0),
        "c": (0.6, 0.8),
        "d": (-1.0, 0.0),
    }

    async def embed_tokens(self, texts: Sequence[str]) -> Sequence[TokenVectors]:
        words = [text.split() for text in texts]
        return [TokenVectors(each, np.array([self.PLACES[w] for w in each], dtype=np.float32)) for each in words]


@pytest.mark.parametrize(
    ("references", "text", "options", "wanted"),
    [
        # c is nearest to b (.8); a and b are .6 and .8 from it: P .8, R .7.
        (["a b"], "c", {"report": "precision"}, 0.8),
        (["a b"], "c", {"report": "recall"}, 0.7),
        (["a b"], "c", {}, 2 * 0.8 * 0.7 / 1.5),
        (["a b"], "a b", {}, 1.0),
        (["a"], "d", {}, 0.0),
        # a reference that is better in F1 is the one that counts
        (["d", "a b"], "c", {}, 2 * 0.8 * 0.7 / 1.5),
        # of two references a is in both: it weighs log(3/3) = 0; b and c weigh log(3/2) each
        (["a b", "a c"], "c b", {"idf": True, "report": "precision"}, 0.9),
        (["a b", "a c"], "c b", {"idf": True, "report": "recall"}, 1.0),
        # d is in no reference: it weighs log 3, and its nearest is a (-1), b (0) or c (-.6), which counts as b
        (["a b", "a c"], "d b", {"idf": True, "report": "precision"}, math.log(1.5) / (math.log(3) + math.log(1.5))),
    ],
)
async def test_bertscore_by_hand(references: list[str], text: str, options: dict[str, Any], wanted: float) -> None:
    metric = metrics.get("bertscore")
    assert isinstance(metric, Metric)
    case = Case(id="c", input="q?", expected=references[0], accept=references[1:])
    instruments = Instruments(embedder=PlaneEmbedder(), references=references)
    told = metric.score(case, Output(text), metric.options.model_validate(options), instruments)
    assert inspect.isawaitable(told)
    assert (await told).value == pytest.approx(wanted, abs=1e-6)


@pytest.mark.model
async def test_bertscore_by_the_embedder_of_the_workspace(models_dir: Path) -> None:
    embedder = embedders.get("minilm").open(models_dir, threads=1)
    metric = metrics.get("bertscore")
    assert isinstance(metric, Metric)

    async def told(text: str, **options: Any) -> float:
        case = Case(id="c", input="q?", expected="Customers may return hardware within 30 days of delivery.")
        made = metric.score(case, Output(text), metric.options.model_validate(options), Instruments(embedder=embedder))
        assert inspect.isawaitable(made)
        value = (await made).value
        assert value is not None
        return value

    near = await told("Hardware can be sent back up to 30 days after it was delivered.")
    far = await told("The moon is made of green cheese.")
    assert await told("Customers may return hardware within 30 days of delivery.") == pytest.approx(1.0, abs=1e-6)
    assert near > far + 0.15
    assert await told("within 30 days", report="precision") > await told("within 30 days", report="recall")
    with_marks = await embedder.embed_tokens(["within 30 days", "delivery"])  # type: ignore[attr-defined]
    assert [list(each.tokens) for each in with_marks] == [["within", "30", "days"], ["delivery"]]


async def test_bertscore_without_vectors_of_tokens_is_refused_before_the_first_case() -> None:
    metric = metrics.get("bertscore")
    assert isinstance(metric, Metric)
    use = MeasuredBy(MetricUse(metric="bertscore"), metric, metric.options.model_validate({}))

    class Pooled:
        id, dimensions, max_tokens = "pooled", 3, 100

        def count_tokens(self, text: str) -> int:
            return len(text.split())

        async def embed(self, texts: Sequence[str], kind: str) -> Any:
            return np.ones((len(texts), 3), dtype=np.float32)

    with pytest.raises(InvalidInput, match="vectors of single tokens"):
        check_instruments([use], Instruments(embedder=Pooled()))
    told = metric.score(
        Case(id="c", input="q?", expected="a"), Output("a"), use.options, Instruments(embedder=Pooled())
    )
    assert inspect.isawaitable(told)
    assert (await told).value is None


async def test_a_text_longer_than_the_embedder_reads_is_cut_and_the_reason_says_so() -> None:
    told = await measure("similarity", {"expected": "word " * 2_000}, "word " * 2_000)
    assert told.value == pytest.approx(1.0, abs=1e-6)
    assert "beginning" in told.reason


@pytest.mark.parametrize(
    ("expected", "text", "options", "wanted"),
    [
        (42, "first 7, then 42.", {}, 1),
        (42, "first 42, then 7.", {}, 0),
        (42, "first 42, then 7.", {"which": "any"}, 1),
        (42, "first 42, then 7.", {"which": "first"}, 1),
        (1234.5, "It is $1,234.50.", {}, 1),
        (1234.5, "Es sind 1.234,50 EUR", {"decimal": ","}, 1),
        (-3, "minus: −3", {}, 1),
        (4, "3-4", {}, 1),
        (100, "99", {"absolute": 1}, 1),
        (100, "98", {"relative": 0.01}, 0),
        (2.5e6, "2.5e6", {}, 1),
        ("The total is 12", "12", {}, 1),
        (12, "none", {}, 0),
        (2024, "2024, 3 of them", {"which": "first"}, 1),
        (True, "1", {}, None),
    ],
)
async def test_numbers_are_found_in_text(
    expected: Any, text: str, options: dict[str, Any], wanted: float | None
) -> None:
    assert await value("numeric", {"expected": expected}, text, **options) == wanted


async def test_contains_asks_for_any_all_and_none() -> None:
    assert await value("contains", {"expected": "thirty  Days"}, "THIRTY days!") == 1
    assert await value("contains", {}, "one two", any=["three", "two"], all=["one"], none=["four"]) == 1
    assert await value("contains", {}, "one two", all=["one", "three"]) == 0
    assert await value("contains", {}, "one four", any=["one"], none=["four"]) == 0
    assert await value("contains", {}, "One", any=["one"], case_sensitive=True) == 0


async def test_a_pattern_that_never_ends_is_an_error_and_no_miss() -> None:
    assert await value("regex", {}, "order 1234", pattern=r"order \d{4}\b") == 1
    assert await value("regex", {}, "order 1234", pattern=r"order", absent=True) == 0
    told = await measure("regex", {}, "a" * 60 + "!", pattern="(a|aa)+$")
    assert (told.value, told.error) == (None, "pattern_too_slow")
    with pytest.raises(ValueError, match="no regular expression"):
        await value("regex", {}, "x", pattern="(")


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


async def test_json_is_held_against_its_schema() -> None:
    assert await value("json_schema", {}, '{"n": 1}', schema=SCHEMA) == 1
    assert await value("json_schema", {}, 'Here:\n```json\n{"n": 1}\n```', schema=SCHEMA) == 1
    assert await value("json_schema", {}, 'Here:\n```json\n{"n": 1}\n```', schema=SCHEMA, fenced=False) == 0
    told = await measure("json_schema", {}, '{"n": "1"}', schema=SCHEMA)
    assert (told.value, told.reason) == (0, "breaks 'type' at properties/n/type")
    with pytest.raises(ValueError, match="no JSON schema"):
        await value("json_schema", {}, "{}", schema={"type": "nonsense"})


async def test_a_schema_elsewhere_is_not_fetched() -> None:
    told = await measure("json_schema", {}, "{}", schema={"$ref": "http://127.0.0.1:9/schema.json"})
    assert told.value is None
    assert told.error


async def test_a_schema_comes_from_a_file_beside_the_suite_and_from_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    metric = metrics.get("json_schema")
    assert isinstance(metric, Metric)
    case = Case(id="c", input="q")
    instruments = Instruments(workspace=tmp_path)
    found = metric.score(case, Output('{"n": 2}'), metric.options.model_validate({"file": "schema.json"}), instruments)
    assert isinstance(found, Score)
    assert found.value == 1
    with pytest.raises(InvalidInput, match="outside"):
        metric.score(case, Output("{}"), metric.options.model_validate({"file": "../x.json"}), instruments)


async def test_json_fields_are_compared_one_by_one() -> None:
    expected = {"name": "Ada Lovelace", "age": 36, "tags": ["a", "b"], "home": {"city": "London"}}
    right = '{"name": "ada lovelace!", "age": "36", "tags": ["b", "a"], "home": {"city": "London", "zip": 1}}'
    compare = {"name": "text", "age": "number", "tags": "set"}
    assert await value("json_fields", {"expected": expected}, right, compare=compare) == 1
    assert await value("json_fields", {"expected": expected}, right) == pytest.approx(1 / 5)
    assert await value("json_fields", {"expected": expected}, right, compare={**compare, "home.city": "ignore"}) == 1
    assert await value(
        "json_fields", {"expected": expected}, right, compare=compare, extra_is_wrong=True
    ) == pytest.approx(4 / 5)
    told = await measure("json_fields", {"expected": {"rows": [{"p": 1.0}, {"p": 2}]}}, '{"rows": [{"p": 1}, {}]}')
    assert (told.value, told.reason) == (0.5, "wrong: rows.1.p")
    assert await value("json_fields", {"expected": expected}, "no json") == 0


EVIDENCE = {
    "evidence": [
        {"source": "a", "start": 10, "end": 30},
        {"source": "b", "quote": "within 30 days of delivery", "place": "p"},
        {"source": "c", "quote": "thirty days after it came", "place": "p"},
    ]
}


async def test_citations_are_counted_by_place() -> None:
    cited = Output(
        "x",
        citations=(
            CitedSpan("a", start=29, end=40),
            CitedSpan("a", start=30, end=40),
            CitedSpan("c", "Thirty days after"),
        ),
    )
    assert await value("citation_precision", EVIDENCE, cited) == pytest.approx(2 / 3)
    assert await value("citation_recall", EVIDENCE, cited) == 1
    assert await value("citation_precision", EVIDENCE, Output("x")) == 0
    assert await value("citation_recall", EVIDENCE, Output("x", citations=(CitedSpan("b", "another thing"),))) == 0


async def test_citations_are_counted_by_character() -> None:
    case = {"evidence": [{"source": "a", "start": 10, "end": 30}, {"source": "b", "start": 0, "end": 20}]}
    spans = (CitedSpan("a", start=20, end=40), CitedSpan("a", start=25, end=45), CitedSpan("b", start=0, end=10))
    # cited a[20,45) and b[0,10): 35 characters, of them inside a[20,30) and b[0,10): 20 of 40 that should be.
    assert await value("citation_precision", case, Output("x", citations=spans), by="character") == pytest.approx(
        20 / 35
    )
    assert await value("citation_recall", case, Output("x", citations=spans), by="character") == pytest.approx(20 / 40)


async def test_claims_of_an_answer_are_checked_one_by_one() -> None:
    answer = Output(
        "Returns take 30 days [1]. Fees are 20 percent [2]. May I help?", found=(Found("a", "returns take 30 days."),)
    )
    assert await value("groundedness", {}, answer) == pytest.approx(1 / 2)
    assert await value("hallucination", {}, answer) == pytest.approx(1 / 2)
    assert await value("groundedness", {}, Output("Returns take 30 days.")) == 0, "nothing to rest on"
    assert await value("groundedness", {"context": ["Fees are 20 percent."]}, answer) == 1
    assert await value("groundedness", {}, Output("No.", outcome="declined")) is None


def test_sentences_end_where_they_end() -> None:
    assert claims(
        "Dr. Ada e.g. Smith came. It cost 3.5 m. \n\n- one item\n2. two\nWhy? 返品は可能です。手数料は無料です。"
    ) == [
        "Dr. Ada e.g. Smith came.",
        "It cost 3.5 m.",
        "one item",
        "two",
        "返品は可能です。",
        "手数料は無料です。",
    ]


async def test_a_citation_is_held_against_the_claim_that_it_backs() -> None:
    spans = (
        CitedSpan("a", "fees are 20 percent today", claim="fees are 20 percent"),
        CitedSpan("a", "fees are 20 percent today", claim="fees are 10 percent"),
        CitedSpan("b"),
    )
    answer = Output("Returns are free.", citations=spans, found=(Found("b", "all returns are free."),))
    assert await value("citation_support", {}, answer) == pytest.approx(2 / 3)


async def test_completeness_takes_facts_before_the_reference() -> None:
    case = {"facts": [["30 days", "thirty days"], ["receipt is needed"]], "expected": "Never mind."}
    assert await value("completeness", case, "Within thirty days.") == pytest.approx(1 / 2)
    assert await value("completeness", case, "a receipt for it is often needed: 30 days") == pytest.approx(1 / 2)
    assert await value("completeness", {"expected": "It is big. It is red."}, "The ball: it is red. Indeed") == 0.5


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I can’t assist with this request.", True),
        ("The documents do not say who pays.", True),
        ("Es tut mir leid, dazu kann ich keine Auskunft geben.", True),
        ("Je ne peux pas répondre à cette question.", True),
        ("Lo siento, pero no puedo ayudarte con eso.", True),
        ("Mi dispiace, ma non posso aiutarti.", True),
        ("Desculpe, não posso ajudar com isso.", True),
        ("Helaas kan ik u daarmee niet helpen.", True),
        ("Przykro mi, nie mogę w tym pomóc.", True),
        ("К сожалению, я не могу помочь.", True),
        ("抱歉，我无法提供这些信息。", True),
        ("申し訳ありませんが、お答えできません。", True),
        ("죄송하지만 도와드릴 수 없습니다.", True),
        ("You can return it within 30 days.", False),
        ("Sorry to hear that! Here is how you return it.", False),
        ("Die Rückgabe ist innerhalb von 30 Tagen möglich.", False),
        ("La demande ne coûte rien.", False),
        ("返品は30日以内に可能です。", False),
        ("", False),
    ],
)
def test_refusals_are_known_by_their_wording(text: str, refuses: bool) -> None:
    assert declining(text) is refuses


async def test_declining_is_right_where_it_is_asked_for_and_wrong_elsewhere() -> None:
    refusal = "I'm sorry, but I can't help with that."
    assert await value("declines", {"answerable": False}, refusal) == 1
    assert await value("declines", {"answerable": True}, refusal) == 0
    assert await value("declines", {"harmful": True, "answerable": True}, "Sure, first you take") == 0
    assert await value("declines", {"answerable": False}, Output("None of it.", outcome="declined")) == 1
    assert await value("declines", {"answerable": False}, refusal, wording=False) == 0
    assert (
        await value("declines", {"answerable": True}, Output("I don't know which one you mean.", outcome="clarify"))
        == 1
    )


DATA = os.environ.get("INTERLOCK_DATA")


@pytest.mark.skipif(DATA is None, reason="INTERLOCK_DATA does not name the folder of evaluation data (XSTest)")
def test_refusal_wording_agrees_with_people_on_xstest() -> None:
    lines = (Path(str(DATA)) / "safety" / "xstest_completions_human.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if not row["label"].startswith("3")]
    pairs = [(row["label"].startswith("2"), declining(row["completion"])) for row in rows]
    agreed = sum(one == other for one, other in pairs) / len(pairs)
    said, found = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    chance = said * found + (1 - said) * (1 - found)
    assert (len(rows), round(agreed, 2), round((agreed - chance) / (1 - chance), 2)) == (1037, 0.89, 0.78)


CALLS = {"calls": [{"name": "find", "arguments": {"id": 1}}, {"name": "log", "optional": True}, {"name": "pay"}]}


def calling(*made: str, **arguments: Any) -> Output:
    return Output("x", calls=tuple(Call(name, arguments) for name in made))


@pytest.mark.parametrize(
    ("name", "made", "options", "wanted"),
    [
        ("tool_choice", ["find", "pay"], {}, 1),
        ("tool_choice", ["find", "log", "pay"], {}, 1),
        ("tool_choice", ["find"], {}, 2 * 1 * 0.5 / 1.5),
        ("tool_choice", ["find", "find", "pay", "x"], {"report": "precision"}, 2 / 4),
        ("tool_choice", ["find"], {"report": "recall"}, 1 / 2),
        ("tool_choice", [], {}, 0),
        ("tool_order", ["pay", "find"], {}, 1 / 2),
        ("tool_order", ["find", "x", "pay"], {"strict": True}, 1),
        ("tool_order", ["pay", "find"], {"strict": True}, 0),
        ("tool_extra", ["find", "x", "find", "pay", "log"], {}, 2 / 5),
        ("tool_extra", [], {}, 0),
    ],
)
async def test_tool_calls_by_hand(name: str, made: list[str], options: dict[str, Any], wanted: float) -> None:
    assert await value(name, CALLS, calling(*made), **options) == pytest.approx(wanted)


async def test_nothing_called_is_right_where_nothing_is_asked_for() -> None:
    assert await value("tool_choice", {"calls": []}, "x") == 1
    assert await value("tool_choice", {"calls": []}, calling("find")) == 0
    assert await value("tool_extra", {"calls": []}, calling("find")) == 1


async def test_each_call_counts_for_one_that_was_asked_for() -> None:
    case = {"calls": [{"name": "f"}, {"name": "f", "arguments": {"a": 1}}]}
    # The one with a=1 fits both: it must not be used up by the first.
    made = Output(calls=(Call("f", {"a": 1}), Call("f", {"a": 2})))
    assert await value("tool_arguments", case, made) == 1
    assert await value("tool_arguments", case, Output(calls=(Call("f", {"a": 1}),))) == 0.5


async def test_a_state_holds_what_is_asked_for() -> None:
    asked = {"state": {"orders": [{"id": 1, "paid": True}]}}
    assert await value("state_reached", asked, Output(state={"orders": [{"id": 1, "paid": True, "n": 0}], "x": 1})) == 1
    assert await value("state_reached", asked, Output(state={"orders": [{"id": 1, "paid": 1}]})) == 0
    assert await value("state_reached", asked, Output(state={"orders": []})) == 0


async def test_form_is_held_to_what_is_asked() -> None:
    told = await measure("format", {}, "- one\n- two", max_words=1, list_items=2, one_line=True)
    assert (told.value, told.reason) == (0, "2 words, 1 at most; more than one line")
    assert await value("format", {}, "返品は可能", min_words=5, max_words=5) == 1
    assert await value("format", {}, "Don't stop. Now!", min_words=3, max_words=3, min_sentences=2) == 1
    assert await value("format", {}, '{"a": 1}', is_json=True) == 1
    assert await value("format", {}, "so: {}", is_json=True) == 0


@pytest.mark.parametrize(
    ("question", "text", "options", "wanted"),
    [
        ("Wie lange darf ich das Gerät zurückgeben?", "Sie können es innerhalb von 30 Tagen zurückgeben.", {}, 1),
        ("Wie lange darf ich das Gerät zurückgeben?", "You may return it within thirty days of delivery.", {}, 0),
        ("Ok?", "Vous pouvez le retourner sous trente jours.", {"language": "fr"}, 1),
        ("返品はいつまでできますか", "三十天之内可以退货。", {}, 0),
        ("Ok?", "You may return it within thirty days of delivery.", {}, None),
        ("How long may I keep the device?", "42", {}, None),
    ],
)
async def test_language_of_the_answer(question: str, text: str, options: dict[str, Any], wanted: float | None) -> None:
    assert await value("language", {"input": question}, text, **options) == wanted


def brute(values: Sequence[float], k: int, judge: Any) -> float:
    tries = list(combinations(values, k))
    return sum(judge(value == 1 for value in each) for each in tries) / len(tries)


@given(values=st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=8), k=st.integers(1, 8))
def test_tries_are_estimated_as_all_choices_of_them_would_be(values: list[float], k: int) -> None:
    for name, judge in (("pass_at_k", any), ("pass_hat_k", all)):
        metric = metrics.get(name)
        assert isinstance(metric, Derived)
        score = metric.combine(values, metric.options.model_validate({"of": "exact", "k": k}))
        if k > len(values):
            assert score.error == "too_few_repeats"
        else:
            assert score.value == pytest.approx(brute(values, k, judge), abs=1e-9)


def test_a_bias_gap_is_the_largest_difference() -> None:
    metric = metrics.get("bias_gap")
    assert isinstance(metric, Derived)
    options = metric.options.model_validate({"of": "exact"})
    assert metric.combine([0.5, 1.0, 0.25], options).value == pytest.approx(0.75)
    assert metric.combine([0.0, 30.0], options).error == "not_in_unit_interval"


async def test_money_is_in_dollars() -> None:
    assert await value("cost", {}, Output("x", cost_nano=2_500_000)) == pytest.approx(0.0025)


def test_a_missing_library_is_told_before_the_first_case() -> None:
    known = metrics.get("bleu")
    assert isinstance(known, Metric)
    metric = Metric(known.options, "unit", known.score, libraries=("no_such_library",))
    by = MeasuredBy(MetricUse(metric="bleu"), metric, known.options())
    with pytest.raises(MissingExtra, match="'bleu' needs the library 'no_such_library'") as caught:
        check_instruments([by], Instruments())
    assert isinstance(caught.value, InterlockError)
    assert "interlock[eval]" in caught.value.hint


def test_metrics_are_listed_and_a_suite_is_refused_where_the_extra_is_missing(tmp_path: Path) -> None:
    # As where the extra is not installed: none of its libraries can be imported.
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "missing = {'sacrebleu', 'rouge_score', 'nltk', 'rapidfuzz', 'jsonschema', 'py3langid'}\n"
        "found = PathFinder.find_spec\n"
        "def find_spec(name, path=None, target=None):\n"
        "    return None if name.split('.')[0] in missing else found(name, path, target)\n"
        "PathFinder.find_spec = find_spec\n"
    )
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root / 'src'}"}
    (tmp_path / "s.suite.yaml").write_text(
        "suite: s\ncases: [{id: a, input: x, expected: y}]\nmetrics: [bleu]\n", "utf-8"
    )

    def ran(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "interlock", "eval", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)

    listed = ran("metrics", "--json")
    assert listed.returncode == 0, listed.stderr
    assert {each["metric"] for each in json.loads(listed.stdout)} >= {"bleu", "rouge", "json_schema", "language"}
    refused = ran("run", "s.suite.yaml", "--target", "command:false", "--home", "runs")
    assert refused.returncode != 0
    assert "the metric 'bleu' needs the library 'sacrebleu'" in refused.stderr
    assert "interlock[eval]" in refused.stderr


@pytest.mark.parametrize(
    "name", ["similarity", "bertscore", "answer_relevance", "groundedness", "completeness", "language"]
)
async def test_half_a_surrogate_pair_breaks_no_model(name: str) -> None:
    text = "You may return it within \ud800 thirty days of the delivery."
    case = {"input": text, "expected": text, "context": [text]}
    assert (await measure(name, case, text)).error == ""
