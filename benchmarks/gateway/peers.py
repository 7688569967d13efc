"""The gateways that are measured, each with what it needs to start: ours, and others from their public packages.

``python -m benchmarks.gateway.peers DIR`` installs the others into virtual environments of their own below DIR.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PACKAGES", "Peer", "interlock", "peers"]

PACKAGES = {"rolter": "rolter==0.1.0", "ferrogw": "ferrogw==1.5.10", "tensorzero": "tensorzero==2026.6.0"}
MODEL = "gpt-4o-mini"
UPSTREAM, FRONT = 9100, 9443
_SETTINGS = """\
gateway:
  providers:
    openai: {{kind: openai, base_url: "{base}/v1", api_key_env: BENCH_KEY, models: [gpt-4o-mini]}}
  routes:
    bench: {{targets: [openai/gpt-4o-mini], max_output_tokens: 1000}}
cost:
  limits:
    - {{name: requests, window: 60s, requests: 1000000000, per: [key]}}
    - {{name: tokens, window: 60s, tokens: 100000000000, per: [key]}}
    - {{name: money, period: month, money: "1000000", per: [tenant]}}
"""
_NGINX = """\
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log error;
events {{ worker_connections 8192; }}
http {{ access_log off; client_max_body_size 8m;
 client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
 uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
 upstream m {{ server 127.0.0.1:9100; keepalive 256; keepalive_requests 1000000000; }}
 server {{ listen {listen}; keepalive_requests 1000000000; {tls}
  location / {{ proxy_pass http://m; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_buffering off; proxy_request_buffering off; }} }} }}
"""
_ROLTER = """\
[server]
host = "127.0.0.1"
port = 9202
[[providers]]
name = "mock"
kind = "openai_compatible"
api_base = "http://127.0.0.1:9100"
[[routes]]
model = "gpt-4o-mini"
strategy = "round_robin"
[[routes.targets]]
provider = "mock"
model = "gpt-4o-mini"
[[virtual_keys]]
key = "sk-bench"
name = "bench"
models = []
disabled = false
[[model_prices]]
model = "gpt-4o-mini"
input_per_mtok = 0.15
output_per_mtok = 0.60
[usage_recording]
[logging]
"""
_TENSORZERO = """\
[gateway]
observability.enabled = false
[models."gpt-4o-mini"]
routing = ["mock"]
[models."gpt-4o-mini".providers.mock]
type = "openai"
model_name = "gpt-4o-mini"
api_base = "http://127.0.0.1:9100/v1/"
api_key_location = "none"
"""
_SERVE_TENSORZERO = """\
import sys, time
from tensorzero.tensorzero import _start_http_gateway
off = {"clickhouse_url": None, "postgres_url": None, "valkey_url": None, "async_setup": False}
g = _start_http_gateway(config_file=sys.argv[1], **off)
open(sys.argv[2], "w").write(g.base_url)
time.sleep(1e9)
"""


@dataclass
class Peer:
    """One gateway."""

    name: str
    command: list[str]
    port: int
    headers: list[str] = field(default_factory=list)
    path: str = "/v1/chat/completions"
    model: str = MODEL
    environ: dict[str, str] = field(default_factory=dict)
    url_file: Path | None = None
    """Where it writes its address, when it chooses its own port."""


def interlock(folder: Path, *, tls: Path | None = None, name: str = "interlock", fast: bool = True) -> Peer:
    """Ours, with everything on that a production key uses: authentication, limits on requests and tokens, a budget,
    routing, breaker, usage and cost, ledger, audit, metrics, spans.

    Args:
        tls: certificate of the TLS front, which is then the upstream.
    """
    workspace = folder / name
    workspace.mkdir(parents=True, exist_ok=True)
    base = f"https://localhost:{FRONT}" if tls else f"http://127.0.0.1:{UPSTREAM}"
    (workspace / "interlock.yaml").write_text(_SETTINGS.format(base=base))
    command = [sys.executable, "-m", "interlock", "--workspace", str(workspace)]
    made = subprocess.run([*command, "keys", "create", "bench", "--json"], capture_output=True, check=True)
    port = {"interlock": 9300, "interlock-tls": 9301}.get(name, 9302)
    return Peer(
        name,
        [*command, "up", "--port", str(port), "--no-warm", *([] if fast else ["--no-fast-lane"])],
        port,
        [f"Authorization: Bearer {json.loads(made.stdout)['secret']}"],
        model="route/bench",
        environ={"BENCH_KEY": "sk-mock", **({"SSL_CERT_FILE": str(tls)} if tls else {})},
    )


def nginx(folder: Path, *, tls: tuple[Path, Path] | None = None) -> Peer | None:
    """A plain proxy: the floor, and with `tls` (certificate, key) the front for upstreams over TLS."""
    if shutil.which("nginx") is None:
        return None
    place = folder / ("front" if tls else "nginx")
    place.mkdir(parents=True, exist_ok=True)
    port = FRONT if tls else 9207
    listen = f"127.0.0.1:{port}{' ssl' if tls else ''}"
    line = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
    (place / "nginx.conf").write_text(_NGINX.format(folder=place, listen=listen, tls=line))
    return Peer("nginx (plain proxy)", ["nginx", "-c", str(place / "nginx.conf"), "-p", str(place)], port)


def peers(folder: Path, installed: Path | None) -> list[Peer]:
    """The others that are here, ready to start."""
    found = [peer for peer in (nginx(folder),) if peer is not None]
    if installed is None:
        return found
    (folder / "rolter.toml").write_text(_ROLTER)
    (folder / "ferrogw.yaml").write_text("strategy:\n  mode: fallback\ntargets:\n  - virtual_key: openai\n")
    (folder / "tensorzero.toml").write_text(_TENSORZERO)
    (folder / "serve.py").write_text(_SERVE_TENSORZERO)
    url = folder / "tensorzero.url"
    bins = {name: installed / name / "bin" for name in PACKAGES}
    if (bins["rolter"] / "rolter").exists():
        command = [str(bins["rolter"] / "rolter"), "gateway", "-c", str(folder / "rolter.toml")]
        found.append(Peer("rolter", command, 9202, ["Authorization: Bearer sk-bench"], environ={"RUST_LOG": "warn"}))
    if (bins["ferrogw"] / "ferrogw").exists():
        environ = {
            "MASTER_KEY": "fgw_bench",
            "PORT": "9203",
            "GATEWAY_CONFIG": str(folder / "ferrogw.yaml"),
            "OPENAI_API_KEY": "sk-mock",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{UPSTREAM}",
            "LOG_LEVEL": "warn",
            "RATE_LIMIT_RPS": "0",
        }
        command = [str(bins["ferrogw"] / "ferrogw"), "serve"]
        found.append(Peer("ferrogw", command, 9203, ["Authorization: Bearer fgw_bench"], environ=environ))
    if (bins["tensorzero"] / "python").exists() and list((installed / "tensorzero").glob("lib/*/*/tensorzero")):
        command = [str(bins["tensorzero"] / "python"), str(folder / "serve.py")]
        command += [str(folder / "tensorzero.toml"), str(url)]
        found.append(
            Peer(
                "tensorzero",
                command,
                0,
                path="/openai/v1/chat/completions",
                model=f"tensorzero::model_name::{MODEL}",
                environ={"RUST_LOG": "warn"},
                url_file=url,
            )
        )
    return found


def _install(folder: Path) -> None:
    for name, package in PACKAGES.items():
        if not (folder / name).exists():
            venv.create(folder / name, with_pip=True)
        done = subprocess.run([str(folder / name / "bin" / "pip"), "install", "--quiet", package], check=False)
        print(f"{name}: {'installed' if done.returncode == 0 else 'could not be installed'}")


if __name__ == "__main__":
    _install(Path(os.path.abspath(sys.argv[1])))
