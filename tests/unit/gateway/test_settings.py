"""What the gateway refuses to be told."""

import pytest
from gateway.settings import GatewaySettings
from servicekit.settings import load_settings


@pytest.mark.parametrize("url", ["https://auth:8001", "http://auth:8001/below", "http://", "auth:8001"])
def test_a_service_is_named_by_its_http_origin(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_AUTH_URL", url)
    with pytest.raises(SystemExit, match="GATEWAY_AUTH_URL"):
        load_settings(GatewaySettings)
