"""gRPC from outside: what leads to its port, and that nothing does where nobody asks for it."""

from tests.charts.flavours import every_flavour, named, of_kind, pods, selects

NAME = "gRPC from outside"
OBJECT = "ph-pinhole-grpc"
PORT = {"port": 8004, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "kubernetes.io/h2c", "name": "grpc"}


@every_flavour
def test_nothing_leads_there_that_nobody_has_asked_for(name: str) -> None:
    found = [each["metadata"]["name"] for each in of_kind(name, "Ingress", "Service", "GRPCRoute")]
    assert found.count(OBJECT) == (3 if name == NAME else 0)
    assert len(of_kind(name, "GRPCRoute")) == (name == NAME)


def test_an_ingress_of_its_own_leads_to_the_methods_of_the_protocol() -> None:
    ingress = named(NAME, "Ingress", OBJECT)
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "grpc.ph.example.com"
    backend = {"service": {"name": OBJECT, "port": {"name": "grpc"}}}
    assert rule["http"]["paths"] == [
        {"path": "/grpc.health.v1.Health/Check", "pathType": "Exact", "backend": backend},
        {"path": "/inference.GRPCInferenceService", "pathType": "Prefix", "backend": backend},
    ]


def test_it_has_class_certificate_and_annotations_as_the_other_one_and_its_own_above() -> None:
    ingress, other = named(NAME, "Ingress", OBJECT), named(NAME, "Ingress", "ph-pinhole")
    assert ingress["spec"]["ingressClassName"] == "traefik"
    assert ingress["spec"]["tls"] == [{"hosts": ["grpc.ph.example.com"], "secretName": "ph-grpc-tls"}]
    assert other["metadata"]["annotations"] == {"a": "both", "b": "rest", "cert-manager.io/issuer": "ca"}
    assert ingress["metadata"]["annotations"] == {"a": "both", "b": "grpc", "cert-manager.io/issuer": "ca"}


def test_its_service_speaks_nothing_but_http_2_and_reaches_the_pods_of_inference() -> None:
    """By a Service of its own: Traefik asks a Service, and not each port of it, whether it speaks HTTP/2."""
    service = named(NAME, "Service", OBJECT)
    assert service["metadata"]["annotations"] == {"traefik.ingress.kubernetes.io/service.serversscheme": "h2c"}
    assert service["spec"]["ports"] == [PORT]
    (pod,) = (each for each in pods(NAME) if selects(service["spec"]["selector"], each))
    assert {"name": "grpc", "containerPort": 8004, "protocol": "TCP"} in pod["spec"]["containers"][0]["ports"]


def test_a_route_of_a_gateway_leads_to_the_same_methods() -> None:
    (route,) = of_kind(NAME, "GRPCRoute")
    assert route["spec"]["hostnames"] == ["grpc.gateway.example.com"]
    assert route["spec"]["parentRefs"] == [{"name": "public"}]
    (rule,) = route["spec"]["rules"]
    assert [match["method"] for match in rule["matches"]] == [
        {"service": "inference.GRPCInferenceService"},
        {"service": "grpc.health.v1.Health", "method": "Check"},
    ]
    (backend,) = rule["backendRefs"]
    (service,) = (each for each in of_kind(NAME, "Service") if each["metadata"]["name"] == backend["name"])
    (port,) = (each for each in service["spec"]["ports"] if each["port"] == backend["port"])
    assert port == PORT


def test_who_may_send_requests_may_do_so_over_grpc() -> None:
    (rule,) = named(NAME, "NetworkPolicy", "ph-eyes")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http", "grpc"]
