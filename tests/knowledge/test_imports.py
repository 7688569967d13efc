from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "onnxruntime", "tokenizers", "pypdfium2", "docx", "selectolax", "markdown_it", "snowballstemmer")


def test_importing_knowledge_imports_no_heavy_library():
    code = (
        "import sys, interlock.knowledge.service, interlock.knowledge.loaders as l\n"
        "[l.loaders.get(n) for n in l.loaders.names()]\n"
        "import interlock.knowledge.embedders.minilm\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_exist():
    import interlock.knowledge as knowledge

    assert all(getattr(knowledge, name) for name in knowledge.__all__)
