"""Whether the links of an OpenAPI document lead anywhere."""

import re
from typing import Any

METHODS = {"get", "put", "post", "patch", "delete"}


def assert_links_lead_somewhere(document: dict[str, Any]) -> int:
    """Check that each link names an operation and its path parameters. Return how many there are."""
    links = [
        link
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in METHODS
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    for link in links:
        _, _, pointer, method = link["operationRef"].split("/")
        path = pointer.replace("~1", "/").replace("~0", "~")
        operation = document["paths"][path][method]
        assert set(link.get("parameters", {})) == set(re.findall(r"{(\w+)}", path))
        assert ("requestBody" in link) <= ("requestBody" in operation)
        for expression in link.get("parameters", {}).values():
            assert expression.startswith(("$response.body#/", "$request.path."))
    return len(links)
