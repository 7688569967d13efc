"""CPU microseconds a request, beside other gateways in the same run.

``python -m benchmarks.gateway [--peers DIR] [--rounds 3] [--seconds 5] [--soak 0] [--json FILE]``

One mock upstream and one load generator (C, built with ``cc``) share CPU 0; the gateway under test has CPU 1 to itself.
All gateways stay up and are measured in turns, round after round, so that what else the machine does hits all of them.
The figure is on-CPU time of the whole process tree, saturated, divided by the requests: it does not depend on how fast
the client is, and much less than latency on what else runs. Needs Linux and two CPUs. The others are installed by
``python -m benchmarks.gateway.peers DIR``; nginx and openssl come from the system.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gateway.peers import UPSTREAM, Peer, interlock, nginx, peers

_HERE = Path(__file__).parent
_MESSAGES = [
    {"role": "system", "content": "You are a concise assistant for a support team. Answer from the context only."},
    {
        "role": "user",
        "content": "Context: The refund window is 30 days from delivery. Items must be unused. Shipping is not "
        "refunded.\n\nQuestion: A customer got the parcel 12 days ago and opened the box but did not use the item. "
        "Can we refund them, and do we pay the shipping back?",
    },
]
_PADDING = " The refund window is 30 days from delivery."
_KINDS = {
    "request": "non-stream request",
    "paced": "paced stream of 23 chunks",
    "burst": "stream without pauses",
    "prompt": "200 KB prompt",
}


def _tree(pid: int) -> list[int]:
    found = [pid]
    for at in found:
        for task in Path(f"/proc/{at}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _cpu_s(pid: int) -> float:
    total = 0
    for process in _tree(pid):
        for stat in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                total += int(stat.read_text().split()[0])
            except OSError:
                continue
    return total / 1e9


def _memory_mb(pid: int, field_name: str) -> float:
    total = 0
    for process in _tree(pid):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field_name):
                total += int(line.split()[1])
    return total / 1024


@dataclass
class Running:
    """A started gateway."""

    peer: Peer
    process: subprocess.Popen[bytes]
    bodies: dict[str, Path]
    cold_s: float
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    rps: dict[str, list[float]] = field(default_factory=dict)
    bad: int = 0

    def command(self, tools: Path, kind: str, seconds: float, connections: int, *, rate: int = 0) -> list[str]:
        """The load generator's; a `rate` of 0 saturates."""
        stream = kind in {"paced", "burst"}
        command = [*_on(0), str(tools / "loadgen"), "--port", str(self.peer.port), "--path", self.peer.path]
        body = self.bodies["prompt" if kind == "prompt" else "stream" if stream else "request"]
        command += ["--body", str(body), "--conns", str(connections), "--seconds", str(seconds), "--rate", str(rate)]
        for header in self.peer.headers:
            command += ["--header", header]
        return [*command, *(["--sse"] if stream else [])]

    def load(self, tools: Path, kind: str, seconds: float, connections: int) -> None:
        """One measurement."""
        _mock(f"gap_ms={5 if kind == 'paced' else 0}")
        before = _cpu_s(self.process.pid)
        done = subprocess.run(self.command(tools, kind, seconds, connections), capture_output=True, check=True)
        said = json.loads(done.stdout)
        self.bad += said["bad"]
        if said["ok"]:
            self.cpu_us.setdefault(kind, []).append((_cpu_s(self.process.pid) - before) * 1e6 / said["ok"])
            self.rps.setdefault(kind, []).append(said["rps"])


def _compiled() -> None:
    """What pip does of an installed package, and what a first start of a checkout would do in our time."""
    compileall.compile_dir(str(_HERE.parent.parent / "src" / "interlock"), quiet=2)


def _on(cpu: int) -> list[str]:
    return ["taskset", "-c", str(cpu)]


def _mock(query: str) -> None:
    with socket.create_connection(("127.0.0.1", UPSTREAM), 2) as connection:
        connection.sendall(f"GET /_mock/set?{query} HTTP/1.1\r\nHost: m\r\n\r\n".encode())
        connection.recv(4096)


def _answers(peer: Peer, body: bytes) -> bool:
    head = f"POST {peer.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    head += "".join(f"{header}\r\n" for header in peer.headers) + f"Content-Length: {len(body)}\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", peer.port), 0.5) as connection:
            connection.settimeout(5)
            connection.sendall(head.encode() + body)
            got = b""
            while piece := connection.recv(65536):
                got += piece
    except OSError:
        return False
    return got.startswith(b"HTTP/1.1 200") and b"choices" in got


def _start(peer: Peer, folder: Path) -> Running:
    base = {"model": peer.model, "messages": _MESSAGES, "temperature": 0.2, "max_tokens": 200}
    long = [
        _MESSAGES[0],
        {"role": "user", "content": _MESSAGES[1]["content"] + _PADDING * (200 * 1024 // len(_PADDING))},
    ]
    shapes: dict[str, dict[str, Any]] = {  # Any: JSON
        "request": base,
        "stream": {**base, "stream": True, "stream_options": {"include_usage": True}},
        "prompt": {**base, "messages": long},
    }
    bodies = {}
    for kind, body in shapes.items():
        bodies[kind] = folder / f"{peer.name.split()[0]}-{kind}.json"
        bodies[kind].write_text(json.dumps(body))
    if peer.url_file is not None:
        peer.url_file.unlink(missing_ok=True)
    log = (folder / f"{peer.name.split()[0]}.log").open("wb")
    began = time.monotonic()
    process = subprocess.Popen(
        [*_on(1), *peer.command],
        # As installed: with what the interpreter compiled of a module kept beside it.
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            **peer.environ,
        },
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    while time.monotonic() - began < 120:
        if peer.url_file is not None and peer.url_file.exists() and peer.url_file.read_text().strip():
            peer.port = int(peer.url_file.read_text().split(":")[2].split("/")[0])
        if process.poll() is not None:
            # Whatever answers on its port now is something else.
            break
        if peer.port and _answers(peer, bodies["request"].read_bytes()):
            return Running(peer, process, bodies, time.monotonic() - began)
        time.sleep(0.01)
    raise SystemExit(f"{peer.name} did not start: {(folder / log.name).read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(15)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _certificate(folder: Path) -> tuple[Path, Path] | None:
    if shutil.which("openssl") is None or shutil.which("nginx") is None:
        return None
    certificate, key = folder / "front.crt", folder / "front.key"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return certificate, key


def _median(values: Sequence[float] | None) -> float | None:
    return round(statistics.median(values), 1) if values else None


def main() -> None:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder made by benchmarks.gateway.peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--soak", type=float, default=0.0, help="minutes of paced load on ours alone at the end")
    parser.add_argument("--soak-rate", type=int, default=400, help="requests a second of it, one in ten a stream")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    _compiled()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("mock", "loadgen"):
            subprocess.run(["cc", "-O2", "-o", str(folder / name), str(_HERE / f"{name}.c")], check=True)
        mock = subprocess.Popen([*_on(0), str(folder / "mock"), str(UPSTREAM), "0", "20"])
        others: list[subprocess.Popen[bytes]] = [mock]
        running: list[Running] = []
        try:
            time.sleep(0.3)
            wanted = [*peers(folder, given.peers and given.peers.absolute()), interlock(folder)]
            certificate = _certificate(folder)
            front = nginx(folder, tls=certificate) if certificate else None
            if front is not None and certificate is not None:
                others.append(subprocess.Popen([*_on(0), *front.command]))
                wanted.append(interlock(folder, tls=certificate[0], name="interlock-tls"))
            if given.only:
                wanted = [peer for peer in wanted if peer.name.split()[0] in given.only.split(",")]
            running = [_start(peer, folder) for peer in wanted]
            for one in running:
                one.load(folder, "request", 2, 16)
                one.load(folder, "burst", 1, 16)
                one.cpu_us.clear()
                one.rps.clear()
            for _ in range(given.rounds):
                for one in running:
                    for kind in _KINDS:
                        one.load(folder, kind, given.seconds, 64 if kind == "paced" else 32)
            _report(running, given.json)
            ours = next((one for one in running if one.peer.name == "interlock"), None)
            if given.soak and ours is not None:
                _soak(ours, folder, given.soak, given.soak_rate)
        finally:
            for one in running:
                _stop(one.process)
            for process in others:
                process.terminate()


def _report(running: list[Running], target: Path | None) -> None:
    rows = []
    for one in running:
        row: dict[str, object] = {"name": one.peer.name, "cold_s": round(one.cold_s, 2), "bad": one.bad}
        row["peak_rss_mb"] = round(_memory_mb(one.process.pid, "VmHWM"), 1)
        row |= {kind: _median(one.cpu_us.get(kind)) for kind in _KINDS}
        row["rps"] = _median(one.rps.get("request"))
        rows.append(row)
    if target is not None:
        target.write_text(json.dumps(rows, indent=1))
    print("CPU us a request, median of rounds (process tree, saturated)\n")
    print("| gateway | " + " | ".join(_KINDS.values()) + " | requests/s | peak RSS MB | cold start s | bad |")
    print("|---|" + "---|" * (len(_KINDS) + 4))
    for row in rows:
        cells = [row[name] for name in ("name", *_KINDS, "rps", "peak_rss_mb", "cold_s", "bad")]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


def _soak(ours: Running, folder: Path, minutes: float, rate: int) -> None:
    """Paced load for a long time: memory in the second half, when every cache is warm."""
    began, sizes = time.monotonic(), []
    loads = [
        subprocess.Popen(ours.command(folder, kind, minutes * 60, 32, rate=share), stdout=subprocess.PIPE)
        for kind, share in (("request", rate * 9 // 10), ("burst", rate - rate * 9 // 10))
    ]
    while loads[0].poll() is None:
        sizes.append((time.monotonic() - began, _memory_mb(ours.process.pid, "VmRSS")))
        time.sleep(10)
    said = [json.loads(load.communicate()[0]) for load in loads]
    served, bad = sum(one["ok"] for one in said), sum(one["bad"] for one in said)
    half = sizes[len(sizes) // 2 :]
    slope = (half[-1][1] - half[0][1]) / max(1.0, (half[-1][0] - half[0][0]) * rate) * 100_000
    print(
        f"\nsoak: {served:,} requests ({bad} bad) in {minutes:g} minutes, at most {max(mb for _, mb in sizes):.0f} MB "
        f"resident, {slope:+.2f} MB for 100,000 requests in the second half"
    )


if __name__ == "__main__":
    main()
