"""A pod of inference that is gone at once, in the middle of a batch: what went to it fails, and says so."""

import time
from collections.abc import Callable

import httpx
import pytest

from tests.cluster.product import Product, predict
from tests.cluster.releases import until
from tests.cluster.traffic import traffic

CALLERS = 8
SAID = {502, 503, 504}
"""How a proxy says that the server behind it has not answered."""

PATIENCE_SECONDS = 30
"""From a kill until the routes lead elsewhere."""

pytestmark = pytest.mark.timeout(1500)


def kill_the_process(product: Product, pod: str) -> None:
    """End the process that serves as the kernel does where memory is short: at once."""
    kill = "kill -9 $(cat /proc/1/task/1/children)"
    product.release.kubectl("exec", pod, "--container", "inference", "--", "sh", "-c", kill)


def take_the_pod_away(product: Product, pod: str) -> None:
    """End the pod as where its node is lost: with no time to answer, and no trace of it in the API."""
    product.release.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait")

    def is_forgotten() -> bool | None:
        selector = f"kubernetes.io/service-name={product.release.name}-inference"
        slices = product.release.read("endpointslices", "--selector", selector)["items"]
        known = {each["targetRef"]["name"] for one in slices for each in one.get("endpoints") or []}
        return pod not in known or None

    product.release.until("the pod is no endpoint", is_forgotten)


@pytest.mark.parametrize("kill", [kill_the_process, take_the_pod_away])
def test_a_kill_fails_only_what_went_to_that_pod_and_says_so(
    product: Product,
    ada: httpx.Client,
    kill: Callable[[Product, str], None],
    record_property: Callable[[str, object], None],
) -> None:
    product.wait_for("inference")
    pod = product.release.pods("inference")[0]["metadata"]["name"]
    with traffic(*[lambda: predict(ada)] * CALLERS) as asked:
        asked.wait_for_more(3 * CALLERS)
        began = time.monotonic()
        kill(product, pod)
        killed = time.monotonic()
        # A moment later the routes know of it, or the process serves again.
        known = time.monotonic() + PATIENCE_SECONDS
        asked.wait_for_more(5 * CALLERS)
        product.wait_for("inference")
        until("the moment has passed", lambda: time.monotonic() > known or None)
        asked.wait_for_more(3 * CALLERS)
    said = asked.since(began)
    at_once = sum(answer.began < killed for answer in asked.failed)
    of = f"of {len(asked.answers)} requests"
    record_property(kill.__name__, f"{at_once} failed at once and {len(asked.failed) - at_once} later, {of}")
    # A pod that is taken away may have a second left, and answer in it what it has begun.
    assert asked.failed or kill is take_the_pod_away, "the process was at no request"
    assert {answer.outcome for answer in asked.failed} <= SAID, said
    assert all(answer.ended >= began and answer.began <= known for answer in asked.failed), said
    assert len(asked.failed) < len(asked.answers) / 2, said
