"""LlamaIndex's OpenAI client, which pins another major version of `openai`: run in an environment of its own.

`make test` builds it from `requirements/llama.txt`. To run this file alone::

    make .venv-llama/.done
    INTERLOCK_LLAMA_INDEX_PYTHON=.venv-llama/bin/python pytest tests/server/test_llama_index.py
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import interlock

pytestmark = pytest.mark.model
PYTHON = os.environ.get("INTERLOCK_LLAMA_INDEX_PYTHON")
SCRIPT = """
import sys
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

url, key = sys.argv[1:]
def model(name):
    return OpenAILike(model=name, api_base=url, api_key=key, is_chat_model=True, max_retries=0, max_tokens=100)

answer = model("app/helper").complete("How many days have customers to return hardware?")
assert "30 days" in answer.text, answer
pieces = model("app/helper").stream_complete("How many days have customers to return hardware?")
streamed = "".join(piece.delta or "" for piece in pieces)
assert "30 days" in streamed, streamed
assert model("scripted").complete("hi").text == "You said: hi"
try:
    model("nobody/x").complete("hi")
except Exception as error:
    assert type(error).__name__ == "NotFoundError", error
else:
    raise SystemExit("an unknown model was answered")
"""


RETRIEVES = """
import asyncio, sys
from interlock.client.llama_index import InterlockRetriever
from llama_index.core.schema import MetadataMode

url, key, token = sys.argv[1:]
def retriever(**more):
    return InterlockRetriever("docs", base_url=url, api_key=key, limit=2, **more)

asked = "how many days to return hardware"
[best, *_] = retriever().retrieve(asked)
assert "30 days" in best.node.get_content(), best
assert best.node.metadata["source"] == "returns.md", best
assert best.node.end_char_idx - best.node.start_char_idx == len(best.node.text)
assert best.node.ref_doc_id == best.node.metadata["document"], best
# A model reads where a text is from, and no digests or offsets.
shown = best.node.get_content(MetadataMode.LLM)
assert "returns.md" in shown and "sha256" not in shown and "doc_" not in shown, shown
assert best.node.get_content(MetadataMode.EMBED).count("sha256") == 0
assert [n.node.node_id for n in asyncio.run(retriever().aretrieve(asked))][0] == best.node.node_id
pay = "what is the salary band of a senior engineer"
assert all(n.node.metadata["source"] != "pay/bands.md" for n in retriever().retrieve(pay))
assert retriever(on_behalf_of=token).retrieve(pay)[0].node.metadata["source"] == "pay/bands.md"
"""
ABSENT = "LlamaIndex is not here: `make .venv-llama/.done`, then set INTERLOCK_LLAMA_INDEX_PYTHON to its Python"


@pytest.mark.skipif(PYTHON is None and not os.environ.get("CI"), reason=ABSENT)
def test_llama_index_asks_streams_and_knows_our_errors(site):
    assert PYTHON is not None, ABSENT
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, f"{site.url}/v1", site.keys["admin"]],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PYTHON is None and not os.environ.get("CI"), reason=ABSENT)
def test_its_retriever_finds_by_the_rights_of_whom_it_asks_for(site):
    assert PYTHON is not None, ABSENT
    done = subprocess.run(
        [PYTHON, "-c", RETRIEVES, site.url, site.keys["plain"], site.token()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(interlock.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
