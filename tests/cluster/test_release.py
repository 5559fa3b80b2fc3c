"""The life of a release: install, use, change, failure of a pod, rollback."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cluster.conftest import NAMESPACE, RELEASE, Product, install, kubectl, run

DATA = Path(__file__).parents[1] / "data"
TIGER_CAT = 282

pytestmark = pytest.mark.timeout(1200)


def predict(http: httpx.Client) -> httpx.Response:
    picture = (DATA / "chelsea.png").read_bytes()
    return http.post("/predict", content=picture, headers={"Content-Type": "image/png"})


@pytest.fixture(scope="module")
def ada(product: Product) -> Iterator[httpx.Client]:
    """Somebody who has signed up through the ingress."""
    body = {"username": "ada", "email": "ada@example.com", "password": "a long enough password"}
    with product.http() as http:
        response = http.post("/users", json=body)
    assert response.status_code == 201, response.text
    with product.sign_in("ada", body["password"]) as client:
        yield client


def test_it_becomes_ready_in_a_restricted_namespace(product: Product) -> None:
    assert 0 < product.seconds < 600


def test_a_user_gets_the_prediction_of_a_picture(ada: httpx.Client) -> None:
    response = predict(ada)
    assert response.status_code == 200, response.text
    assert response.json()["predicted_class"] == TIGER_CAT


def test_the_web_page_and_the_api_documents_are_there(product: Product) -> None:
    with product.http() as http:
        assert "<title>" in http.get("/").text
        for service in ("auth", "users", "inference"):
            assert http.get(f"/openapi/{service}.json").json()["info"]["title"] == f"Pinhole {service}"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/internal/revocations"])
def test_what_is_internal_is_not_routed(product: Product, path: str) -> None:
    with product.http() as http:
        assert http.get(path).status_code == 404


def test_helm_test_passes(product: Product) -> None:
    assert "Succeeded" in run("helm", "test", RELEASE, "--namespace", NAMESPACE, "--timeout", "5m")


@contextmanager
def load(*clients: tuple[httpx.Client, str]) -> Iterator[Counter[int | str]]:
    """Ask for paths again and again, and count the answers; what is no answer is counted by its name."""
    ended = threading.Event()
    answers: Counter[int | str] = Counter()

    def ask(http: httpx.Client, path: str) -> None:
        while not ended.is_set():
            try:
                answers[http.get(path).status_code if path != "/predict" else predict(http).status_code] += 1
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1
            ended.wait(0.05)

    threads = [threading.Thread(target=ask, args=client) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def wait_for(deployment: str) -> None:
    kubectl("rollout", "status", f"deployment/{RELEASE}-{deployment}", "--timeout=300s")


@pytest.mark.parametrize(
    ("service", "path"), [("auth", "/.well-known/jwks.json"), ("users", "/users/me"), ("inference", "/predict")]
)
def test_a_rolling_update_fails_no_request(product: Product, ada: httpx.Client, service: str, path: str) -> None:
    with load((ada, path)) as answers:
        kubectl("rollout", "restart", f"deployment/{RELEASE}-{service}")
        wait_for(service)
    assert set(answers) == {200}, answers


@pytest.mark.parametrize(("service", "path"), [("auth", "/.well-known/jwks.json"), ("users", "/users/me")])
def test_the_deletion_of_a_pod_fails_no_request(product: Product, ada: httpx.Client, service: str, path: str) -> None:
    selector = f"app.kubernetes.io/name={service},app.kubernetes.io/instance={RELEASE}"
    pod = kubectl("get", "pods", "--selector", selector, "--output", "name").split()[0]
    with load((ada, path)) as answers:
        kubectl("delete", pod, "--wait")
        wait_for(service)
    assert set(answers) == {200}, answers


def test_an_upgrade_keeps_what_was_generated_and_a_rollback_undoes_it(product: Product, ada: httpx.Client) -> None:
    password = product.admin_password()
    name = f"configmap/{RELEASE}-auth"
    install("--set", "auth.logLevel=DEBUG")
    assert kubectl("get", name, "--output", "jsonpath={.data.LOG_LEVEL}") == "DEBUG"
    assert product.admin_password() == password
    product.sign_in("admin", password).close()
    run("helm", "rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "5m")
    assert kubectl("get", name, "--output", "jsonpath={.data.LOG_LEVEL}") == "INFO"
    assert product.admin_password() == password
    assert ada.get("/users/me").status_code == 200
