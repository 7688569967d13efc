"""Names the field at fault in what a caller sent, and reads the values that several wires share."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.core.errors import InvalidInput
from interlock.core.messages import FilePart, ImagePart
from interlock.core.wording import plain

__all__ = [
    "DataUrl",
    "Extension",
    "Loose",
    "data_url",
    "decode_base64",
    "field_error",
    "file_from",
    "image_at",
    "parsed",
]

_TYPE_NAME = re.compile(r"(str|int|float|bool|dict|list|set|tuple|literal|union|tagged-union|function-[a-z]+)($|\[)")
Model = TypeVar("Model", bound=BaseModel)


class Loose(BaseModel):
    """Unknown fields are let be: clients send more every month."""

    model_config = ConfigDict(extra="ignore")


class Extension(Loose):
    """The field ``interlock`` of a request: what no other API has."""

    # Any: JSON values; the prompt says what they have to be.
    variables: dict[str, Any] = Field(default_factory=dict, max_length=64)
    """Values for the variables of the app's prompt."""


def parsed(model: type[Model], body: object) -> Model:
    """`body` as a `model`. Raises: InvalidInput naming the field."""
    if not isinstance(body, dict):
        raise InvalidInput("the body must be a JSON object")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise field_error(error) from error
    except RecursionError as error:
        raise InvalidInput("the body is nested too deeply") from error


def field_error(error: ValidationError) -> InvalidInput:
    """The first thing pydantic found wrong, as `messages[3].content`; values are never repeated."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = ""
    for step in first["loc"]:
        if isinstance(step, str) and (_TYPE_NAME.match(step) or step.startswith("_")):
            # pydantic adds which member of a union it tried: no field of the caller's.
            continue
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else str(step)
    return InvalidInput(f"{name or 'the body'}: {plain(first['msg'])}", param=name or None)


class DataUrl(NamedTuple):
    """A ``data:`` address."""

    media_type: str
    data: bytes


def data_url(url: str, param: str) -> DataUrl:
    """Read ``data:TYPE;base64,…``. Raises: InvalidInput."""
    head, comma, payload = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InvalidInput("a data address must be base64", param=param)
    return DataUrl(head.removeprefix("data:").removesuffix(";base64"), decode_base64(payload, param))


def decode_base64(payload: str, param: str) -> bytes:
    """Bytes of base64 text, in the common or the URL alphabet. Raises: InvalidInput."""
    try:
        return base64.b64decode(payload.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{param} is not valid base64", param=param) from error


def image_at(url: str, param: str, detail: str | None = None) -> ImagePart:
    """An image by its http(s) or data address. Raises: InvalidInput."""
    if url.startswith("data:"):
        media_type, data = data_url(url, param)
        return ImagePart(media_type, data=data, detail=detail)
    if not url.startswith(("https://", "http://")):
        raise InvalidInput("an image is given by an http(s) or data address", param=param)
    return ImagePart("image/*", url=url, detail=detail)


def file_from(name: str, *, data: str | None, url: str | None, file_id: str | None, param: str) -> FilePart:
    """A file by its content (a data address or bare base64), its address or a provider's id. Raises: InvalidInput."""
    if file_id:
        return FilePart(name, "application/octet-stream", file_id=file_id)
    if url:
        if not url.startswith(("https://", "http://")):
            raise InvalidInput("a file's address is http(s)", param=param)
        return FilePart(name, "application/octet-stream", url=url)
    if not data:
        raise InvalidInput(f"{param} needs an id, an address or the data of a file", param=param)
    if data.startswith("data:"):
        media_type, raw = data_url(data, param)
        return FilePart(name, media_type, data=raw)
    return FilePart(name, "application/pdf", data=decode_base64(data, param))
