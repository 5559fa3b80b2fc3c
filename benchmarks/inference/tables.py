"""The tables that say what was measured."""

from collections.abc import Sequence

from benchmarks.inference.results import Results, median, percentile
from benchmarks.inference.targets import targets

MIB = 1024 * 1024
_MET = {True: "yes", False: "NO", None: "not measured"}


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _ratio(value: float, of: float) -> str:
    """Return how many times `of` a value is; nothing where that was not measured."""
    return f"{value / of:.2f}" if of > 0 else ""


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    rows = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in (header, *lines)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def throughput_table(results: Results, width: int) -> str:
    """Return the table of one size of pictures; `of limit` and `over limit` compare within each round."""
    lines = []
    for row in results.rows:
        if found := row.throughput.get(width):
            speed = row.images_per_second(width)
            times = [percentile(found.latencies, share) for share in (0.5, 0.95, 0.99)]
            lines.append(
                [
                    f"{row.title} ({row.mode})" if row.mode else row.title,
                    f"{speed:.1f}",
                    _ratio(speed, results.best_peer(width)),
                    _ratio(speed, results.tutorial.images_per_second(width)),
                    f"{100 * median(found.of_limit):.0f} %" if found.of_limit else "",
                    *map(_milliseconds, times),
                    _milliseconds(median(found.lone_seconds)),
                    *(
                        _milliseconds(median(seconds)) if seconds else ""
                        for seconds in (found.lone_over_limit_seconds, found.lone_beside_work_seconds)
                    ),
                    f"{found.peak_bytes / MIB:.0f}",
                    str(found.failed),
                    f"{found.load_cores:.2f}",
                ]
            )
    header = ["server", "images/s", "x best peer", "x tutorial", "of limit", "p50 ms", "p95 ms", "p99 ms"]
    return _table(
        [*header, "lone ms", "over limit ms", "beside work ms", "peak MiB", "unanswered", "load's cores"], lines
    )


def process_table(results: Results) -> str:
    """Return the table of starts and memory."""
    tutorial = results.tutorial
    lines = [
        [
            row.title,
            f"{median(row.start_seconds):.1f}",
            _ratio(median(row.start_seconds), median(tutorial.start_seconds)),
            f"{row.idle_bytes / MIB:.0f}",
            _ratio(row.idle_bytes, tutorial.idle_bytes),
            row.problem or "",
        ]
        for row in results.rows
    ]
    return _table(["server", "start to first answer s", "x tutorial", "idle MiB", "x tutorial", "problem"], lines)


def overload_table(results: Results) -> str:
    """Return the table of the open loops."""
    lines = []
    for row in results.rows:
        for found in row.overload:
            recovery = "never" if found.recovery_seconds is None else f"{found.recovery_seconds:.1f}"
            lines.append(
                [
                    row.title,
                    f"{found.factor}x ({found.rate:.0f}/s)",
                    f"{found.goodput:.1f}",
                    f"{100 * found.goodput / row.overload[0].goodput:.0f} %" if row.overload[0].goodput else "",
                    # Who hung up would have waited longer.
                    (">= " if found.p99_seconds >= results.deadline_seconds else "") + _milliseconds(found.p99_seconds),
                    str(found.accepted),
                    f"{100 * found.late / found.accepted:.1f} %" if found.accepted else "",
                    str(found.refused),
                    str(found.failed),
                    f"{found.peak_bytes / MIB:.0f}",
                    recovery,
                ]
            )
    header = ["server", "load", "goodput/s", "of 1x", "p99 ms", "let in", "late", "refused", "failed"]
    return _table([*header, "peak MiB", "recovery s"], lines)


def targets_table(results: Results) -> str:
    """Return what was to be reached, and whether it was."""
    lines = [[found.row, found.what, found.target, found.measured, _MET[found.is_met]] for found in targets(results)]
    return _table(["server", "what", "target", "measured", "met"], lines)


def report(results: Results) -> str:
    """Return all tables."""
    parts = [
        ", ".join(f"{name} {value}" for name, value in results.machine.items()),
        f"load averages before each round: {', '.join(f'{load:.2f}' for load in results.load_averages)}; "
        f"the run took {results.spent_seconds / 60:.0f} min",
    ]
    for width in results.widths:
        parts.append(f"JPEGs {width} pixels wide, 32 at a time")
        parts += [
            f"limit, {limit.mode}: {limit.images_per_second:.1f} images/s, lone {_milliseconds(limit.lone_seconds)} ms"
            for limit in results.limits
            if limit.width == width
        ]
        parts.append(throughput_table(results, width))
    parts += ["Start and memory of the whole process tree", process_table(results)]
    if any(row.overload for row in results.rows):
        parts.append(
            f"Open loop, 640 pixels, callers hang up after {results.deadline_seconds:g} s; rates are multiples of the "
            "server's own images/s; p99 is that of all who were let in, the late ones among them"
        )
        parts.append(overload_table(results))
    if any(row.is_ours for row in results.rows):
        parts += ["Targets", targets_table(results)]
    return "\n\n".join(parts)
