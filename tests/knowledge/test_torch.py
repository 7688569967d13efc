"""What needs torch, in an environment of its own: torch is larger than everything else together.

`.ci/run` builds it. To run this file alone::

    make torch
    INTERLOCK_TORCH_PYTHON=.venv-torch/bin/python pytest tests/knowledge/test_torch.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = os.environ.get("INTERLOCK_TORCH_PYTHON")
ABSENT = "torch is not here: `make torch`, then set INTERLOCK_TORCH_PYTHON to its Python"
# Libraries of the environment come before ours: two of each kind would not agree.
RUN = "import sys; sys.path += sys.argv[2:]; import pytest; sys.exit(pytest.main(['-qp', 'no:randomly', sys.argv[1]]))"


@pytest.mark.model
@pytest.mark.timeout(300)
@pytest.mark.skipif(PYTHON is None and not os.environ.get("CI"), reason=ABSENT)
def test_the_embedder_of_sentence_transformers_keeps_its_promises(models_dir):
    assert PYTHON is not None, ABSENT
    file = Path(__file__).with_name("torch_embedder.py")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    environment = {**kept, "INTERLOCK_MODELS_DIR": str(models_dir), "PYTHONPATH": "", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [PYTHON, "-c", RUN, str(file), *(str(Path(path).resolve()) for path in sys.path if path)],
        capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
