"""What a service answers at `/metrics`, read by the parser of prometheus_client."""

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


class Exposition:
    """The metrics of one answer in the text format; each by the name in its `# TYPE` line."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {
            # The parser takes the suffix off, which the text format has.
            f"{family.name}_total" if family.type == "counter" else family.name: family
            for family in text_string_to_metric_families(text)
        }
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one series; 0 for one that is not there."""
        return self._values.get((name, frozenset(labels.items())), 0.0)


async def exposed(client: httpx.AsyncClient) -> Exposition:
    """Ask a service for its metrics."""
    response = await client.get("/metrics", headers={"Accept": "text/plain"})
    assert response.status_code == 200
    return Exposition(response.text)
