"""Variables that look like settings and are none."""

import pytest

from app.commands.serve import serve
from app.settings import Settings, unknown_variables

KUBERNETES = {
    "REXECUTOR_PORT": "tcp://10.0.0.1:8000",
    "REXECUTOR_SERVICE_HOST": "10.0.0.1",
    "REXECUTOR_SERVICE_PORT": "8000",
    "REXECUTOR_SERVICE_PORT_HTTP": "8000",
    "REXECUTOR_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "REXECUTOR_PORT_8000_TCP_PROTO": "tcp",
    "REXECUTOR_PORT_8000_TCP_PORT": "8000",
    "REXECUTOR_PORT_8000_TCP_ADDR": "10.0.0.1",
    "REXECUTOR_CANARY_PORT": "tcp://10.0.0.2:8000",
    "REXECUTOR_CANARY_SERVICE_HOST": "10.0.0.2",
    "REXECUTOR_CANARY_PORT_53_UDP": "udp://10.0.0.2:53",
}


def test_known_settings_are_not_unknown_in_any_case():
    assert unknown_variables({f"REXECUTOR_{name.upper()}": "" for name in Settings.model_fields}) == {}
    assert unknown_variables({"rexecutor_port": "1", "PATH": "/bin", "REXECUTORX": ""}) == {}


def test_what_the_client_reads_is_no_mistake():
    assert unknown_variables({"REXECUTOR_URL": "http://127.0.0.1:8000", "REXECUTOR_API_KEY": "key"}) == {}


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("REXECUTOR_LEASE_SECOND", "REXECUTOR_LEASE_SECONDS"),
        ("REXECUTOR_DATABASE", "REXECUTOR_DATABASE_URL"),
        ("rexecutor_lag_level", "REXECUTOR_LOG_LEVEL"),
        ("REXECUTOR_CANARY_PORT", "REXECUTOR_PORT"),
        ("REXECUTOR_", None),
        ("REXECUTOR_QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ", None),
    ],
)
def test_unknown_variable_is_named_with_the_nearest_setting(given: str, nearest: str | None):
    assert unknown_variables({given: "8001"}) == {given: nearest}


def test_what_kubernetes_puts_into_the_environment_is_no_mistake(monkeypatch: pytest.MonkeyPatch):
    assert unknown_variables(KUBERNETES) == {}
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    assert Settings().port == 8000


def test_strict_serve_refuses_unknown_variables_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("REXECUTOR_LEASE_SECOND", "5")
    monkeypatch.setenv("REXECUTOR_SERVICE_HOST", "10.0.0.1")
    # Should it be taken for known, the port keeps the test from serving.
    monkeypatch.setenv("REXECUTOR_HOST", "256.0.0.1")
    assert serve(strict_settings=True) == 1
    told, failure = capsys.readouterr()
    assert told == ""
    assert failure == (
        "rexecutor: settings: REXECUTOR_LEASE_SECOND is unknown, perhaps REXECUTOR_LEASE_SECONDS is meant\n"
    )
