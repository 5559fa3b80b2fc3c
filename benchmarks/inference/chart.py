"""Draws the results: `python chart.py results.json results.svg`. Runs where matplotlib is, and needs nothing else."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS, OTHERS = "#0f766e", "#94a3b8"


def bars(axes: Any, title: str, values: dict[str, float], *, label: str) -> None:
    """Draw one bar a server, in the order that they are given, with its value as the format `label` has it."""
    names = list(values)[::-1]
    colours = [OURS if name.startswith("Pinhole") else OTHERS for name in names]
    drawn = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(drawn, fmt=label, padding=3)
    axes.set_title(title, loc="left", fontsize=10)
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Read the results and write the picture."""
    source, target = map(Path, sys.argv[1:])
    rows = [row for row in json.loads(source.read_text())["rows"] if not row["problem"]]
    figure, ((small, large), (memory, goodput)) = plt.subplots(2, 2, figsize=(12, 7), layout="constrained")
    for axes, width in ((small, "640"), (large, "1920")):
        speeds = {
            row["title"]: statistics.median(row["throughput"][width]["images_per_second"])
            for row in rows
            if width in row["throughput"]
        }
        bars(axes, f"images/s, 32 at a time, JPEGs {width} pixels wide", speeds, label="{:.1f}")
    idle = {row["title"]: row["idle_bytes"] / 2**20 for row in rows}
    bars(memory, "idle memory of all processes, MiB", idle, label="{:.0f}")
    shares = {
        row["title"]: 100 * row["overload"][-1]["goodput"] / row["overload"][0]["goodput"]
        for row in rows
        if row["overload"] and row["overload"][0]["goodput"]
    }
    bars(goodput, "answers within 2 s at 3 times the load, of those at 1 time", shares, label="{:.0f} %")
    figure.savefig(target)


if __name__ == "__main__":
    main()
