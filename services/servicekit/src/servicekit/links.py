"""Links in an OpenAPI document: what an answer is good for next (OpenAPI 3.1, Link Object)."""

from collections.abc import Mapping
from typing import Any


def link(method: str, path: str, *, body: Any = None, **parameters: str) -> dict[str, Any]:
    """Describe the operation that takes `parameters` of an answer, each a runtime expression.

    `body` is a request body in which expressions stand for parts of the answer.
    """
    pointer = path.replace("~", "~0").replace("/", "~1")
    described: dict[str, Any] = {"operationRef": f"#/paths/{pointer}/{method.lower()}"}
    if parameters:
        described["parameters"] = parameters
    if body is not None:
        described["requestBody"] = body
    return described


def links_to(path: str, operations: Mapping[str, str], **parameters: str) -> dict[str, Any]:
    """Describe a link to each of `operations` of one path: names by method."""
    return {name: link(method, path, **parameters) for method, name in operations.items()}
