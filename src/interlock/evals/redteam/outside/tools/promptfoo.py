"""promptfoo: tests and red-team cases of a configuration of yours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from interlock.core.errors import InvalidInput
from interlock.evals.redteam.outside._environments import basic, wrong_report
from interlock.evals.redteam.outside.types import Call, Place, Row

__all__ = ["plugin"]


class _Promptfoo:
    about = "promptfoo: the tests of a promptfoo configuration (give it with --option config=FILE)"
    version = "0.121.20"
    executable = "node_modules/.bin/promptfoo"

    def install(self, home: Path) -> Sequence[Call]:
        npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), f"promptfoo@{self.version}"]
        return [Call(npm, basic())]

    def attack(self, home: Path, place: Place, options: Sequence[str]) -> Call:
        named = next((each.removeprefix("config=") for each in options if each.startswith("config=")), None)
        if named is None:
            raise InvalidInput("name a promptfoo configuration", param="option", hint="--option config=promptfoo.yaml")
        source = Path(named)
        try:
            config: Any = yaml.safe_load(source.read_text("utf-8"))  # Any: YAML
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InvalidInput(f"{source.name!r} cannot be read as YAML", param="option") from error
        if not isinstance(config, dict):
            raise InvalidInput(f"{source.name!r} is no configuration of promptfoo", param="option")
        # Whatever it was written for is asked here.
        ours = {"id": f"openai:chat:{place.model}", "config": {"apiBaseUrl": place.address, "apiKey": "none"}}
        config = {**{name: value for name, value in config.items() if name != "targets"}, "providers": [ours]}
        # Beside the one it comes from, so that files it names are found; hidden, and removed with the run's folder.
        merged = place.folder / "promptfoo.yaml"
        merged.write_text(yaml.safe_dump(_absolute(config, source.resolve().parent)), "utf-8")
        arguments = [
            *(str(home / self.executable), "eval", "-c", str(merged)),
            *("-o", str(place.folder / "promptfoo.json")),
            *("--no-cache", "--no-progress-bar", "--no-table"),
            *(each for each in options if not each.startswith("config=")),
        ]
        quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
        quiet |= {"PROMPTFOO_DISABLE_REMOTE_GENERATION": "true", "PROMPTFOO_CONFIG_DIR": str(home / "data")}
        # Its exit code says that tests failed, which is what is looked for.
        return Call(arguments, basic(**quiet, PROMPTFOO_FAILED_TEST_EXIT_CODE="0"))

    def read(self, folder: Path) -> Sequence[Row]:
        try:
            found = json.loads((folder / "promptfoo.json").read_text("utf-8"))["results"]["results"]
            counts: dict[str, list[int]] = {}
            for one in found:
                told = (one.get("testCase") or {}).get("metadata") or {}
                row = counts.setdefault(str(told.get("pluginId") or "tests"), [0, 0, 0])
                graded = one.get("gradingResult")
                if graded is None:
                    row[2] += 1
                else:
                    row[0] += 1
                    row[1] += not one["success"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise wrong_report("promptfoo", type(error).__name__) from error
        if not counts:
            raise wrong_report("promptfoo", "it ran no test")
        return [Row(name, tried, worked, failed=failed) for name, (tried, worked, failed) in sorted(counts.items())]


def _absolute(value: Any, base: Path) -> Any:  # Any: YAML
    """The same with files that are named relative to the configuration named from anywhere."""
    if isinstance(value, dict):
        return {name: _absolute(inner, base) for name, inner in value.items()}
    if isinstance(value, list):
        return [_absolute(inner, base) for inner in value]
    if isinstance(value, str) and value.startswith("file://") and not value.startswith("file:///"):
        return f"file://{base / value.removeprefix('file://')}"
    return value


plugin = _Promptfoo()
