"""What cannot be right is refused before anything is installed, with the reason."""

import pytest

from tests.charts.flavours import Flavour, template

ENABLED = ("inference.grpc.enabled=true", "httpRoute.enabled=true", "httpRoute.parentRefs[0].name=public")
"""gRPC, and a way in beside the Ingress."""


def test_two_autoscalers_are_refused() -> None:
    done = template(Flavour(settings=("inference.keda.enabled=true", "inference.autoscaling.enabled=true")))
    assert done.returncode != 0
    assert "exclude each other" in done.stderr


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("postgresql.enabled=true",), "postgresql.enabled is for development"),
        (("global.publicUrl=http://pinhole.example.com",), "has to be https://"),
        (("users.admin.existingSecret=",), "admin.existingSecret"),
        (("auth.database.existingSecret=", "auth.database.password=x"), "database.existingSecret"),
        *(
            ((f"{service}.redis.existingSecret=", f"{service}.redis.url=redis://cache"), "redis.existingSecret")
            for service in ("auth", "users", "inference")
        ),
    ],
)
def test_production_refuses_what_is_for_development(settings: tuple[str, ...], reason: str) -> None:
    done = template(Flavour(("production",), settings))
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("postgresql.enabled=false",), "set auth.database.host"),
        (("auth.fullnameOverride=issuer",), "users.authUrl and inference.authUrl"),
        (("users.service.port=8080",), "auth.usersUrl"),
        (("users.enabled=false",), "auth.usersUrl"),
        (("httpRoute.enabled=true",), "httpRoute.parentRefs"),
        (("auth.database.host=",), "database.host"),
        (("inference.keda.enabled=true",), "keda.prometheusAddress"),
        (("global.publicUrl=http://[fd00::1]:8080",), "the host of a route is a name"),
        (("global.publicUrl=http://192.0.2.7",), "the host of a route is a name"),
        *(
            ((f"global.publicUrl={url}",), "has to be an origin")
            for url in (
                *("https://p.example.com/pinhole", "https://p.example.com?a", "https://p.example.com#a"),
                *("p.example.com", "ftp://p.example.com", "https://", "https://me@p.example.com"),
            )
        ),
        *(
            ((f"{service}.tracing.endpoint={url}",), f"{service}: tracing.endpoint")
            for service in ("auth", "users", "inference")
            for url in ("collector", "collector:4318", "http:///v1/traces")
        ),
        *(
            ((*ENABLED, f"{way}.grpc.host=grpc.example.com", *settings), f"{way}.grpc.host is set, so inference.grpc")
            for way in ("ingress", "httpRoute")
            for settings in (("inference.grpc.enabled=false",), ("inference.enabled=false",))
        ),
        *(
            ((*ENABLED, "httpRoute.grpc.host=p.example.com", *settings), "httpRoute.grpc.host: p.example.com")
            for settings in (
                ("global.publicUrl=http://p.example.com",),
                ("httpRoute.extraHosts={q.example.com,p.example.com}",),
                ("httpRoute.extraHosts={*.example.com}",),
            )
        ),
        (("auth.fullnameOverride=ph-users", "users.authUrl=http://a", "inference.authUrl=http://a"), "called ph-users"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(settings: tuple[str, ...], reason: str) -> None:
    done = template(Flavour(settings=settings))
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.mark.parametrize(("chart", "settings"), [("auth", ("database.host=db",)), ("inference", ())])
def test_a_service_alone_refuses_an_issuer_with_a_path(chart: str, settings: tuple[str, ...]) -> None:
    done = template(Flavour(chart=chart, settings=(*settings, "global.publicUrl=https://p.example.com/pinhole")))
    assert done.returncode != 0
    assert "has to be an origin" in done.stderr


@pytest.mark.parametrize("release", ["users-auth", "inference-users", "pinhole-auth"])
def test_a_release_by_whose_name_two_services_would_be_one_is_refused(release: str) -> None:
    done = template(Flavour(release=release))
    assert done.returncode != 0
    assert f"would both be called {release}" in done.stderr
    assert "another name" in done.stderr


def test_a_release_may_have_the_name_of_one_service() -> None:
    done = template(Flavour(release="auth"))
    assert done.returncode == 0, done.stderr


def test_an_address_is_no_hindrance_where_routes_are_made_elsewhere() -> None:
    done = template(Flavour(settings=("global.publicUrl=http://[fd00::1]:8080", "ingress.enabled=false")))
    assert done.returncode == 0, done.stderr
    assert "http://[fd00::1]:8080" in done.stdout
