"""garak: probes and detectors of NVIDIA's scanner for language models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from interlock.evals.redteam.outside._environments import basic, python_environment, wrong_report
from interlock.evals.redteam.outside.types import Call, Place, Row

__all__ = ["plugin"]

_PROBES = "probes.promptinject,probes.encoding.InjectBase64,probes.encoding.InjectROT13,probes.latentinjection"
_PROBES += ",probes.web_injection,probes.ansiescape.AnsiRaw"
"""Whose detectors look for words: others take models that garak fetches from a hub."""


class _Garak:
    about = "garak: prompt injection, encodings, exfiltration by Markdown, escape sequences and more"
    version = "0.17.1"
    executable = "venv/bin/garak"

    def install(self, home: Path) -> Sequence[Call]:
        return python_environment(home, f"garak=={self.version}")

    def attack(self, home: Path, place: Place, options: Sequence[str]) -> Call:
        generator = {"openai": {"OpenAICompatible": {"uri": f"{place.address}/", "api_key": "none"}}}
        (place.folder / "generator.json").write_text(json.dumps(generator), "utf-8")
        given = list(options)
        defaults = ["--generations", "1", "--parallel_attempts", "4"]
        if not {"--spec", "-S", "--probes", "-p"} & set(given):
            defaults += ["--spec", _PROBES]
        arguments = [
            str(home / self.executable),
            *("--target_type", "openai.OpenAICompatible"),
            *("--target_name", place.model),
            *("--generator_option_file", str(place.folder / "generator.json")),
            *("--report_prefix", str(place.folder / "garak")),
            "--narrow_output",
            *defaults,
            *given,
        ]
        own = {"OPENAICOMPATIBLE_API_KEY": "none", "XDG_DATA_HOME": str(home / "data"), "HF_HUB_OFFLINE": "1"}
        return Call(arguments, basic(**own))

    def read(self, folder: Path) -> Sequence[Row]:
        try:
            lines = (folder / "garak.report.jsonl").read_text("utf-8").splitlines()
            found = [json.loads(line) for line in lines if '"eval"' in line]
            rows = [
                Row(
                    f"{one['probe']}/{str(one['detector']).rpartition('.')[2]}",
                    int(one["total_evaluated"]),
                    int(one["fails"]),
                    failed=int(one.get("nones", 0)),
                )
                for one in found
                if one.get("entry_type") == "eval"
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise wrong_report("garak", type(error).__name__) from error
        if not rows:
            raise wrong_report("garak", "no probe was evaluated")
        return rows


plugin = _Garak()
