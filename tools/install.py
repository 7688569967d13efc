"""Run pip for a hashed requirements file and say how far it is: `python tools/install.py requirements/demo.txt`.

pip itself is either silent for minutes or prints two lines a package.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

_EVERY_S = 3.0
"""Between two lines where the output is no terminal: logs stay short."""


def main(file: Path) -> int:
    """Install; gives pip's exit status. What pip says of errors goes to stderr as it is."""
    total = len(re.findall(r"^[A-Za-z0-9].*==", file.read_text("utf-8"), re.MULTILINE))
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    live = sys.stdout.isatty()
    met, shown, began = 0, 0.0, time.monotonic()
    with subprocess.Popen([*command, "--require-hashes", "-r", str(file)], stdout=subprocess.PIPE, text=True) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            found = re.match(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)", line)
            if found:
                met += 1
                text = f"  {met} of {total} packages: {found[1]}"
            elif line.startswith("Installing collected"):
                text = f"  unpacking {total} packages"
            else:
                continue
            if live:
                print(f"\r{text:60}", end="", flush=True)
            elif time.monotonic() - shown >= _EVERY_S or not found:
                shown = time.monotonic()
                print(text, flush=True)
    if pip.returncode == 0:
        print(f"{chr(13) if live else ''}  {total} packages are in place, {time.monotonic() - began:.0f} s{'':30}")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
