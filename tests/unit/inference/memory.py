"""The memory of this process."""

from pathlib import Path


def anonymous_kilobytes() -> int:
    """Return what is from no file."""
    [line] = [
        line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Anonymous:")
    ]
    return int(line.split()[1])
