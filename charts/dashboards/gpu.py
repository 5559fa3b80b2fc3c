"""GPUs: what the service does on them, and what the driver says of them."""

from charts.dashboards.panels import Dashboard, Panel, Query, Row
from charts.dashboards.queries import POD, mean, quantile, rate, total, variables

CARD = 'exported_namespace=~"$namespace", exported_pod=~"$pod"'
"""The labels by which NVIDIA's exporter says whose a GPU is; the plain ones are those of the exporter itself."""

SERVICE = Row(
    "What the service does on them",
    [
        Panel(
            "In use",
            "The part of the time that a pod's GPU computes for it.",
            "percentunit",
            [
                Query(
                    rate("inference_device_busy_seconds_total", "pod, device", f'{POD}, device=~"cuda.*"'),
                    "{{pod}} {{device}}",
                )
            ],
            maximum=1,
        ),
        Panel(
            "Pictures computed",
            "Pictures a second that were computed, by pod.",
            "reqps",
            [Query(rate("inference_batch_size_sum", "pod"), "{{pod}}")],
        ),
        Panel(
            "Pictures computed together",
            "Mean size of a batch, by pod. Small batches leave a GPU idle.",
            "none",
            [
                Query(
                    mean("inference_batch_size", "pod"),
                    "{{pod}}",
                )
            ],
        ),
        Panel(
            "Memory",
            "Allocated is what tensors take, reserved what torch holds for them, and the limit what the GPU has.",
            "bytes",
            [
                Query(total("inference_gpu_memory_bytes", "pod, device, state"), "{{pod}} {{device}} {{state}}"),
                Query(f"max by (device) (inference_gpu_memory_limit_bytes{{{POD}}})", "{{device}} limit"),
            ],
        ),
        Panel(
            "Memory taken",
            "The part of the GPU's memory that torch holds. Near the end larger batches fail.",
            "percentunit",
            [
                Query(
                    f'sum by (pod, device) (inference_gpu_memory_bytes{{{POD}, state="reserved"}}) '
                    f"/ on (pod, device) max by (pod, device) (inference_gpu_memory_limit_bytes{{{POD}}})",
                    "{{pod}} {{device}}",
                )
            ],
            maximum=1,
            thresholds={0.9: "red"},
        ),
        Panel(
            "Time to compute",
            "Time of a picture in its forward pass: the whole batch counts for each of its pictures.",
            "s",
            [
                Query(
                    quantile(part, "inference_stage_duration_seconds", selector=f'{POD}, stage="compute"'),
                    name,
                )
                for part, name in ((0.5, "median"), (0.99, "99th percentile"))
            ],
        ),
    ],
)

DRIVER = Row(
    "What the driver says (needs NVIDIA's DCGM exporter)",
    [
        Panel(
            "Utilization",
            "The part of the time that a kernel runs on the GPU, whoever started it.",
            "percent",
            [Query(total("DCGM_FI_DEV_GPU_UTIL", "exported_pod, gpu", CARD), "{{exported_pod}} GPU {{gpu}}")],
            maximum=100,
        ),
        Panel(
            "Memory",
            "Memory of the GPU that is used, whoever uses it, and that is free.",
            "mbytes",
            [
                Query(total("DCGM_FI_DEV_FB_USED", "exported_pod, gpu", CARD), "{{exported_pod}} GPU {{gpu}} used"),
                Query(total("DCGM_FI_DEV_FB_FREE", "exported_pod, gpu", CARD), "{{exported_pod}} GPU {{gpu}} free"),
            ],
        ),
        Panel(
            "Power",
            "Watts. A GPU that does much takes much; one at its limit is slowed down.",
            "watt",
            [Query(total("DCGM_FI_DEV_POWER_USAGE", "exported_pod, gpu", CARD), "{{exported_pod}} GPU {{gpu}}")],
        ),
        Panel(
            "Temperature",
            "Above some 85 °C most GPUs slow down.",
            "celsius",
            [Query(total("DCGM_FI_DEV_GPU_TEMP", "exported_pod, gpu", CARD), "{{exported_pod}} GPU {{gpu}}")],
            width=12,
            thresholds={85.0: "red"},
        ),
        Panel(
            "Last error (XID)",
            "The number of the driver's last error, 0 for none. 48, 64, 79 and 94 are the hardware: drain the node.",
            "none",
            [Query(total("DCGM_FI_DEV_XID_ERRORS", "exported_pod, gpu", CARD), "{{exported_pod}} GPU {{gpu}}")],
            width=12,
        ),
    ],
)

GPU = Dashboard(
    uid="pinhole-gpu",
    title="Pinhole: GPUs",
    description="GPUs as the service uses them, and as the driver sees them.",
    variables=variables("inference"),
    rows=[SERVICE, DRIVER],
)
