"""promptfoo's tests: variables filled into the prompt, and asserts as metrics as far as there are such ones.

Read as a case file it gives questions and references; `interlock eval import` takes the asserts over too, and lists
what has no counterpart.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.core.yaml_text import YamlFault, read_yaml
from interlock.evals.formats._objects import input_of
from interlock.evals.ports import ImportedSuite

__all__ = ["Promptfoo", "plugin"]

_MOST_BYTES = 16 << 20
_MOST_EXPANDED = 10_000
_QUESTIONS = ("question", "query", "input", "prompt", "message", "text")
_TAKEN = {"description", "prompts", "tests", "defaultTest", "providers", "targets"}
_OF_TEST = {"description", "vars", "assert", "metadata", "id"}
Json = dict[str, Any]  # Any: whatever the file holds


class Promptfoo:
    """See the module."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`. Without the options that only the imported suite's metrics know."""
        for case in self.suite(path).cases:
            fields = {name: each for name, each in case.items() if name != "metrics"}
            yield str(case["provenance"]["ref"]), fields

    def suite(self, path: Path) -> ImportedSuite:
        """See `SuiteFormat`."""
        whole = _yaml(path)
        config: Json = {"tests": whole} if isinstance(whole, list) else whole
        if not isinstance(config, dict) or "tests" not in config:
            raise InvalidInput(f"{path.name!r} has no tests", param="tests")
        made = _Made(path)
        for name in sorted(set(config) - _TAKEN):
            made.leave(name)
        if config.get("providers") or config.get("targets"):
            made.leave("providers", "say what is tested with --target")
        prompts = list(made.prompts(config.get("prompts") or []))
        default = config.get("defaultTest")
        made.default = default if isinstance(default, dict) else {}
        for number, test in enumerate(made.tests(config["tests"]), start=1):
            made.test(test, number, prompts)
        if not made.cases:
            raise InvalidInput(f"{path.name!r} has no tests that can be taken over", param="tests")
        description = config.get("description")
        return ImportedSuite(
            str(description) if description else "", made.cases, list(made.metrics.values()), tuple(made.left_out)
        )


@dataclass
class _Made:
    """What has been taken over so far."""

    path: Path
    cases: list[Json] = field(default_factory=list)
    metrics: dict[str, Json] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    default: Json = field(default_factory=dict)

    def leave(self, what: str, why: str = "has no counterpart") -> None:
        """Note it, once."""
        self.left_out.setdefault(f"{what}: {why}")

    def tests(self, given: object) -> Iterator[Json]:
        """Tests, those of files beside it too."""
        for number, each in enumerate(given if isinstance(given, list) else [given], start=1):
            if isinstance(each, str):
                place = each.removeprefix("file://")
                if place.endswith((".yaml", ".yml", ".json")) and "*" not in place:
                    found = _yaml(self._beside(place))
                    yield from self.tests(found)
                else:
                    self.leave(f"tests from {place!r}", "only YAML and JSON files of tests are read")
            elif isinstance(each, dict):
                yield each
            else:
                raise InvalidInput(f"{self.path.name!r}: tests.{number} is no test", param=f"tests.{number}")

    def prompts(self, given: object) -> Iterator[str]:
        """Templates in words."""
        for each in given if isinstance(given, list) else [given]:
            raw = each.get("raw", each.get("id")) if isinstance(each, dict) else each
            if not isinstance(raw, str):
                self.leave("a prompt", "it is no text")
            elif raw.startswith("file://") or re.fullmatch(r"[\w./-]+\.(txt|md|json|ya?ml|js|mjs|ts|py)", raw):
                place = raw.removeprefix("file://")
                if place.endswith((".txt", ".md", ".json")) and "*" not in place:
                    yield self._beside(place).read_text("utf-8")
                else:
                    self.leave(f"the prompt {place!r}", "only .txt, .md and .json files are read")
            else:
                yield raw

    def _beside(self, name: str) -> Path:
        place = (self.path.parent / name).resolve()
        if not place.is_relative_to(self.path.parent.resolve()):
            raise InvalidInput(f"{name!r} lies outside the folder of {self.path.name!r}", param="tests")
        if not place.is_file():
            raise InvalidInput(f"there is no {name!r} beside {self.path.name!r}", param="tests")
        return place

    def test(self, test: Json, number: int, prompts: Sequence[str]) -> None:
        """One test: a case for each prompt and each choice of its variables."""
        place = f"test {number}"
        for name in sorted(set(test) - _OF_TEST):
            self.leave(f"tests.{name}")
        given = {**_mapping(self.default, "vars", "defaultTest"), **_mapping(test, "vars", place)}
        asserts = [*_list(self.default, "assert", "defaultTest"), *_list(test, "assert", place)]
        choices = list(_expanded(given, place))
        for at, (values, prompt) in enumerate(itertools.product(choices, prompts or [""]), start=1):
            if len(self.cases) >= _MOST_EXPANDED:
                raise InvalidInput(f"{place}: the variables make more than {_MOST_EXPANDED:,} cases", param="vars")
            several = len(choices) * len(prompts or [""]) > 1
            case: Json = {
                "id": f"test-{number}-{at}" if several else f"test-{number}",
                "input": self._input(prompt, values, place),
                "metadata": {"vars": values},
                "provenance": {"kind": "imported", "ref": f"{place} of {self.path.name}"},
            }
            if test.get("description"):
                case["metadata"]["description"] = str(test["description"])
            if len(choices) > 1:
                case["group"] = f"test-{number}"
            if len(prompts) > 1:
                case["slices"] = {"prompt": str(prompts.index(prompt) + 1)}
            for each in asserts:
                self._assert(case, each, values, place)
            self.cases.append(case)

    def _input(self, prompt: str, values: Json, place: str) -> str | list[dict[str, str]]:
        if not prompt:
            texts = {name: each for name, each in values.items() if isinstance(each, str)}
            asked = next((texts[name] for name in _QUESTIONS if name in texts), None)
            if asked is None and len(texts) == 1:
                asked = next(iter(texts.values()))
            if asked is None:
                raise InvalidInput(
                    f"{place}: without a prompt it cannot be told which variable is asked",
                    param="vars",
                    hint=f"call it {_QUESTIONS[0]!r}, or add prompts",
                )
            return asked
        rendered = _filled(prompt, values, self)
        if rendered.lstrip().startswith("["):
            try:
                return input_of(json.loads(rendered), place, "prompts")
            except ValueError:
                return rendered
        return rendered

    def _assert(self, case: Json, given: object, values: Json, place: str) -> None:
        if not isinstance(given, dict) or not isinstance(given.get("type"), str):
            raise InvalidInput(f"{place}: assert has an entry without a type", param="assert")
        kind = given["type"]
        if kind == "assert-set":
            for each in _list(given, "assert", place):
                self._assert(case, each, values, place)
            self.leave("assert-set", "its asserts are taken over one by one, without its threshold")
            return
        for name in sorted(set(given) - {"type", "value", "metric", "threshold"}):
            self.leave(f"assert.{name}")
        value = given.get("value")
        if isinstance(value, str):
            if value.startswith("file://"):
                self.leave(f"assert {kind} with a value from a file")
                return
            value = _filled(value, values, self)
        told = _metric(kind, value, case)
        if told is None:
            self.leave(f"assert {kind}", _WHY.get(kind.removeprefix("not-"), "there is no such metric"))
            return
        if "threshold" in given and kind.removeprefix("not-") in _THRESHOLDS:
            self.leave(f"the threshold of {kind}", "hold the mean to one by a rule of the suite's gate")
        name, options = told
        label = name
        for more in itertools.count(2):
            if label not in case.get("metrics", {}) and f"metric:{label}" not in case.get("tags", []):
                break
            label = f"{name}-{more}"
        # A metric that other cases ask for is not asked of this one: tags say which.
        self.metrics.setdefault(label, {"metric": name, "name": label, "tags": [f"metric:{label}"]})
        case.setdefault("tags", []).append(f"metric:{label}")
        if options:
            case.setdefault("metrics", {})[label] = options


_THRESHOLDS = {
    "levenshtein",
    "rouge-n",
    "bleu",
    "meteor",
    "similar",
    "latency",
    "cost",
    "answer-relevance",
    "context-faithfulness",
}
_WHY = {
    "llm-rubric": "write it as a judge's rubric",
    "model-graded-closedqa": "write it as a judge's rubric",
    "factuality": "write it as a judge's rubric",
    "g-eval": "write it as a judge's rubric",
    "javascript": "code of others is not run",
    "python": "code of others is not run",
    "webhook": "code of others is not run",
}


def _metric(kind: str, value: Any, case: Json) -> tuple[str, Json] | None:
    """Metric and options of an assert; `expected` and the like are set on the case."""
    negated, plain = kind.startswith("not-"), kind.removeprefix("not-")
    texts = [str(each) for each in value] if isinstance(value, list) else [] if value is None else [str(value)]
    if plain in {"contains", "icontains", "contains-any", "icontains-any", "contains-all", "icontains-all"}:
        if plain.endswith(("-any", "-all")) and isinstance(value, str):
            texts = [each.strip() for each in value.split(",") if each.strip()]
        if not texts or (negated and plain.endswith("-all")):
            return None
        key = "none" if negated else "any" if plain.endswith("-any") else "all"
        return "contains", {key: texts, "case_sensitive": not plain.startswith("i")}
    if plain == "regex" and texts:
        return "regex", {"pattern": texts[0], "absent": negated}
    if plain == "starts-with" and texts:
        return "regex", {"pattern": rf"\A{re.escape(texts[0])}", "absent": negated}
    if plain == "is-refusal":
        case["harmful"] = not negated
        return "declines", {}
    if negated:
        return None
    if plain == "equals" and value is not None:
        value = value if isinstance(value, (str, dict, list)) else json.dumps(value)
        if not _expects(case, value):
            return None
        return ("json_fields", {"extra_is_wrong": True}) if isinstance(value, (dict, list)) else ("exact", {})
    if plain in {"is-json", "contains-json"}:
        schema = value if isinstance(value, dict) else {}
        return "json_schema", {"schema": schema, "fenced": plain == "contains-json"}
    if plain == "word-count":
        low, high = (value.get("min"), value.get("max")) if isinstance(value, dict) else (value, value)
        asked = {"min_words": low, "max_words": high}
        return "format", {name: int(each) for name, each in asked.items() if each is not None}
    if plain in {"levenshtein", "rouge-n", "bleu", "meteor", "similar"}:
        if not isinstance(value, str) or not _expects(case, value):
            return None
        return {"rouge-n": "rouge", "similar": "similarity"}.get(plain, plain), {
            "kind": "rouge1"
        } if plain == "rouge-n" else {}
    if plain in {"latency", "cost"}:
        return plain, {}
    if plain == "answer-relevance":
        return "answer_relevance", {}
    if plain == "context-faithfulness":
        context = case["metadata"]["vars"].get("context")
        case["context"] = (
            [str(each) for each in context] if isinstance(context, list) else [str(context)] if context else []
        )
        return "groundedness", {"against": "context"}
    return None


def _expects(case: Json, value: Any) -> bool:
    """Whether the case's one reference is this, or becomes it."""
    return bool(case.setdefault("expected", value) == value)


def _filled(template: str, values: Json, made: _Made) -> str:
    """``{{ name }}`` replaced; more of the template language than that is not known here."""
    if re.search(r"\{%|\{\{[^}]*[|(+]", template):
        made.leave("templates with filters or statements", "only {{ name }} is filled in")

    def value(match: re.Match[str]) -> str:
        found: Any = values
        for step in match[1].split("."):
            found = found.get(step) if isinstance(found, dict) else None
        return match[0] if found is None else found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    return re.sub(r"\{\{\s*([\w.]+)\s*\}\}", value, template)


def _expanded(values: Json, place: str) -> Iterator[Json]:
    """A variable with a list stands for each of its entries, as promptfoo has it."""
    names = [name for name, each in values.items() if isinstance(each, list)]
    for number, chosen in enumerate(itertools.product(*(values[name] for name in names)), start=1):
        if number > _MOST_EXPANDED:
            raise InvalidInput(f"{place}: the variables make more than {_MOST_EXPANDED:,} cases", param="vars")
        yield {**values, **dict(zip(names, chosen, strict=True))}


def _mapping(given: Json, name: str, place: str) -> Json:
    value = given.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{place}: {name} is a mapping of names to values", param=name)
    return value


def _list(given: Json, name: str, place: str) -> list[Any]:
    value = given.get(name) or []
    if not isinstance(value, list):
        raise InvalidInput(f"{place}: {name} is a list", param=name)
    return value


def _yaml(path: Path) -> Any:
    if path.stat().st_size > _MOST_BYTES:
        raise InvalidInput(f"{path.name!r} is larger than {_MOST_BYTES >> 20} MiB", param="tests")
    try:
        return read_yaml(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name!r} is not UTF-8", param="tests") from error
    except YamlFault as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1} of " if mark is not None else ""
        raise InvalidInput(f"{where}{path.name!r} is not YAML", param="tests") from error


plugin = Promptfoo()
