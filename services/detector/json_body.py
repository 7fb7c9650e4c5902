"""What OpenAPI says of JSON bodies that routes read themselves."""

from typing import Any

from pydantic import BaseModel


def body_of(schema: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `schema` describes, as `openapi_extra` of its route."""
    content = {"application/json": {"schema": _inlined(schema.model_json_schema())}}
    return {"requestBody": {"required": required, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema with its own definitions in place of the references to them."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return resolve(definitions[part["$ref"].removeprefix("#/$defs/")])
        return {name: resolve(value) for name, value in part.items() if name != "$defs"}

    resolved: dict[str, Any] = resolve(schema)
    return resolved
