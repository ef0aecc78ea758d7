"""compose.yaml and the proxy's settings say what they must; no engine is needed to read them."""

import re
from pathlib import Path

import pytest
import yaml

from app.settings import Settings, unknown_variables
from app.store.database import parse_url

ROOT = Path(__file__).parents[2]
SERVERS = ["server-a", "server-b"]


@pytest.fixture(scope="module")
def services() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]


@pytest.fixture(scope="module")
def nginx() -> str:
    text = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    return re.sub(r"#.*", "", text)


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration.removesuffix("s"))


def settings_of(service: dict) -> Settings:
    given = {name.removeprefix("REXECUTOR_").lower(): value for name, value in service["environment"].items()}
    return Settings(**given)


@pytest.mark.parametrize("name", SERVERS)
def test_servers_have_known_settings_and_the_database_of_the_postgres_there(services, name):
    environment = services[name]["environment"]
    assert unknown_variables(environment) == {}
    postgres = services["postgres"]["environment"]
    url = re.sub(r"\$\{[^}]*\}", "secret", settings_of(services[name]).database_url)
    parsed = parse_url(url)
    assert (parsed.drivername, parsed.host, parsed.username, parsed.database) == (
        "postgresql",
        "postgres",
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_DB"],
    )
    assert postgres["POSTGRES_PASSWORD"] in environment["REXECUTOR_DATABASE_URL"]


@pytest.mark.parametrize("name", SERVERS)
def test_servers_begin_after_the_database_and_are_given_time_to_drain(services, name):
    assert services[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert seconds(services[name]["stop_grace_period"]) > settings_of(services[name]).drain_seconds
    assert "container_name" not in services[name]
    assert "ports" not in services[name], "workers come through the proxy, or two would want one port"


def test_health_is_asked_for_everywhere(services):
    asked = {name: " ".join(service["healthcheck"]["test"]) for name, service in services.items()}
    assert all("/readyz" in asked[name] for name in SERVERS)
    assert "/livez" in asked["proxy"]
    assert "pg_isready" in asked["postgres"]
    assert {name: each["condition"] for name, each in services["proxy"]["depends_on"].items()} == dict.fromkeys(
        SERVERS, "service_healthy"
    )


def test_proxy_leads_to_the_servers_that_are_there(services, nginx):
    assert re.findall(r"server ([\w-]+):8000", nginx) == SERVERS == [name for name in services if "server" in name]
    (published,) = services["proxy"]["ports"]
    assert published.startswith("127.0.0.1:"), "there are no keys yet: nobody else is to reach it"
    assert f"listen {published.rsplit(':', 1)[1]};" in nginx
    assert "./deploy/nginx.conf:/etc/nginx/nginx.conf:ro" in services["proxy"]["volumes"]


def test_proxy_lets_sockets_through_and_waits_longer_than_any_silence(services, nginx):
    for line in (
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection $connection_upgrade;",
        "proxy_set_header Host $http_host;",
        "proxy_buffering off;",
    ):
        assert line in nginx
    settings = settings_of(services["server-a"])
    longest_poll_seconds = 60
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        (limit,) = re.findall(rf"{name} (\S+);", nginx)
        assert seconds(limit) > max(settings.lease_seconds / 3, longest_poll_seconds)
    (size,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(size) * 1024 * 1024 >= settings.max_bulk_bytes
    # A request that may have been done is not repeated by the proxy.
    assert re.findall(r"proxy_next_upstream ([^;]+);", nginx) == ["error timeout"]


def test_proxy_has_room_for_all_connections(services, nginx):
    (room,) = re.findall(r"worker_connections (\d+);", nginx)
    (files,) = re.findall(r"worker_rlimit_nofile (\d+);", nginx)
    wanted = 2 * settings_of(services["server-a"]).max_connections
    assert wanted <= int(room) <= int(files)
