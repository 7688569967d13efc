"""The model's name in a body that is otherwise passed on as it is."""

from __future__ import annotations

import json
import re

from interlock.core.errors import InvalidInput

__all__ = ["with_model"]

_BOUNDARY = re.compile(r'boundary="?([^";,]{1,70})"?', re.IGNORECASE)
_IS_MODEL = re.compile(rb'content-disposition:[^\r\n]*;\s*name="?model"?(?=[;\r\n]|$)', re.IGNORECASE)


def with_model(content_type: str, body: bytes, model: str) -> bytes:
    """The same JSON or multipart body, asking for `model`.

    Raises: InvalidInput: neither, or a form that cannot be read.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("the body is no JSON") from error
        if not isinstance(found, dict):
            raise InvalidInput("the body is no JSON object")
        return json.dumps({**found, "model": model}, ensure_ascii=False).encode()
    boundary = _BOUNDARY.search(content_type)
    if kind != "multipart/form-data" or boundary is None:
        raise InvalidInput("the body is neither JSON nor a multipart form", param="content-type")
    return _with_field(body, b"--" + boundary[1].strip().encode("latin-1"), model)


def _with_field(body: bytes, mark: bytes, model: str) -> bytes:
    head, *parts = (b"\r\n" + body).split(b"\r\n" + mark)
    if not parts or not parts[-1].startswith(b"--"):
        raise InvalidInput("the multipart form has no end")
    *fields, end = parts
    field = b'\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + model.encode()
    kept = [part for part in fields if not _IS_MODEL.search(part.partition(b"\r\n\r\n")[0])]
    return (head + b"".join(b"\r\n" + mark + part for part in [field, *kept, end])).removeprefix(b"\r\n")
