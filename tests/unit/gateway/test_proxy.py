"""What happens to a request and its answer on their way through the gateway."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from gateway.main import create_app
from gateway.settings import GatewaySettings

from tests.unit.gateway.conftest import MAX_BODY_BYTES, Site
from tests.unit.gateway.serving import (
    GZIPPED,
    WAIT_SECONDS,
    Dropper,
    StandInService,
    connect,
    echoed,
    refusing_origin,
    serve,
)


def raw(origin: str, request: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes."""
    address = urlsplit(origin)
    with socket.create_connection((address.hostname, address.port), WAIT_SECONDS) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_target_and_body_arrive_unchanged(site: Site, method: str) -> None:
    with connect(site.origin) as connection:
        connection.request(method, "/v2/models/a%2Fb%20c?q=%2e&q=+&empty", body="payload")
        seen = echoed(connection.getresponse())
        assert (seen["method"], seen["target"]) == (method, "/v2/models/a%2Fb%20c?q=%2e&q=+&empty")
        assert seen["body"] == "payload"


def test_head_has_the_fields_and_no_body(site: Site) -> None:
    response = httpx.head(f"{site.origin}/users/fields")
    assert (response.status_code, response.headers["content-length"]) == (200, str(len(GZIPPED)))
    assert response.content == b""


def test_fields_of_one_connection_are_dropped_and_others_kept(site: Site) -> None:
    with connect(site.origin) as connection:
        connection.putrequest("GET", "/users")
        for name, value in [
            ("Connection", "X-Named, keep-alive"),
            ("X-Named", "1"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "X-Sum"),
            ("Proxy-Connection", "keep-alive"),
            ("Upgrade", "h2c"),
            ("Accept", "a/b"),
            ("Accept", "c/d"),
            ("Authorization", "Bearer x"),
        ]:
            connection.putheader(name, value)
        connection.endheaders()
        fields = echoed(connection.getresponse())["fields"]
        names = {name for name, _ in fields}
        assert not names & {"connection", "x-named", "keep-alive", "te", "trailer", "proxy-connection", "upgrade"}
        assert [value for name, value in fields if name == "accept"] == ["a/b", "c/d"]
        assert ["authorization", "Bearer x"] in fields


def test_the_service_learns_who_asked_for_which_origin(site: Site) -> None:
    with connect(site.origin) as connection:
        connection.putrequest("GET", "/users", skip_host=True)
        for name in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded"):
            connection.putheader(name, "made up")
        connection.putheader("Host", "pinhole.example:8000")
        connection.endheaders()
        fields = echoed(connection.getresponse())["fields"]
        assert "made up" not in str(fields)
        assert ["host", "pinhole.example:8000"] in fields
        assert ["x-forwarded-for", "127.0.0.1"] in fields
        assert ["x-forwarded-host", "pinhole.example:8000"] in fields
        assert ["x-forwarded-proto", "http"] in fields


def test_http_1_0_without_a_host_is_answered(site: Site) -> None:
    assert raw(site.origin, b"GET /users HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("fields", [b"", b"Host: a\r\nHost: b\r\n"])
def test_no_host_or_two_are_400(site: Site, fields: bytes) -> None:
    answer = raw(site.origin, b"GET /users HTTP/1.1\r\nConnection: close\r\n" + fields + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


def test_a_body_with_two_ways_to_tell_its_end_is_400(site: Site) -> None:
    request = b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert raw(site.origin, request).startswith(b"HTTP/1.1 400 ")


def test_the_request_id_is_the_same_on_both_sides_and_once_in_the_answer(site: Site) -> None:
    response = httpx.get(f"{site.origin}/users", headers={"X-Request-ID": "abc-1"})
    assert response.headers.get_list("x-request-id") == ["abc-1"]
    assert [value for name, value in response.json()["fields"] if name == "x-request-id"] == ["abc-1"]


def test_a_request_id_that_is_not_fit_for_a_log_is_replaced(site: Site) -> None:
    response = httpx.get(f"{site.origin}/users", headers={"X-Request-ID": "a b"})
    [made] = response.headers.get_list("x-request-id")
    assert made != "a b"
    assert ["x-request-id", made] in response.json()["fields"]


def test_an_answers_fields_and_encoded_bytes_stay_as_they_are(site: Site) -> None:
    with connect(site.origin) as connection:
        connection.request("GET", "/users/fields")
        response = connection.getresponse()
        assert response.read() == GZIPPED
        assert response.headers.get_all("set-cookie") == ["a=1", "b=2"]
        assert response.headers.get_all("link") == ["<x>", "<y>"]
        assert response.headers["content-encoding"] == "gzip"
        assert len(response.headers.get_all("date", [])) == 1
        assert response.headers.get_all("x-request-id") != ["mine"]
        assert not {"x-private", "keep-alive"} & {name.lower() for name in response.headers}


def test_a_body_keeps_its_framing(site: Site) -> None:
    with_length = httpx.post(f"{site.origin}/users", content=b"abc").json()["fields"]
    assert ["content-length", "3"] in with_length
    assert "transfer-encoding" not in dict(with_length)
    chunked = httpx.post(f"{site.origin}/users", content=iter([b"a", b"bc"])).json()
    assert ["transfer-encoding", "chunked"] in chunked["fields"]
    assert "content-length" not in dict(chunked["fields"])
    assert chunked["body"] == "abc"


def test_an_empty_body_of_known_length_is_told(site: Site) -> None:
    assert ["content-length", "0"] in httpx.post(f"{site.origin}/users").json()["fields"]


def test_a_body_goes_on_before_it_is_whole(site: Site) -> None:
    users = site.services["users"]

    def parts() -> Iterator[bytes]:
        yield b"one"
        assert users.received.wait(WAIT_SECONDS)
        yield b"two"

    assert httpx.post(f"{site.origin}/users/body-in-parts", content=parts()).content == b"onetwo"


def test_an_answer_goes_on_before_it_is_whole(site: Site) -> None:
    with httpx.stream("GET", f"{site.origin}/users/answer-in-parts") as response:
        parts = response.iter_raw()
        assert next(parts) == b"one"
        site.services["users"].may_go_on.set()
        assert b"".join(parts) == b"two"


def test_a_body_over_the_limit_by_its_length_is_413_and_not_asked_for(site: Site) -> None:
    before = site.services["users"].requests
    answer = raw(
        site.origin,
        b"POST /users HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
    )
    assert answer.startswith(b"HTTP/1.1 413 ")  # and not 100
    assert b"application/problem+json" in answer
    assert site.services["users"].requests == before


def test_a_body_that_grows_over_the_limit_is_413_and_the_rest_is_not_read(site: Site) -> None:
    users = site.services["users"]
    with connect(site.origin) as connection:
        connection.putrequest("POST", "/users/slow")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"%x\r\n%b\r\n" % (MAX_BODY_BYTES + 1, bytes(MAX_BODY_BYTES + 1)))  # and no end
        response = connection.getresponse()
        assert response.status == 413
        assert response.headers["connection"] == "close"
        assert users.saw_disconnect.wait(WAIT_SECONDS)


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(("path", "media_type"), [(b"/users/slow", b"problem+json"), (b"/token/slow", b"json")])
def test_a_body_that_stalls_is_408_and_frees_its_connection(framing: bytes, path: bytes, media_type: bytes) -> None:
    service = StandInService("any")
    with serve(service) as url:
        settings = GatewaySettings(auth_url=url, users_url=url, max_connections=1, body_timeout_seconds=0.2)
        with serve(create_app(settings)) as origin:
            answer = raw(origin, b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n5\r\nstart\r\n" % (path, framing))
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"content-type: application/%b\r\n" % media_type in answer
            assert service.saw_disconnect.wait(WAIT_SECONDS)
            assert httpx.get(f"{origin}/users/me").status_code == httpx.get(f"{origin}/token/me").status_code == 200


def test_the_largest_body_passes(site: Site) -> None:
    response = httpx.post(f"{site.origin}/users", content=bytes(MAX_BODY_BYTES))
    assert len(response.json()["body"]) == MAX_BODY_BYTES


@pytest.mark.parametrize(("behaviour", "status"), [("early-401", 401), ("early-413", 413)])
@pytest.mark.parametrize("told", [True, False])
def test_an_answer_before_the_body_is_read_reaches_the_caller(
    site: Site, behaviour: str, status: int, told: bool
) -> None:
    body = bytes(MAX_BODY_BYTES)
    for _ in range(10):
        content = body if told else iter([body[:65536]] * 16)
        assert httpx.post(f"{site.origin}/users/{behaviour}", content=content).status_code == status


def test_a_connection_that_lacks_the_end_of_a_body_is_not_used_again(site: Site) -> None:
    users = site.services["users"]
    with connect(site.origin) as connection:
        connection.putrequest("POST", "/users/early-401")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"5\r\nstart\r\n")
        assert users.answered_early.wait(WAIT_SECONDS)
        connection.send(b"0\r\n\r\n")
        assert connection.getresponse().status == 401
    assert httpx.get(f"{site.origin}/users/me").status_code == 200


def test_an_endless_body_ends_with_the_answer(site: Site) -> None:
    with connect(site.origin) as connection:
        connection.putrequest("POST", "/users/early-401")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"5\r\nstart\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            while True:
                connection.send(b"10000\r\n" + bytes(65536) + b"\r\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("POST", "/predict"), ("GET", "/users/me"), ("GET", "/.well-known/jwks.json")],
)
def test_a_service_that_is_not_there_is_503(method: str, path: str) -> None:
    with refusing_origin() as refusing:
        settings = GatewaySettings(auth_url=refusing, users_url=refusing, inference_url=refusing)
        with serve(create_app(settings)) as origin:
            response = httpx.request(method, origin + path, content=b"")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.headers["content-type"] == "application/problem+json"
    assert refusing not in response.text


def test_oauth_and_inference_protocol_clients_get_errors_in_their_own_form() -> None:
    with refusing_origin() as refusing:
        settings = GatewaySettings(auth_url=refusing, users_url=refusing, inference_url=refusing)
        with serve(create_app(settings)) as origin:
            token = httpx.post(f"{origin}/token", data={"grant_type": "password"})
            revoke = httpx.post(f"{origin}/oauth2/revoke/", data={"token": "x"})
            infer = httpx.post(f"{origin}/v2/models/m/infer", json={})
    for response in (token, revoke):
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        assert response.json()["error"] == "temporarily_unavailable"
    assert (infer.status_code, infer.json()) == (503, {"error": "inference cannot be reached"})


def test_a_service_that_does_not_answer_in_time_is_504() -> None:
    service = StandInService("any")
    with serve(service) as url:
        settings = GatewaySettings(auth_url=url, users_url=url, answer_timeout_seconds=0.2)
        with serve(create_app(settings)) as origin:
            response = httpx.get(f"{origin}/users/slow")
            token = httpx.post(f"{origin}/token/slow", data={})
            assert service.saw_disconnect.wait(WAIT_SECONDS)
    assert response.status_code == 504
    assert response.headers["content-type"] == "application/problem+json"
    assert (token.status_code, token.json()["error"]) == (503, "temporarily_unavailable")


def test_a_service_that_breaks_off_before_its_answer_is_502() -> None:
    dropper = Dropper()
    with serve(create_app(GatewaySettings(users_url=dropper.origin))) as origin:
        thread = threading.Thread(target=dropper.drop_one)
        thread.start()
        response = httpx.get(f"{origin}/users")
        thread.join()
    assert response.status_code == 502
    assert response.headers["content-type"] == "application/problem+json"


def test_half_an_answer_is_not_taken_for_a_whole_one(site: Site) -> None:
    with connect(site.origin) as connection:
        connection.request("GET", "/users/half-an-answer")
        response = connection.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            response.read()


@pytest.mark.parametrize("body", [None, b"with a body"])
def test_a_client_that_leaves_ends_the_request_to_the_service(site: Site, body: bytes | None) -> None:
    users = site.services["users"]
    with connect(site.origin) as connection:
        connection.request("POST", "/users/slow", body=body)
        assert users.received.wait(WAIT_SECONDS)
        connection.close()
        assert users.saw_disconnect.wait(WAIT_SECONDS)


def test_a_client_that_leaves_in_the_middle_of_its_body_ends_the_request(site: Site) -> None:
    users = site.services["users"]
    with connect(site.origin) as connection:
        connection.putrequest("POST", "/users/slow")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"some of it")
        assert users.received.wait(WAIT_SECONDS)
        connection.close()
        assert users.saw_disconnect.wait(WAIT_SECONDS)


def test_connections_are_closed_with_the_lifespan_and_nothing_is_left_open() -> None:
    with ExitStack() as stack:
        url = stack.enter_context(serve(StandInService("users")))
        with serve(create_app(GatewaySettings(users_url=url))) as origin:
            for _ in range(3):
                assert json.loads(httpx.get(f"{origin}/users").content)["service"] == "users"
