"""A provider with a batch API, over real HTTP: OpenAI's files and batches, and its chat completions.

It lives in a thread of the test, so it outlasts the workers that are killed.
"""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def usage(prompt=10, completion=5):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def completion(text, model="gpt-test", used=None):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": usage() if used is None else used,
    }


def said(body):
    """The last user text of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def answered(row, text=None, **changes):
    """A row of the output file for a row of the input file."""
    body = completion(f"Echo: {said(row['body'])}" if text is None else text)
    response = {"status_code": 200, "request_id": "r", "body": {**body, **changes}}
    return {"id": "x", "custom_id": row["custom_id"], "response": response, "error": None}


def undone(row, code="batch_expired"):
    error = {"code": code, "message": "not processed"}
    return {"id": "x", "custom_id": row["custom_id"], "response": None, "error": error}


class Provider:
    """What it holds, what it was asked, and how it is to behave."""

    def __init__(self):
        self.lock = threading.RLock()
        self.files = {}
        self.batches = {}
        self.calls = []
        """Bodies of ordinary calls."""
        self.requests = []
        """`METHOD path` of everything."""
        self.failures = {}
        """`METHOD /path` to a list of (status, headers, body) that come first."""
        self.gates = {}
        """`METHOD /path` to an event: what was asked is done, and the answer waits for it."""
        self.reached = threading.Event()
        """A gate is being waited at."""
        self.automatic = True
        """Batches are done when they are first looked at."""
        self.work = lambda rows: ([answered(row) for row in rows], [])
        """Rows of the input -> rows of the output and of the error file."""
        self.url = ""
        self.keys = []

    def new_file(self, name, data, purpose="batch_output"):
        identity = f"file-{len(self.files) + 1}-{len(self.requests)}"
        self.files[identity] = {"id": identity, "filename": name, "purpose": purpose, "data": data}
        return identity

    def rows(self, batch):
        data = self.files[batch["input_file_id"]]["data"]
        return [json.loads(line) for line in data.splitlines() if line.strip()]

    def finish(self, batch, status="completed", *, work=None):
        output, errors = (work or self.work)(self.rows(batch))
        for name, rows in (("output_file_id", output), ("error_file_id", errors)):
            if rows:
                lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
                batch[name] = self.new_file(f"{name}.jsonl", ("\n".join(lines) + "\n").encode())
        batch["status"] = status

    def only(self):
        (batch,) = self.batches.values()
        return batch

    def handle(self, method, path, query, headers, body):
        with self.lock:
            self.keys.append(headers.get("authorization"))
            name = method + " " + re.sub(r"/(file|batch|msgbatch)[-_][^/]+", "/{id}", path)
            self.requests.append(name)
            planned = self.failures.get(name)
            if planned:
                return planned.pop(0)
        answer = self.route(method, path, query, headers, body)
        gate = self.gates.get(name)
        if gate is not None:
            self.reached.set()
            gate.wait(60)
        return answer

    def route(self, method, path, query, headers, body):
        with self.lock:
            if path == "/v1/chat/completions":
                return self.chat(json.loads(body))
            if path == "/v1/files" and method == "POST":
                return self.upload(headers, body)
            if path == "/v1/files":
                rows = [{"id": f["id"], "filename": f["filename"]} for f in self.files.values()]
                return 200, {}, {"object": "list", "data": rows, "has_more": False}
            if path == "/v1/batches" and method == "POST":
                return self.create(json.loads(body))
            if path == "/v1/batches":
                return 200, {}, {"object": "list", "data": list(self.batches.values()), "has_more": False}
            kind, identity, *rest = path.removeprefix("/v1/").split("/")
            if kind == "files" and identity in self.files:
                if method == "DELETE":
                    del self.files[identity]
                    return 200, {}, {"id": identity, "deleted": True}
                if rest == ["content"]:
                    return 200, {}, self.files[identity]["data"]
            if kind == "batches" and identity in self.batches:
                batch = self.batches[identity]
                if rest == ["cancel"] and batch["status"] != "in_progress":
                    return 409, {}, {"error": {"message": "it has ended", "code": "conflict"}}
                if rest == ["cancel"]:
                    batch["status"] = "cancelling"
                elif self.automatic and batch["status"] == "in_progress":
                    self.finish(batch)
                return 200, {}, batch
            return 404, {}, {"error": {"message": "no such thing", "code": "not_found"}}

    def chat(self, body):
        self.calls.append(body)
        answer = completion(f"Ordinary: {said(body)}", body["model"])
        if not body.get("stream"):
            return 200, {}, answer
        choice = {"index": 0, "delta": {"content": answer["choices"][0]["message"]["content"]}, "finish_reason": "stop"}
        chunk = {**answer, "object": "chat.completion.chunk", "choices": [choice]}
        return 200, {"content-type": "text/event-stream"}, f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()

    def upload(self, headers, body):
        edge = re.search(r"boundary=(\S+)", headers["content-type"]).group(1).encode()
        for part in body.split(b"--" + edge)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            if b"filename=" in head:
                name = re.search(rb'filename="([^"]+)"', head).group(1).decode()
                identity = self.new_file(name, content.removesuffix(b"\r\n"), "batch")
                return 200, {}, {"id": identity, "object": "file", "filename": name, "purpose": "batch"}
        return 400, {}, {"error": {"message": "no file", "code": "invalid"}}

    def create(self, body):
        if body["input_file_id"] not in self.files:
            return 400, {}, {"error": {"message": "no file", "code": "invalid_file"}}
        identity = f"batch_{len(self.batches) + 1}"
        self.batches[identity] = {
            "id": identity,
            "object": "batch",
            "status": "in_progress",
            "created_at": int(time.time()),
            "input_file_id": body["input_file_id"],
            "endpoint": body["endpoint"],
            "completion_window": body["completion_window"],
            "metadata": body.get("metadata"),
            "output_file_id": None,
            "error_file_id": None,
        }
        return 200, {}, dict(self.batches[identity])


@contextmanager
def running(provider=None):
    """A provider at an address of its own."""
    provider = provider or Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self):
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            path, _, query = self.path.partition("?")
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, extra, answer = provider.handle(self.command, path, query, headers, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            try:
                self.send_response(status)
                for name, value in {"content-type": "application/json", **extra}.items():
                    self.send_header(name, str(value))
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 (named by http.server)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        for gate in provider.gates.values():
            gate.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Mistral(Provider):
    """Mistral's jobs over the same files."""

    def route(self, method, path, query, headers, body):
        with self.lock:
            if path == "/v1/batch/jobs" and method == "POST":
                asked = json.loads(body)
                files = {"input_file_id": asked["input_files"][0], "endpoint": asked["endpoint"]}
                self.create({**files, "completion_window": "24h", "metadata": asked["metadata"]})
                self.only()["model"] = asked["model"]
                return 200, {}, self.job(self.only())
            if path == "/v1/batch/jobs":
                return 200, {}, {"object": "list", "data": [self.job(each) for each in self.batches.values()]}
            if path.startswith("/v1/batch/jobs/"):
                status, extra, batch = super().route(
                    method, path.replace("/batch/jobs/", "/batches/"), query, headers, body
                )
                return status, extra, self.job(batch)
            return super().route(method, path, query, headers, body)

    def job(self, batch):
        states = {"in_progress": "RUNNING", "completed": "SUCCESS", "cancelling": "CANCELLATION_REQUESTED"}
        return {
            "id": batch["id"],
            "object": "batch",
            "status": states.get(batch["status"], batch["status"].upper()),
            "input_files": [batch["input_file_id"]],
            "metadata": batch["metadata"],
            "output_file": batch["output_file_id"],
            "error_file": batch["error_file_id"],
        }


def message(text, **changes):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
        **changes,
    }


class Anthropic(Provider):
    """Message batches: no files, no labels."""

    def __init__(self):
        super().__init__()
        self.work = lambda rows: [
            {
                "custom_id": row["custom_id"],
                "result": {"type": "succeeded", "message": message(f"Echo: {said(row['params'])}")},
            }
            for row in rows
        ]

    def route(self, method, path, query, headers, body):
        with self.lock:
            if path == "/v1/messages":
                self.calls.append(json.loads(body))
                events = [
                    {"type": "message_start", "message": {**message(""), "content": []}},
                    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Ordinary"}},
                    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
                    {"type": "message_stop"},
                ]
                stream = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)
                return 200, {"content-type": "text/event-stream"}, stream.encode()
            if path == "/v1/messages/batches" and method == "POST":
                identity = f"msgbatch_{len(self.batches) + 1}"
                self.batches[identity] = {"id": identity, "status": "in_progress", "rows": json.loads(body)["requests"]}
                self.batches[identity]["at"] = time.time()
                return 200, {}, self.shown(self.batches[identity])
            if path == "/v1/messages/batches":
                rows = [self.shown(each) for each in reversed(self.batches.values())]
                return 200, {}, {"data": rows, "has_more": False}
            identity, *rest = path.removeprefix("/v1/messages/batches/").split("/")
            batch = self.batches.get(identity)
            if batch is None:
                return 404, {}, {"type": "error", "error": {"type": "not_found_error", "message": "no"}}
            if method == "DELETE":
                del self.batches[identity]
                return 200, {}, {"id": identity, "type": "message_batch_deleted"}
            if rest == ["results"]:
                return 200, {}, "".join(json.dumps(row) + "\n" for row in batch["results"]).encode()
            if rest == ["cancel"] and batch["status"] != "in_progress":
                return 400, {}, {"type": "error", "error": {"type": "invalid_request_error", "message": "ended"}}
            if rest == ["cancel"]:
                batch["status"] = "canceling"
            elif self.automatic and batch["status"] == "in_progress":
                self.finish(batch)
            return 200, {}, self.shown(batch)

    def finish(self, batch, status="ended", *, work=None):
        batch["results"] = (work or self.work)(batch["rows"])
        batch["status"] = status

    def shown(self, batch):
        at = datetime.fromtimestamp(batch["at"], UTC).isoformat().replace("+00:00", "Z")
        counts = {"processing": len(batch["rows"]), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        return {
            "id": batch["id"],
            "type": "message_batch",
            "processing_status": batch["status"],
            "request_counts": counts,
            "created_at": at,
        }


class Google(Provider):
    """The Gemini API's batches, requests and answers inside them."""

    keyed = True
    """Answers repeat the keys of their requests."""

    def route(self, method, path, query, headers, body):
        with self.lock:
            path = path.removeprefix("/v1")
            if path.endswith(":batchGenerateContent"):
                asked = json.loads(body)["batch"]
                name = f"batches/batch-{len(self.batches) + 1}"
                rows = asked["inputConfig"]["requests"]["requests"]
                batch = {"name": name, "status": "in_progress", "rows": rows, "key": asked["displayName"], "out": []}
                self.batches[name] = batch
                return 200, {}, self.shown(batch)
            if path == "/batches":
                return 200, {}, {"operations": [self.shown(each) for each in self.batches.values()]}
            name = path.removeprefix("/").removesuffix(":cancel")
            batch = self.batches.get(name)
            if batch is None:
                return 404, {}, {"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}
            if method == "DELETE":
                del self.batches[name]
                return 200, {}, {}
            if path.endswith(":cancel"):
                batch["status"] = "cancelling"
            elif self.automatic and batch["status"] == "in_progress":
                self.finish(batch)
            return 200, {}, self.shown(batch)

    def finish(self, batch, status="completed", *, work=None):
        batch["out"] = (work or self.answers)(batch["rows"])
        batch["status"] = status

    def answers(self, rows):
        return [
            {
                **({"metadata": row["metadata"]} if self.keyed else {}),
                "response": {
                    "candidates": [
                        {
                            "content": {"role": "model", "parts": [{"text": f"Echo: {self.text(row)}"}]},
                            "finishReason": "STOP",
                        }
                    ],
                    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
                    "modelVersion": "gemini-test",
                },
            }
            for row in rows
        ]

    def text(self, row):
        return row["request"]["contents"][-1]["parts"][0]["text"]

    def shown(self, batch):
        state = {"in_progress": "RUNNING", "completed": "SUCCEEDED", "cancelled": "CANCELLED"}.get(
            batch["status"], "RUNNING"
        )
        shown = {"name": batch["name"], "metadata": {"state": f"BATCH_STATE_{state}", "displayName": batch["key"]}}
        if batch["out"]:
            shown |= {"done": True, "response": {"inlinedResponses": {"inlinedResponses": batch["out"]}}}
        return shown
