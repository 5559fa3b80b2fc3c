"""How many CPUs a container has, by the files of the kernel."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from inference_service.cpu import available_cpus, use_threads

AFFINITY = len(os.sched_getaffinity(0))


def cgroups(folder: Path, own: str, **files: str) -> int:
    """Return the CPUs with these files under the root of the cgroups; `__` in a name is a folder."""
    root = folder / "cgroup"
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    return available_cpus(root, folder / "own")


def test_without_a_quota_it_is_the_affinity(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "0::/\n", cpu_dot_max="max 100000\n") == AFFINITY


def test_without_cgroups_it_is_the_affinity(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "cgroup", tmp_path / "own") == AFFINITY


def test_a_quota_of_version_2_cuts_it(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "0::/\n", cpu_dot_max="100000 100000\n") == 1


def test_a_quota_of_a_group_above_cuts_it(tmp_path: Path) -> None:
    limits = {"pods__one__cpu_dot_max": "max 100000", "pods__cpu_dot_max": "100000 100000"}
    assert cgroups(tmp_path, "0::/pods/one\n", **limits) == 1


def test_a_quota_of_version_1_cuts_it(tmp_path: Path) -> None:
    limits = {"cpu__one__cpu_dot_cfs_quota_us": "150000\n", "cpu__one__cpu_dot_cfs_period_us": "100000\n"}
    assert cgroups(tmp_path, "4:memory:/one\n1:cpu,cpuacct:/one\n", **limits) == 1


def test_no_quota_of_version_1_is_minus_one(tmp_path: Path) -> None:
    limits = {"cpu__cpu_dot_cfs_quota_us": "-1\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}
    assert cgroups(tmp_path, "1:cpu:/\n", **limits) == AFFINITY


def test_inside_a_container_the_path_is_of_the_host_and_the_quota_at_the_root(tmp_path: Path) -> None:
    limits = {"cpu__cpu_dot_cfs_quota_us": "100000", "cpu__cpu_dot_cfs_period_us": "100000"}
    assert cgroups(tmp_path, "1:cpu:/kubepods/pod1/container1\n", **limits) == 1


@pytest.mark.parametrize("quota", ["50000", "100000", "199999"])
def test_a_part_of_a_cpu_is_rounded_down_and_to_one_at_least(tmp_path: Path, quota: str) -> None:
    assert cgroups(tmp_path, "0::/\n", cpu_dot_max=f"{quota} 100000") == 1


def test_a_quota_above_the_affinity_changes_nothing(tmp_path: Path) -> None:
    assert cgroups(tmp_path, "0::/\n", cpu_dot_max="6400000 100000") == min(AFFINITY, 64)


@pytest.mark.parametrize(
    "limits",
    [
        {"cpu_dot_max": "250000 100000"},
        {"cpu_dot_max": "125000 50000"},
        {"cpu__cpu_dot_cfs_quota_us": "250000", "cpu__cpu_dot_cfs_period_us": "100000"},
    ],
)
def test_two_and_a_half_cpus_are_two_in_both_versions(tmp_path: Path, limits: dict[str, str]) -> None:
    assert cgroups(tmp_path, "1:cpu:/\n0::/\n", **limits) == min(AFFINITY, 2)


def test_the_least_of_several_quotas_counts(tmp_path: Path) -> None:
    limits = {"cpu_dot_max": "400000 100000", "a__cpu_dot_max": "100000 100000", "a__b__cpu_dot_max": "300000 100000"}
    assert cgroups(tmp_path, "0::/a/b\n", **limits) == 1


def test_each_thread_keeps_the_number_that_it_was_told_though_another_is_told_before_it_computes() -> None:
    with (
        ThreadPoolExecutor(1, initializer=use_threads, initargs=(3,)) as model,
        ThreadPoolExecutor(1, initializer=use_threads, initargs=(1,)) as decode,
    ):
        for thread in (model, decode):
            thread.submit(int).result(30)
        assert [thread.submit(torch.get_num_threads).result(30) for thread in (model, decode)] == [3, 1]
