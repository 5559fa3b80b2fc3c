"""One service: its requests by rate, errors and duration, and its resources by use, saturation and errors."""

from charts.dashboards.panels import Dashboard, Panel, Query, Row
from charts.dashboards.queries import CALLERS, CONTAINER, OURS, POD, increase, quantile, rate, total, variables

DURATION = "http_server_request_duration_seconds"
REQUESTS = f"{DURATION}_count"
ASKED = f"{POD}, {CALLERS}"
FAILED = f'{ASKED}, http_response_status_code=~"5.."'
LIMITS = {f"limit of {container}": "red" for container in ("auth", "users", "inference")}

RED = Row(
    "Requests",
    [
        Panel(
            "Rate by route",
            "Requests a second. Probes, scrapes and polls between services are left out.",
            "reqps",
            [
                Query(
                    rate(REQUESTS, "service, http_request_method, http_route", ASKED),
                    "{{service}} {{http_request_method}} {{http_route}}",
                )
            ],
        ),
        Panel(
            "Answers by status",
            "499 is a caller that left before there was an answer.",
            "reqps",
            [
                Query(
                    rate(REQUESTS, "http_response_status_code", ASKED),
                    "{{http_response_status_code}}",
                )
            ],
            is_stacked=True,
            colors={"200": "green", "429": "yellow", "500": "red", "503": "orange", "504": "dark-orange"},
        ),
        Panel(
            "Errors by route",
            "The part of each route's requests that was answered with 5xx.",
            "percentunit",
            [
                Query(
                    f"{rate(REQUESTS, 'service, http_route', FAILED)} / on (service, http_route) "
                    f"{rate(REQUESTS, 'service, http_route', ASKED)}",
                    "{{service}} {{http_route}}",
                )
            ],
        ),
        Panel(
            "Duration",
            "Time from the first byte of a request to the last byte of its answer. The dots are single requests, and "
            "lead to their traces.",
            "s",
            [
                Query(quantile(0.5, DURATION, selector=ASKED), "median"),
                Query(quantile(0.9, DURATION, selector=ASKED), "90th percentile"),
                Query(quantile(0.99, DURATION, selector=ASKED), "99th percentile", exemplars=True),
            ],
        ),
        Panel(
            "Duration by route, 99th percentile",
            "One request in a hundred takes longer.",
            "s",
            [
                Query(
                    quantile(0.99, DURATION, "service, http_route", ASKED), "{{service}} {{http_route}}", exemplars=True
                )
            ],
        ),
        Panel(
            "Durations",
            "How many requests took how long: darker is more.",
            "s",
            [Query(increase(f"{DURATION}_bucket", "le", ASKED), "{{le}}", exemplars=True)],
            kind="heatmap",
            minimum=None,
        ),
    ],
)

PODS = Row(
    "Pods: use, saturation, errors",
    [
        Panel(
            "CPU",
            "Cores that the containers use, and the limit of one pod: there it is throttled.",
            "none",
            [
                Query(
                    rate("container_cpu_usage_seconds_total", "pod", CONTAINER),
                    "{{pod}}",
                ),
                Query(
                    f'max by (container) (kube_pod_container_resource_limits{{{CONTAINER}, resource="cpu"}})',
                    "limit of {{container}}",
                ),
            ],
            colors=LIMITS,
        ),
        Panel(
            "CPU: throttled",
            "The part of the scheduler's periods in which a container had to wait. Over a quarter, answers are slow.",
            "percentunit",
            [
                Query(
                    f"{rate('container_cpu_cfs_throttled_periods_total', 'pod', CONTAINER)} / on (pod) "
                    f"{rate('container_cpu_cfs_periods_total', 'pod', CONTAINER)}",
                    "{{pod}}",
                )
            ],
            maximum=1,
            thresholds={0.25: "red"},
        ),
        Panel(
            "Memory",
            "Memory of the containers that cannot be taken back, and the limit of one pod: beyond it is the end.",
            "bytes",
            [
                Query(total("container_memory_working_set_bytes", "pod", CONTAINER), "{{pod}}"),
                Query(
                    f'max by (container) (kube_pod_container_resource_limits{{{CONTAINER}, resource="memory"}})',
                    "limit of {{container}}",
                ),
            ],
            colors=LIMITS,
        ),
        Panel(
            "Requests being answered",
            "At this moment, by pod: even where the load is spread well.",
            "none",
            [Query(total("http_server_active_requests", "pod"), "{{pod}}")],
        ),
        Panel(
            "Pods that answer, and restarts",
            "Pods that Prometheus reaches, and containers that were started again within the interval.",
            "none",
            [
                Query(total("up", "service", f"{OURS}, {POD}"), "{{service}} up"),
                Query(
                    increase("kube_pod_container_status_restarts_total", "container", CONTAINER),
                    "{{container}} restarts",
                ),
            ],
        ),
        Panel(
            "Open files and sockets",
            "The part of the file descriptors that a process may open. Not shown with several workers a pod.",
            "percentunit",
            [Query(f"max by (pod) (process_open_fds{{{POD}}} / process_max_fds{{{POD}}})", "{{pod}}")],
        ),
    ],
)

DEPENDENCIES = Row(
    "What it depends on",
    [
        Panel(
            "Database connections",
            "Connections in use, and how many all pods of a service may open together.",
            "none",
            [
                Query(total("db_client_connection_count", "service", f'{POD}, state="used"'), "{{service}} in use"),
                Query(total("db_client_connection_count", "service"), "{{service}} open"),
                Query(total("db_client_connection_max", "service"), "{{service}} most"),
            ],
        ),
        Panel(
            "Requests that got no connection",
            "Requests a second that waited for a database connection in vain, and were answered with 503.",
            "reqps",
            [
                Query(
                    rate("db_client_connection_timeouts_total", "service"),
                    "{{service}}",
                )
            ],
        ),
        Panel(
            "Access tokens",
            "Tokens that were looked at a second, by what was found. Unavailable: the keys or the database are away.",
            "ops",
            [Query(rate("token_verifications_total", "outcome"), "{{outcome}}")],
            is_stacked=True,
            colors={"ok": "green", "expired": "blue", "revoked": "purple", "invalid": "yellow", "unavailable": "red"},
        ),
        Panel(
            "Age of the keys of auth",
            "Time since they were fetched, once a minute; of the pod that is furthest behind.",
            "s",
            [Query(f"max by (service) (time() - (jwks_fetched_timestamp_seconds{{{POD}}} > 0))", "{{service}}")],
            thresholds={600.0: "red"},
        ),
        Panel(
            "Age of what is known of ended sessions",
            "Time since the list was read, twice a second: a sign-out goes unnoticed for so long.",
            "s",
            [Query(f"max by (service) (time() - (revocations_read_timestamp_seconds{{{POD}}} > 0))", "{{service}}")],
            thresholds={30.0: "red"},
        ),
        Panel(
            "Spans",
            "Spans a second: exported to the collector, failed on the way, or dropped where the queue was full.",
            "ops",
            [
                Query(
                    rate("telemetry_spans_total", "service, outcome"),
                    "{{service}} {{outcome}}",
                )
            ],
        ),
    ],
)

SERVICE_DASHBOARD = Dashboard(
    uid="pinhole-service",
    title="Pinhole: requests and resources",
    description="One service or several: rate, errors and duration of requests; use, saturation and errors of pods.",
    variables=variables(),
    rows=[RED, PODS, DEPENDENCIES],
)
