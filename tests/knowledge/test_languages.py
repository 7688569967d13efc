"""Documents and questions in many languages, from the classifier to the search."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.errors import InvalidInput
from interlock.knowledge.analysers import analyse
from interlock.knowledge.languages import KNOWN, asked_in, languages_of

TEXTS = {
    "en": "The tenant may end the contract with a notice of three months, which the landlord has to answer.",
    "de": "Der Mieter kann den Vertrag mit einer Kündigungsfrist von drei Monaten beenden.",
    "fr": "Le locataire peut résilier le contrat avec un préavis de trois mois, que le bailleur doit confirmer.",
    "es": "El inquilino puede rescindir el contrato con un preaviso de tres meses, que el propietario debe confirmar.",
    "nl": "De huurder kan het contract met een opzegtermijn van drie maanden beëindigen, of men dat nu wil of niet.",
    "pl": "Najemca może rozwiązać umowę z trzymiesięcznym okresem wypowiedzenia, co wynajmujący musi potwierdzić.",
    "tr": "Kiracı, sözleşmeyi üç aylık bildirim süresiyle feshedebilir ve ev sahibi bunu yazılı olarak onaylamalıdır.",
    "ru": "Арендатор может расторгнуть договор с уведомлением за три месяца, и арендодатель должен это подтвердить.",
    "uk": "Орендар може розірвати договір із повідомленням за три місяці, і орендодавець має це підтвердити письмово.",
    "ar": "يجوز للمستأجر إنهاء العقد بإشعار مدته ثلاثة أشهر، ويجب على المؤجر تأكيد ذلك كتابيا.",
    "el": "Ο ενοικιαστής μπορεί να λύσει τη σύμβαση με προειδοποίηση τριών μηνών.",
    "he": "השוכר רשאי לסיים את החוזה בהודעה מוקדמת של שלושה חודשים.",
    "hi": "किरायेदार तीन महीने की सूचना देकर अनुबंध समाप्त कर सकता है और मकान मालिक को इसकी पुष्टि करनी होगी।",
    "zh": "租户可以提前三个月通知终止合同，房东必须以书面形式确认。",
    "ja": "借主は三か月前の通知により契約を終了することができ、貸主は書面で確認しなければなりません。",
    "ko": "임차인은 석 달 전에 통지하여 계약을 종료할 수 있으며 임대인은 이를 서면으로 확인해야 합니다.",
    "th": "ผู้เช่าสามารถยกเลิกสัญญาได้โดยแจ้งล่วงหน้าสามเดือน",
}


@pytest.mark.parametrize("code", TEXTS)
def test_a_text_is_told_by_its_script_or_its_words(code):
    assert languages_of(TEXTS[code]) == (code,)


def test_a_bilingual_document_has_both_languages():
    assert set(languages_of(f"{TEXTS['en'] * 12}\n\n{TEXTS['de'] * 12}")) == {"en", "de"}


@pytest.mark.parametrize("text", ["", "42 17 3.5", "AB-1042", "def f(x): return x + 1"])
def test_what_is_in_no_language_is_read_as_english(text):
    assert languages_of(text) == ("en",)


@pytest.mark.parametrize(
    ("question", "held", "expected"),
    [
        ("Wie lang ist die Frist?", {"de"}, ("de",)),
        ("Wie lang ist die Kündigungsfrist?", {"de", "en"}, ("de",)),
        ("How long is the notice period?", {"de", "en", "ar"}, ("en",)),
        ("ما هي مدة الإشعار؟", {"de", "en", "ar"}, ("ar",)),
        ("租户可以终止合同吗", {"en", "zh"}, ("zh",)),
        ("IFRS 16", {"ar", "zh"}, ("ar", "zh")),
        ("anything", set(), ("en",)),
    ],
)
def test_a_question_is_read_in_one_of_the_languages_that_are_held(question, held, expected):
    assert asked_in(question, held) == expected


@given(st.text(max_size=400))
def test_any_text_has_known_languages(text):
    assert set(languages_of(text)) <= {*KNOWN}
    assert languages_of(text)


@given(st.text(max_size=200), st.lists(st.sampled_from(KNOWN), min_size=1, max_size=3, unique=True))
def test_terms_of_every_language_are_letters_and_digits_only(text, languages):
    assert all(term.isalnum() and 0 < len(term) <= 64 for term in analyse(text, tuple(languages)))


@pytest.mark.parametrize(
    ("language", "stored", "asked"),
    [
        ("de", "Die Kündigungsfrist beträgt drei Monate.", "Frist der Kündigung"),
        ("de", "Häuser in Österreich", "haus oesterreich österreichische"),
        ("fr", "les conditions générales de vente", "condition générale"),
        ("ar", "بالعقود", "العقد"),
        ("ru", "договоры аренды", "договор"),
        ("tr", "sözleşmelerimizden", "sözleşme"),
        ("pl", "umowami najmu", "umowa"),
        ("uk", "договорами", "договір договорів"),
    ],
)
def test_a_question_meets_other_forms_of_its_words(language, stored, asked):
    assert set(analyse(asked, (language,))) & set(analyse(stored, (language,)))


async def test_documents_of_several_languages_are_searched_together(house):
    for code, text in TEXTS.items():
        house.write(f"{code}.md", f"# {code}\n\n{text}\n")
    report = await house.ingest()
    assert report.failed == ()
    infos = {info.source: info for info in await house.knowledge.documents(_oversight())}
    assert {source: info.languages for source, info in infos.items()} == {f"{c}.md": (c,) for c in TEXTS}
    for question, expected in {
        "Wie lang ist die Frist für eine Kündigung?": "de.md",
        "How long is the notice the tenant has to give?": "en.md",
        "préavis du locataire": "fr.md",
        "إنهاء العقود": "ar.md",
        "房东必须确认吗": "zh.md",
        "расторжение договора": "ru.md",
    }.items():
        found = await house.search(question, mode="lexical")
        assert found[0].source == expected, question


async def test_languages_of_documents_one_may_not_read_change_nothing(house):
    rules = [{"match": "secret/**", "readers": ["group:x"]}, {"match": "**", "readers": ["public"]}]
    house.write("open.md", f"# Notice\n\n{TEXTS['en']} Mieter Kündigungsfrist\n")
    await house.ingest(permissions=rules)
    question = "Wie lang ist die Kündigungsfrist für den Mieter?"

    async def told(*groups):
        from .conftest import caller

        found = await house.knowledge.explain(caller(*groups), question, collection="docs", mode="lexical")
        return found.languages, found.terms, [(one.passage.source, one.lexical) for one in found.candidates]

    before = await told()
    assert before[0] == ("en",)
    secret = house.write("secret/vertrag.md", f"# Vertrag\n\n{TEXTS['de']}\n")
    await house.ingest(permissions=rules)
    assert await told() == before
    assert (await told("x"))[0] == ("de",)
    secret.unlink()
    await house.ingest(permissions=rules)
    assert await told("x") == await told() == before


async def test_the_source_may_say_the_languages(house):
    house.write("a.md", "Gift\n")
    await house.ingest(languages=["de"])
    assert (await house.knowledge.documents(_oversight()))[0].languages == ("de",)
    # Another answer reads the document again.
    report = await house.ingest(languages=["en"])
    assert report.changed == 1
    with pytest.raises(InvalidInput, match="no language that can be read"):
        house.spec(languages=["klingon"])


def _oversight():
    from .conftest import OPERATOR

    return OPERATOR


DATA = os.environ.get("INTERLOCK_DATA")


@pytest.mark.skipif(DATA is None, reason="INTERLOCK_DATA does not name the folder of evaluation data (XQuAD)")
@pytest.mark.parametrize(("language", "bar"), [("zh", 0.96), ("ar", 0.94), ("de", 0.95)])
async def test_words_alone_find_the_paragraphs_of_xquad(house, language, bar):
    folder = Path(DATA or "") / "retrieval" / "xquad"
    for line in (folder / "corpus.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["_id"].startswith(f"{language}-"):
            house.write(f"{row['_id']}.txt", row["text"])
    await house.ingest()
    relevant: dict[str, set[str]] = defaultdict(set)
    with (folder / "qrels.tsv").open() as file:
        for judged in csv.DictReader(file, delimiter="\t"):
            relevant[judged["query-id"]].add(f"{judged['corpus-id']}.txt")
    gains = []
    for line in (folder / "queries.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["_id"].startswith(f"{language}-") and row["_id"] in relevant:
            found = await house.search(row["text"], mode="lexical", limit=50)
            ranking = list(dict.fromkeys(passage.source for passage in found))[:10]
            gains.append(
                next((1 / math.log2(r + 2) for r, source in enumerate(ranking) if source in relevant[row["_id"]]), 0.0)
            )
    assert sum(gains) / len(gains) >= bar, sum(gains) / len(gains)
