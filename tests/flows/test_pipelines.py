"""Apps that work through a text: asked, resumed, evaluated, and refused where they must be."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.core.errors import TooLarge
from interlock.flows.pipelines.merging import merged, places
from interlock.flows.pipelines.splitting import parts_of
from interlock.flows.pipelines.types import PipelineSpec
from interlock.testing.workspaces import write_workspace

from .commands import Run, runner

FORM = {
    "type": "object",
    "properties": {
        "vendor": {"type": "string"},
        "total": {"type": "number"},
        "items": {"type": "array", "items": {"type": "string"}},
        "note": {"type": ["string", "null"]},
    },
    "required": ["vendor", "total", "items"],
    "additionalProperties": False,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def workspace(at: Path, script: list[dict[str, Any]], pipeline: dict[str, Any], **app: Any) -> None:
    providers = {"model": {"kind": "scripted", "script": script}}
    prices = {"model/m": {"input_per_million": "1", "output_per_million": "1"}}
    described = {"route": {"targets": ["model/m"], "retries": 0}, "pipeline": pipeline, **app}
    write_workspace(
        at,
        settings={"gateway": {"providers": providers, "detect": False}, "cost": {"prices": prices}},
        apps={"desk": described},
        prompt="Write plainly.",
    )
    (at / "apps" / "desk" / "form.json").write_text(json.dumps(FORM))


def through(run: Run, at: Path, *inputs: object, code: int = 0) -> Any:
    done = run(at, "pipeline", "run", "desk", *inputs, "--out", at / "out.jsonl", "-q", "--json")
    assert done.code == code, done.out + done.err
    return done.json


def lines(at: Path) -> list[Any]:
    return [json.loads(line) for line in (at / "out.jsonl").read_text().splitlines()]


LONG = "\n\n".join(f"Paragraph {n} tells of number {n}. " + "It goes on and on. " * 12 for n in range(12))


def test_a_long_text_is_noted_part_by_part_and_summed_up(tmp_path: Path, run: Run) -> None:
    script = [
        {"match": "Note what this part", "reply": "noted"},
        {"match": "Write a summary of about 80 words of the notes", "reply": "All in all. It was noted."},
        {"reply": "unexpected"},
    ]
    workspace(tmp_path, script, {"kind": "summarise", "part_words": 120, "words": 80})
    (tmp_path / "long.txt").write_text(LONG)
    (tmp_path / "short.txt").write_text("One line.")
    done = through(run, tmp_path, tmp_path / "long.txt")
    assert (done["rows"], done["done"], done["failed"], done["ended"]) == (1, 1, 0, "finished")
    (line,) = lines(tmp_path)
    assert line["output"] == "All in all. It was noted."
    assert len(line["parts"]) > 4
    assert line["parts"][0][0] == 0 and line["parts"][-1][1] == len(LONG.rstrip())
    assert line["cost_nano"] > 0
    assert line["release"].startswith("sha256:")


def test_a_form_is_filled_from_all_parts_with_the_places_of_its_values(tmp_path: Path, run: Run) -> None:
    script = [
        {"match": "Acme", "reply": '{"vendor": "Acme Ltd", "total": null, "items": ["bolts"], "note": null}'},
        {"match": "1200", "reply": '{"vendor": null, "total": 1200, "items": ["bolts", "nuts"], "note": null}'},
        {"reply": '{"vendor": null, "total": null, "items": [], "note": null}'},
    ]
    form = {"output": {"schema": "form.json"}}
    workspace(tmp_path, script, {"kind": "extract", "part_words": 60, "overlap_words": 0}, **form)
    filler = "Nothing to see here. " * 20
    text = f"Invoice of ACME\nLtd for bolts.\n\n{filler}\n\nThe total is 1200 for bolts and nuts."
    with (tmp_path / "letters.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "body"], ["a", text.replace("ACME", "Acme")], ["b", ""]])
    done = run(
        tmp_path, "pipeline", "run", "desk", tmp_path / "letters.csv", "--column", "body", "--out",
        tmp_path / "out.jsonl", "-q", "--json",
    )  # fmt: skip
    assert done.code == 1
    found = {line["id"]: line for line in lines(tmp_path)}
    told = found["letters.csv#a"]
    assert told["output"] == {"vendor": "Acme Ltd", "total": 1200, "items": ["bolts", "nuts"]}
    given_text = text.replace("ACME", "Acme")
    shown = {path: given_text[start:end] for path, (start, end) in told["places"].items()}
    assert shown == {"/vendor": "Acme\nLtd", "/total": "1200", "/items/0": "bolts", "/items/1": "nuts"}
    assert found["letters.csv#b"]["error"]["message"] == "the row is empty"


def test_a_form_that_the_text_does_not_give_is_an_error_and_not_a_guess(tmp_path: Path, run: Run) -> None:
    script = [{"reply": '{"vendor": null, "total": null, "items": [], "note": null}'}]
    workspace(tmp_path, script, {"kind": "extract"}, output={"schema": "form.json"})
    (tmp_path / "a.txt").write_text(LONG)
    through(run, tmp_path, tmp_path / "a.txt", code=1)
    (line,) = lines(tmp_path)
    assert line["error"]["code"] == "form_incomplete"


def test_labels_are_those_of_the_app_and_the_most_parts_decide(tmp_path: Path, run: Run) -> None:
    script = [
        {"match": "refund", "reply": '{"label": "money"}'},
        {"match": "shoe", "reply": 'Surely {"label": "goods"}'},
        {"reply": '{"label": "anger"}'},
    ]
    labels = {"money": "about paying", "goods": "about what was sold"}
    workspace(tmp_path, script, {"kind": "classify", "labels": labels})
    rows = [{"id": "1", "text": "I want a refund."}, {"id": "2", "text": "The shoe is torn."}, {"id": "3", "text": "?"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = through(run, tmp_path, tmp_path / "rows.jsonl", code=1)
    assert (done["done"], done["failed"]) == (2, 1)
    said = {line["id"]: line.get("output") for line in lines(tmp_path)}
    assert said == {"rows.jsonl#1": "money", "rows.jsonl#2": "goods", "rows.jsonl#3": None}
    # A second run tries again what failed, and does nothing twice.
    again = through(run, tmp_path, tmp_path / "rows.jsonl", code=1)
    assert (again["kept"], again["done"], again["failed"]) == (2, 0, 1)
    # Other files are another release: everything is done anew.
    (tmp_path / "apps" / "desk" / "prompt.md").write_text("Write very plainly.")
    assert through(run, tmp_path, tmp_path / "rows.jsonl", code=1)["kept"] == 0


def test_what_was_cut_off_when_a_run_died_is_done_again(tmp_path: Path, run: Run) -> None:
    workspace(tmp_path, [{"reply": "short"}], {"kind": "summarise"})
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"The text {name}.")
    through(run, tmp_path, tmp_path / "a.txt", tmp_path / "b.txt")
    whole = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").write_text(whole[: len(whole) - 20])
    again = through(run, tmp_path, tmp_path / "a.txt", tmp_path / "b.txt")
    assert (again["kept"], again["done"]) == (1, 1)
    (tmp_path / "out.jsonl").write_text("not\nresults\n")
    refused = run(tmp_path, "pipeline", "run", "desk", tmp_path / "a.txt", "--out", tmp_path / "out.jsonl", "-q")
    assert refused.code == 1
    assert "line 1" in refused.err


def test_every_text_has_an_id_of_its_own(tmp_path: Path, run: Run) -> None:
    workspace(tmp_path, [{"reply": "short"}], {"kind": "summarise"})
    for name in ("in/a/x.txt", "in/b/x.txt", "in/x.txt", "one/y.txt", "two/y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"The text {name}.")
    (tmp_path / "in" / "a" / "rows.csv").write_text("id,text\n7,one\n7,two\n,three\n3,four\n7#2,five\n")
    inputs = [tmp_path / "in", tmp_path / "one" / "y.txt", tmp_path / "two" / "y.txt"]
    done = through(run, tmp_path, *inputs, tmp_path / "in" / "x.txt")
    assert (done["rows"], done["done"]) == (10, 10)
    given = tmp_path.as_posix()
    ids = {line["id"] for line in lines(tmp_path)}
    assert ids == {
        "a/x.txt",
        "b/x.txt",
        "x.txt",
        f"{given}/one/y.txt",
        f"{given}/two/y.txt",
        "a/rows.csv#7",
        "a/rows.csv#7#2",
        "a/rows.csv#3",
        "a/rows.csv#3#4",
        "a/rows.csv#7#2#5",
    }
    again = through(run, tmp_path, *inputs, tmp_path / "in" / "x.txt")
    assert (again["kept"], again["done"]) == (10, 0)


def test_a_row_without_anything_in_it_is_no_row(tmp_path: Path, run: Run) -> None:
    workspace(tmp_path, [{"reply": "short"}], {"kind": "summarise"})
    (tmp_path / "rows.csv").write_text("id,text\na,one\n\n,\n  , \nb,two\n   \n")
    done = through(run, tmp_path, tmp_path / "rows.csv")
    assert (done["rows"], done["done"], done["failed"]) == (2, 2, 0)


def test_a_budget_ends_it_and_the_rest_is_done_later(tmp_path: Path, run: Run) -> None:
    workspace(tmp_path, [{"reply": "short"}], {"kind": "summarise"})
    for n in range(6):
        (tmp_path / f"{n}.txt").write_text(f"The text {n}.")
    inputs = sorted(tmp_path.glob("*.txt"))
    out = ["--out", tmp_path / "out.jsonl", "--concurrency", "1", "--max-cost", "0.00000001", "-q", "--json"]
    done = run(tmp_path, "pipeline", "run", "desk", *inputs, *out)
    assert done.code == 6
    assert 0 < done.json["done"] < 6
    assert through(run, tmp_path, *inputs)["kept"] == done.json["done"]


def test_a_draft_has_the_sections_of_its_file_in_order(tmp_path: Path, run: Run) -> None:
    script = [
        {"match": "section 'Facts'", "reply": "They met."},
        {"match": "section 'Next'", "reply": "They meet again."},
    ]
    sections = [{"title": "Facts", "instruction": "What happened."}, {"title": "Next", "instruction": "What follows."}]
    workspace(tmp_path, script, {"kind": "draft", "sections": sections})
    done = run(tmp_path, "ask", "We met on Monday.", "--app", "desk", "--json")
    assert done.code == 0, done.err
    assert "## Facts\n\nThey met.\n\n## Next\n\nThey meet again." in json.dumps(done.json).encode().decode(
        "unicode_escape"
    )


def test_it_is_evaluated_and_gated_like_any_app(tmp_path: Path, run: Run) -> None:
    script = [{"match": "refund", "reply": '{"label": "money"}'}, {"reply": '{"label": "goods"}'}]
    workspace(tmp_path, script, {"kind": "classify", "labels": {"money": "", "goods": ""}})
    cases = [{"id": f"m{n}", "input": f"refund {n}", "expected": "money"} for n in range(30)]
    cases += [{"id": f"g{n}", "input": f"shoe {n}", "expected": "goods"} for n in range(30)]
    suite = {"suite": "labels", "cases": cases, "metrics": ["exact"]}
    suite["gate"] = {"rules": [{"metric": "exact", "at_least": 0.9}]}
    (tmp_path / "suite.yaml").write_text(json.dumps(suite))
    done = run(tmp_path, "eval", "run", tmp_path / "suite.yaml", "--target", "app/desk", "-q", "--json")
    assert done.code == 0, done.out
    built = run(tmp_path, "release", "build", "--app", "desk", "--json").json
    shown = run(tmp_path, "release", "show", built["id"], "--app", "desk", "--json").json
    assert shown["values"]["pipeline"]["kind"] == "classify"
    assert [each["verdict"] for each in shown["evidence"]] == ["pass"]


@pytest.mark.parametrize(
    ("pipeline", "app", "field"),
    [
        ({"kind": "classify"}, {}, "pipeline"),
        ({"kind": "classify", "labels": {"one": ""}}, {}, "pipeline"),
        ({"kind": "draft"}, {}, "pipeline"),
        ({"kind": "summarise", "labels": {"a": "", "b": ""}}, {}, "pipeline"),
        ({"kind": "summarise", "part_words": 60, "overlap_words": 40}, {}, "pipeline"),
        ({"kind": "sing"}, {}, "pipeline.kind"),
        ({"kind": "extract"}, {}, "pipeline.kind"),
        ({"kind": "summarise"}, {"output": {"schema": "form.json"}}, "pipeline.kind"),
        ({"kind": "summarise"}, {"knowledge": {"collection": "docs"}}, "pipeline"),
    ],
)
def test_a_file_that_says_what_does_not_fit_is_refused_with_its_field(
    tmp_path: Path, run: Run, pipeline: dict[str, Any], app: dict[str, Any], field: str
) -> None:
    workspace(tmp_path, [{"reply": "x"}], pipeline, **app)
    done = run(tmp_path, "release", "build", "--app", "desk", "--json")
    assert done.code == 1
    assert yaml.safe_load(done.out)["error"]["param"] == field


def test_a_text_that_is_too_long_and_an_app_without_a_pipeline_are_refused(tmp_path: Path, run: Run) -> None:
    workspace(tmp_path, [{"reply": "x"}], {"kind": "summarise", "part_words": 50, "overlap_words": 0, "most_parts": 2})
    (tmp_path / "long.txt").write_text(LONG)
    (tmp_path / "odd.xyz").write_text("?")
    through(run, tmp_path, tmp_path / "long.txt", tmp_path / "odd.xyz", code=1)
    said = {line["id"]: line["error"] for line in lines(tmp_path)}
    assert said["long.txt"]["code"] == "request_too_large"
    assert "no loader" in said["odd.xyz"]["message"]
    (tmp_path / "apps" / "desk" / "app.yaml").write_text("route: {targets: [model/m]}")
    refused = run(tmp_path, "pipeline", "run", "desk", tmp_path / "long.txt", "--out", tmp_path / "o.jsonl", "-q")
    assert refused.code == 1
    assert "works through no text" in refused.err
    assert run(tmp_path, "pipeline", "run", "desk", tmp_path / "none.txt", "--out", tmp_path / "o.jsonl").code == 1


def test_what_no_row_would_be_spared_is_said_in_one_sentence(tmp_path: Path, run: Run) -> None:
    workspace(tmp_path, [{"reply": "x"}], {"kind": "summarise"})
    (tmp_path / "rows.csv").write_text("id,text\n1,one\n2,two\n")
    out = ("--out", tmp_path / "out.jsonl", "-q")
    column = run(tmp_path, "pipeline", "run", "desk", tmp_path / "rows.csv", "--column", "body", *out)
    assert (column.code, "has no 'body'" in column.err) == (1, True), column.err
    missing = run(tmp_path, "pipeline", "run", "desk", tmp_path / "none.txt", *out)
    assert (missing.code, "no file" in missing.err) == (3, True), missing.err
    gone = run(tmp_path, "pipeline", "run", "desk", tmp_path / "rows.csv", "--out", tmp_path / "no" / "out.jsonl", "-q")
    assert (gone.code, "cannot be written" in gone.err) == (1, True), gone.err
    (tmp_path / "apps" / "desk" / "app.yaml").write_text(
        "route: {targets: [local/none]}\npipeline: {kind: summarise}\n"
    )
    model = run(tmp_path, "pipeline", "run", "desk", tmp_path / "rows.csv", *out)
    assert model.code == 3
    assert "Traceback" not in model.err


WORDS = st.lists(st.sampled_from(["word", "end.", "Next", "3.5", "\n\n", "- item\n", "über"]), max_size=400)


@settings(max_examples=60, deadline=None)
@given(WORDS, st.integers(50, 200), st.integers(0, 25))
def test_parts_hold_every_word_and_none_is_longer_than_allowed(words: list[str], most: int, overlap: int) -> None:
    text = " ".join(words)
    spec = PipelineSpec(kind="summarise", part_words=most, overlap_words=overlap, most_parts=2000)
    parts = parts_of(text, spec)
    covered = set[int]()
    for part in parts:
        assert len(text[part.start : part.end].split()) <= most + overlap
        covered.update(range(part.start, part.end))
    assert all(at in covered for at, sign in enumerate(text) if not sign.isspace())
    assert [part.start for part in parts] == sorted(part.start for part in parts)


def test_more_parts_than_allowed_are_an_error() -> None:
    with pytest.raises(TooLarge):
        parts_of(LONG, PipelineSpec(kind="summarise", part_words=50, overlap_words=0, most_parts=2))


def test_values_of_parts_are_joined() -> None:
    assert merged([{"a": 1}, {"a": None, "b": [1]}, {"a": 2, "b": [1, 2]}, {"a": 2}]) == {"a": 2, "b": [1, 2]}
    assert merged([{"x": {"y": "first"}}, {"x": {"y": "second", "z": 0}}]) == {"x": {"y": "first", "z": 0}}
    assert merged([None, None]) is None
    assert places("Carl owes 12 to Carla.", {"who": "Carla", "sum": 12, "by": "Zoe"}).keys() == {"/who", "/sum"}
    assert places("Carl owes 12 to Carla.", {"who": "Carla"})["/who"].start == 16
