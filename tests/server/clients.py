"""Unmodified clients of each vendor, asked the same things."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

# Any in this module: clients and their own types.

TOOL = {
    "name": "weather",
    "description": "Weather of a city.",
    "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Said(NamedTuple):
    """An answer, read back through a vendor's client."""

    text: str
    calls: list[tuple[str, str, dict]]
    """(id, name, arguments)."""
    reason: str
    """Canonical."""
    usage: tuple[int, int]
    extension: dict | None


class OpenAIChat:
    name = "openai.chat"

    def __init__(self, url: str, key: str) -> None:
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self.error = openai.APIStatusError

    def close(self) -> None:
        self.client.close()

    def ask(self, model: str, text: str, *, stream=False, tools=False, schema=None, image=False) -> Said:
        content: Any = text
        if image:
            url = {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]
        more: dict[str, Any] = {}
        if tools:
            function = {"name": TOOL["name"], "description": TOOL["description"], "parameters": TOOL["schema"]}
            more["tools"] = [{"type": "function", "function": function}]
        if schema:
            more["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": True},
            }
        arguments = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 100, **more}
        if not stream:
            answer = self.client.chat.completions.create(**arguments)
        else:
            with self.client.chat.completions.stream(**arguments, stream_options={"include_usage": True}) as events:
                answer = events.get_final_completion()
        strict(answer)
        choice = answer.choices[0]
        calls = [(c.id, c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or []]
        usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        extension = (answer.model_extra or {}).get("interlock")
        return Said(choice.message.content or "", calls, choice.finish_reason, usage, extension)


class OpenAIResponses:
    name = "openai.responses"

    def __init__(self, url: str, key: str) -> None:
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        self.error = openai.APIStatusError

    def close(self) -> None:
        self.client.close()

    def ask(self, model: str, text: str, *, stream=False, tools=False, schema=None, image=False) -> Said:
        given: Any = text
        if image:
            picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"}
            given = [{"role": "user", "content": [{"type": "input_text", "text": text}, picture]}]
        more: dict[str, Any] = {}
        if tools:
            function = {"name": TOOL["name"], "description": TOOL["description"], "parameters": TOOL["schema"]}
            more["tools"] = [{"type": "function", "strict": False, **function}]
        if schema:
            more["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
        arguments = {"model": model, "input": given, "max_output_tokens": 100, **more}
        if not stream:
            answer = self.client.responses.create(**arguments)
        else:
            with self.client.responses.stream(**arguments) as events:
                numbers = [event.sequence_number for event in events]
                assert numbers == list(range(len(numbers)))
                answer = events.get_final_response()
        strict(answer)
        calls = [
            (item.call_id, item.name, json.loads(item.arguments))
            for item in answer.output
            if item.type == "function_call"
        ]
        reason = "length" if answer.status == "incomplete" else "tool_calls" if calls else "stop"
        usage = (answer.usage.input_tokens, answer.usage.output_tokens)
        return Said(answer.output_text, calls, reason, usage, (answer.model_extra or {}).get("interlock"))


class Anthropic:
    name = "anthropic.messages"

    def __init__(self, url: str, key: str) -> None:
        import anthropic

        self.client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
        self.error = anthropic.APIStatusError

    def close(self) -> None:
        self.client.close()

    def ask(self, model: str, text: str, *, stream=False, tools=False, schema=None, image=False) -> Said:
        content: Any = text
        if image:
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            content = [{"type": "text", "text": text}, {"type": "image", "source": source}]
        more: dict[str, Any] = {}
        if tools:
            more["tools"] = [{"name": TOOL["name"], "description": TOOL["description"], "input_schema": TOOL["schema"]}]
        if schema:
            more["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        arguments = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}
        if not stream:
            answer = self.client.messages.create(**arguments)
        else:
            with self.client.messages.stream(**arguments) as events:
                answer = events.get_final_message()
        strict(answer)
        text = "".join(block.text for block in answer.content if block.type == "text")
        calls = [(block.id, block.name, dict(block.input)) for block in answer.content if block.type == "tool_use"]
        reason = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}[answer.stop_reason]
        used = answer.usage
        inputs = used.input_tokens + (used.cache_read_input_tokens or 0) + (used.cache_creation_input_tokens or 0)
        extension = (answer.model_extra or {}).get("interlock")
        return Said(text, calls, reason, (inputs, used.output_tokens), extension)


class Google:
    name = "google.generate"

    def __init__(self, url: str, key: str) -> None:
        from google import genai
        from google.genai import errors, types

        self.types = types
        options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=1))
        self.client = genai.Client(api_key=key, http_options=options)
        self.error = errors.APIError

    def close(self) -> None:
        self.client.close()

    def ask(self, model: str, text: str, *, stream=False, tools=False, schema=None, image=False) -> Said:
        import base64

        contents: Any = text
        if image:
            data = base64.b64decode(PIXEL)
            contents = [text, self.types.Part.from_bytes(data=data, mime_type="image/png")]
        more: dict[str, Any] = {"max_output_tokens": 100}
        if tools:
            function = {
                "name": TOOL["name"],
                "description": TOOL["description"],
                "parameters": {
                    "type": "OBJECT",
                    "properties": {"city": {"type": "STRING"}},
                    "required": ["city"],
                },
            }
            more["tools"] = [{"function_declarations": [function]}]
        if schema:
            more |= {"response_mime_type": "application/json", "response_json_schema": schema}
        config = self.types.GenerateContentConfig(**more)
        if not stream:
            chunks = [self.client.models.generate_content(model=model, contents=contents, config=config)]
        else:
            chunks = list(self.client.models.generate_content_stream(model=model, contents=contents, config=config))
        parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]
        text = "".join(part.text for part in parts if part.text and not part.thought)
        calls = [
            (part.function_call.id, part.function_call.name, part.function_call.args)
            for part in parts
            if part.function_call
        ]
        last = chunks[-1]
        stop = last.candidates[0].finish_reason.value
        reason = "tool_calls" if calls else {"STOP": "stop", "MAX_TOKENS": "length"}[stop]
        used = last.usage_metadata
        usage = (used.prompt_token_count, (used.candidates_token_count or 0) + (used.thoughts_token_count or 0))
        return Said(text, calls, reason, usage, None)


CLIENTS = (OpenAIChat, OpenAIResponses, Anthropic, Google)


# Any: a pydantic model of a vendor's client.
def strict(answer: Any) -> None:
    """The client builds its types without checking them; this checks every field of a known name."""
    type(answer).model_validate(answer.model_dump(mode="python", by_alias=True, exclude_unset=True, warnings=False))
