"""What viewers choose by, and the queries that keep to their choice."""

from charts.dashboards.panels import Variable

OURS = 'job=~"auth|users|inference", release!=""'
"""The targets of Pinhole, as its ServiceMonitors label them."""

SERVICE = 'namespace=~"$namespace", service=~"$service"'
POD = f'{SERVICE}, pod=~"$pod"'
CONTAINER = 'namespace=~"$namespace", pod=~"$pod", container=~"auth|users|inference"'
"""The same of what Kubernetes measures, which knows of no Service."""

CALLERS = (
    'http_route!~"/livez|/readyz|/metrics|/internal/events|/internal/revocations'
    '|/v2/health/.*|/v2/models/.+/ready|unmatched"'
)
"""Requests that somebody waits for, as the rules count them."""

CALLS = 'rpc_method!~"Server.*|ModelReady|_OTHER"'
"""The same over gRPC."""


def variables(jobs: str = "auth|users|inference", *, pods: bool = True) -> list[Variable]:
    """Return namespace, release, service and pod, each within what was chosen before it."""
    targets = f'job=~"{jobs}", release!=""'
    found = [
        Variable("namespace", "Namespace", f"label_values(up{{{targets}}}, namespace)"),
        Variable("release", "Release", f'label_values(up{{{targets}, namespace=~"$namespace"}}, release)'),
        Variable(
            "service",
            "Service",
            f'label_values(up{{{targets}, namespace=~"$namespace", release=~"$release"}}, service)',
        ),
    ]
    if pods:
        found.append(Variable("pod", "Pod", f"label_values(up{{{targets}, {SERVICE}}}, pod)"))
    return found


def total(metric: str, by: str, selector: str = POD) -> str:
    """Return the sum of a gauge."""
    return f"sum by ({by}) ({metric}{{{selector}}})"


def rate(metric: str, by: str, selector: str = POD) -> str:
    """Return how fast a counter grows, a second."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def increase(metric: str, by: str, selector: str = POD) -> str:
    """Return by how much a counter grows within the interval that one point of a graph stands for."""
    return f"sum by ({by}) (increase({metric}{{{selector}}}[$__rate_interval]))"


def mean(histogram: str, by: str, selector: str = POD) -> str:
    """Return the mean of what a histogram has seen."""
    return f"{rate(f'{histogram}_sum', by, selector)} / on ({by}) {rate(f'{histogram}_count', by, selector)}"


def quantile(part: float, histogram: str, by: str = "", selector: str = POD) -> str:
    """Return the value that `part` of what a histogram has seen does not exceed."""
    return f"histogram_quantile({part}, {rate(f'{histogram}_bucket', f'{by}, le' if by else 'le', selector)})"
