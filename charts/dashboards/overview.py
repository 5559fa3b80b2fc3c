"""The first page: is anything wrong, and how much of the objectives is left."""

import math

from charts.dashboards.panels import Dashboard, Link, Panel, Query, Row
from charts.dashboards.queries import CALLERS, OURS, SERVICE, quantile, rate, total, variables

DURATION = "http_server_request_duration_seconds"
FIRING = 'alertname=~"Pinhole.+", alertstate="firing", namespace=~"$namespace"'
BUSY = rate("inference_device_busy_seconds_total", "service, pod, device", SERVICE)
BURN_RATES = {1.0: "yellow", 6.0: "orange", 14.4: "red"}
LEFT = {-math.inf: "red", 0.0: "orange", 0.25: "yellow", 0.5: "green"}
TO_SERVICE = Link("Requests and resources of this service", "pinhole-service")


def _budget_left(objective: str, description: str, signal: str, base: str) -> Panel:
    failed = f"sum_over_time(service:pinhole_{signal}:rate5m{{{SERVICE}}}[$__range])"
    asked = f"sum_over_time(service:pinhole_{base}:rate5m{{{SERVICE}}}[$__range])"
    left = f"1 - {failed} / {asked} / on (job) group_left () (1 - pinhole:{objective}:objective)"
    return Panel(
        f"{objective.capitalize()}: budget left",
        description,
        "percentunit",
        [Query(left, "{{service}}")],
        kind="stat",
        width=6,
        minimum=None,
        maximum=1,
        thresholds=LEFT,
        link=TO_SERVICE,
    )


def _burn_rate(objective: str, description: str, signal: str) -> Panel:
    failed = f"service:pinhole_{signal}:ratio1h{{{SERVICE}}}"
    return Panel(
        f"{objective.capitalize()}: burn rate",
        description,
        "none",
        [Query(f"{failed} / on (job) group_left () (1 - pinhole:{objective}:objective)", "{{service}}")],
        width=6,
        thresholds=BURN_RATES,
        link=TO_SERVICE,
    )


NOW = Row(
    "Now",
    [
        Panel(
            "Alerts",
            "Alerts of Pinhole that fire. Each has a runbook: its name leads to docs/runbooks.",
            "none",
            [Query(total("ALERTS", "alertname, severity, namespace, service", FIRING))],
            kind="table",
            width=12,
            columns={"severity": "Severity", "alertname": "Alert", "namespace": "Namespace", "service": "Service"},
        ),
        Panel(
            "Pods that answer",
            "Pods of each service that Prometheus reaches.",
            "none",
            [Query(total("up", "namespace, service", f"{OURS}, {SERVICE}"), "{{service}}")],
            kind="stat",
            width=4,
            thresholds={0.0: "red", 1.0: "green"},
            link=TO_SERVICE,
        ),
        Panel(
            "Requests",
            "Requests of callers a second; probes and polls between services are not among them.",
            "reqps",
            [Query(f"service:pinhole_requests:rate5m{{{SERVICE}}}", "{{service}}")],
            kind="stat",
            width=4,
            link=TO_SERVICE,
        ),
        Panel(
            "Failed",
            "The part of the requests that the service did not answer (5xx), over five minutes.",
            "percentunit",
            [Query(f"service:pinhole_errors:ratio5m{{{SERVICE}}}", "{{service}}")],
            kind="stat",
            width=4,
            thresholds={0.001: "yellow", 0.0144: "red"},
            link=TO_SERVICE,
        ),
    ],
)

OBJECTIVES = Row(
    "Objectives",
    [
        _budget_left(
            "availability",
            "How much of the failures that the objective allows within the chosen time range is left; negative where "
            "there were more. The objective is for 30 days: choose them to see where the month stands.",
            "errors",
            "requests",
        ),
        _burn_rate(
            "availability",
            "How many times faster than allowed the budget was used over the last hour. At 1 it lasts exactly 30 days; "
            "14.4 for an hour wakes somebody.",
            "errors",
        ),
        _budget_left(
            "latency",
            "The same for slow requests: over 0.5 s in auth and users, over 1 s in inference.",
            "slow_requests",
            "timed_requests",
        ),
        _burn_rate(
            "latency",
            "How many times faster than allowed slow requests used their budget over the last hour.",
            "slow_requests",
        ),
    ],
)

TRAFFIC = Row(
    "What callers see",
    [
        Panel(
            "Requests",
            "Requests of callers a second.",
            "reqps",
            [Query(f"service:pinhole_requests:rate5m{{{SERVICE}}}", "{{service}}")],
            link=TO_SERVICE,
        ),
        Panel(
            "Failed requests",
            "The part of the requests that the service did not answer: 5xx, also for want of room or time.",
            "percentunit",
            [Query(f"service:pinhole_errors:ratio5m{{{SERVICE}}}", "{{service}}")],
            link=TO_SERVICE,
        ),
        Panel(
            "Time to answer, 99th percentile",
            "One request in a hundred takes longer. The dots are single requests, and lead to their traces.",
            "s",
            [
                Query(
                    quantile(0.99, DURATION, "namespace, service", f"{SERVICE}, {CALLERS}"),
                    "{{service}}",
                    exemplars=True,
                )
            ],
            link=TO_SERVICE,
        ),
    ],
)

WORK = Row(
    "What they do",
    [
        Panel(
            "Predictions",
            "Pictures that were answered a second, by model.",
            "reqps",
            [
                Query(
                    rate("inference_requests_total", "model", f'{SERVICE}, outcome="ok"'),
                    "{{model}}",
                )
            ],
        ),
        Panel(
            "Devices in use",
            "The part of the time that CPUs and GPUs compute, on average over the pods.",
            "percentunit",
            [
                Query(
                    f"avg by (service, device) ({BUSY})",
                    "{{service}} {{device}}",
                )
            ],
            maximum=1,
        ),
        Panel(
            "Sign-ins",
            "Sign-ins with a password a second, by what came of them. Unavailable and error are our fault.",
            "reqps",
            [Query(rate("auth_logins_total", "outcome", SERVICE), "{{outcome}}")],
            is_stacked=True,
            colors={"ok": "green", "refused": "blue", "locked": "yellow", "unavailable": "orange", "error": "red"},
        ),
    ],
)

OVERVIEW = Dashboard(
    uid="pinhole-overview",
    title="Pinhole: overview and objectives",
    description="Whether anything is wrong, and how much of the service level objectives is left (docs/alerts.md).",
    variables=variables(pods=False),
    rows=[NOW, OBJECTIVES, TRAFFIC, WORK],
    since="now-24h",
)
