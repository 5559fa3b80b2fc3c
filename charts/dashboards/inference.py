"""Inference: requests by model, the stages of a request, queue and batches, devices, cache, models."""

from charts.dashboards.panels import Dashboard, Panel, Query, Row
from charts.dashboards.queries import CALLS, POD, increase, mean, quantile, rate, total, variables

OUTCOMES = {
    "ok": "green",
    "invalid": "blue",
    "rejected": "orange",
    "timeout": "purple",
    "cancelled": "yellow",
    "error": "red",
}


REQUESTS = Row(
    "Requests",
    [
        Panel(
            "Pictures by outcome",
            "Pictures a second by what came of them. Invalid: no picture. Rejected: shed. Timeout: no answer in time. "
            "Cancelled: the caller left.",
            "reqps",
            [Query(rate("inference_requests_total", "outcome"), "{{outcome}}")],
            is_stacked=True,
            colors=OUTCOMES,
        ),
        Panel(
            "Pictures by model",
            "Pictures a second that were answered.",
            "reqps",
            [
                Query(
                    rate("inference_requests_total", "model", f'{POD}, outcome="ok"'),
                    "{{model}}",
                )
            ],
        ),
        Panel(
            "Time to answer, by model",
            "From the whole body of a picture to its classes, of those that were answered. The dots are single "
            "requests, and lead to their traces.",
            "s",
            [
                Query(quantile(0.5, "inference_request_duration_seconds", "model"), "{{model}} median"),
                Query(
                    quantile(0.99, "inference_request_duration_seconds", "model"),
                    "{{model}} 99th percentile",
                    exemplars=True,
                ),
            ],
        ),
        Panel(
            "In work",
            "Pictures that are being decoded, computed or waiting for it, by pod. Replicas are added by this number.",
            "none",
            [Query(total("inference_requests_in_flight", "pod"), "{{pod}}")],
            width=12,
        ),
        Panel(
            "Turned away",
            "Requests a second that were refused before anything was computed. Rate is the caller's own limit; the "
            "others want for room or time.",
            "reqps",
            [Query(rate("inference_rejections_total", "reason"), "{{reason}}")],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Calls over gRPC",
            "Calls a second of the inference protocol, by method and status.",
            "reqps",
            [
                Query(
                    rate("rpc_server_call_duration_seconds_count", "rpc_method, rpc_response_status_code"),
                    "{{rpc_method}} {{rpc_response_status_code}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Time of calls over gRPC",
            "99th percentile to the end of a call, by method, without probes. A stream is as long as its caller likes. "
            "The dots are single calls, and lead to their traces.",
            "s",
            [
                Query(
                    quantile(0.99, "rpc_server_call_duration_seconds", "rpc_method", f"{POD}, {CALLS}"),
                    "{{rpc_method}}",
                    exemplars=True,
                )
            ],
            width=12,
        ),
    ],
)

STAGES = Row(
    "Stages of a request",
    [
        Panel(
            "Where the time goes",
            "Mean time of a picture in each stage, on top of each other: about the mean time of a request.",
            "s",
            [
                Query(
                    mean("inference_stage_duration_seconds", "stage"),
                    "{{stage}}",
                )
            ],
            width=12,
            is_stacked=True,
        ),
        Panel(
            "Time by stage, 99th percentile",
            "Queue is waiting for a thread or a device; receive is the caller's network. The dots lead to traces.",
            "s",
            [Query(quantile(0.99, "inference_stage_duration_seconds", "stage"), "{{stage}}", exemplars=True)],
            width=12,
        ),
    ],
)

QUEUE = Row(
    "Queue and batches",
    [
        Panel(
            "Queue",
            "Pictures that are admitted and in no batch yet, and how many may be; one more is shed.",
            "none",
            [
                Query(total("inference_queue_size", "service"), "{{service}} waiting"),
                Query(total("inference_queue_capacity", "service"), "{{service}} most"),
            ],
        ),
        Panel(
            "Pictures computed together",
            "Mean size of a batch. A GPU is used well by large ones.",
            "none",
            [
                Query(
                    mean("inference_batch_size", "service"),
                    "{{service}}",
                )
            ],
        ),
        Panel(
            "Sizes of batches",
            "How many batches had which size: darker is more.",
            "none",
            [Query(increase("inference_batch_size_bucket", "le"), "{{le}}")],
            kind="heatmap",
            minimum=None,
        ),
    ],
)

DEVICES = Row(
    "Devices and memory",
    [
        Panel(
            "Devices in use",
            "The part of the time that the device of each pod computes. Replicas are added by this number, too.",
            "percentunit",
            [
                Query(
                    rate("inference_device_busy_seconds_total", "pod, device"),
                    "{{pod}} {{device}}",
                )
            ],
            maximum=1,
        ),
        Panel(
            "Bodies in memory",
            "Bytes of the pictures that are held at once, by pod; there is a limit, and beyond it they are shed.",
            "bytes",
            [Query(total("inference_body_bytes", "pod"), "{{pod}}")],
        ),
        Panel(
            "Threads",
            "Threads that work at once in a process: decode is the pool for pictures, compute those in a forward pass.",
            "none",
            [Query(f"max by (service, pool) (inference_thread_budget{{{POD}}})", "{{service}} {{pool}}")],
        ),
    ],
)

CACHE = Row(
    "Cache",
    [
        Panel(
            "Answers by where they came from",
            "Hit: it was there. Miss: it was computed. Shared: it came with that of an equal request at the same time. "
            "Off: there is no cache.",
            "reqps",
            [Query(rate("inference_cache_requests_total", "outcome"), "{{outcome}}")],
            is_stacked=True,
            colors={"hit": "green", "shared": "super-light-green", "miss": "blue", "off": "text"},
        ),
        Panel(
            "Bytes in memory",
            "What each pod keeps in its own memory; with Redis nothing.",
            "bytes",
            [Query(total("inference_cache_bytes", "pod"), "{{pod}}")],
        ),
        Panel(
            "Failures of Redis",
            "Times within the interval that the shared cache did not answer. Then pictures are computed.",
            "none",
            [
                Query(
                    increase("inference_cache_failures_total", "service"),
                    "{{service}}",
                )
            ],
        ),
    ],
)

MODELS = Row(
    "Models",
    [
        Panel(
            "Served now",
            "Versions that are ready, what they are computed on and how, and by how many pods.",
            "none",
            [Query(total("inference_model_info", "service, model, version, source, device, dtype, mode") + " > 0")],
            kind="table",
            width=24,
            height=6,
            columns={
                "service": "Service",
                "model": "Model",
                "version": "Version",
                "source": "Source",
                "device": "Device",
                "dtype": "Type",
                "mode": "Mode",
                "Value": "Pods",
            },
        ),
        Panel(
            "Loads",
            "Versions that were loaded within the interval, or could not be.",
            "none",
            [
                Query(
                    increase("inference_model_loads_total", "model, outcome"),
                    "{{model}} {{outcome}}",
                )
            ],
        ),
        Panel(
            "Time to load",
            "From the source of a version to its being served, warm-up included; the slowest pod.",
            "s",
            [
                Query(
                    f"max by (model, version) (inference_model_load_duration_seconds{{{POD}}})",
                    "{{model}} {{version}}",
                )
            ],
        ),
        Panel(
            "Speed of the modes",
            "Pictures a second that the search for the fastest mode has measured, in batches of the largest size.",
            "none",
            [
                Query(
                    f"max by (model, version, mode) (inference_model_images_per_second{{{POD}}})",
                    "{{model}} {{version}} {{mode}}",
                )
            ],
        ),
        Panel(
            "Shadows: do they agree",
            "Answers a second that a shadow gave as well, by whether it names the same label first. Dropped: there was "
            "other work.",
            "reqps",
            [
                Query(
                    rate("inference_shadow_comparisons_total", "model, outcome"),
                    "{{model}} {{outcome}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Canaries and shadows that were stopped",
            "Pods on which a version failed too often and answers nobody any more.",
            "none",
            [Query(total("inference_rollout_stopped", "model, version"), "{{model}} {{version}}")],
            width=12,
        ),
    ],
)

INFERENCE = Dashboard(
    uid="pinhole-inference",
    title="Pinhole: inference",
    description="Pictures from the request to the answer: models, stages, batches, devices, cache.",
    variables=variables("inference"),
    rows=[REQUESTS, STAGES, QUEUE, DEVICES, CACHE, MODELS],
)
