"""A real server in a process of its own, started and stopped as an operator would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Server", "run_server"]


class Server:
    """A running ``interlock up``."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        """Its standard error."""
        self.workspace = log.parent

    def workers(self) -> list[int]:
        """Ids of the processes that serve now: one, or as many as there are workers."""
        from interlock.server.running import running

        data = next(self.workspace.glob("**/servers")).parent
        return [found.pid for found in running(data)]

    def terminate(self) -> None:
        """Ask it to stop, as an init system does; open streams may finish."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()


@contextmanager
def run_server(workspace: Path, *, environ: Mapping[str, str] | None = None, port: int = 0) -> Iterator[Server]:
    """Start ``interlock up`` on a free loopback port; it is stopped at the end, by force when it must be."""
    command = [sys.executable, "-m", "interlock", "--verbose", "--workspace", str(workspace)]
    command += ["up", "--port", str(port), "--no-warm", "--json"]
    log = workspace / "server.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(  # noqa: S603 - our own command line
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(environ or {})}
        ) as process,
    ):
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1] != "}\n":
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"the server ended with {process.wait()}:\n{log.read_text()[-4000:]}")
            lines.append(line)
        try:
            yield Server(process, json.loads("".join(lines))["url"], log)
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                # Workers of a parent that was killed end by themselves.
                process.kill()
