"""The table of settings: what is accepted, what is refused in which words, and that the two copies agree with it."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model.errors import InvalidInput
from model.policies import PolicyMode
from plugin.setting_rules import PortRange
from plugin.settings import PLUGIN_SOCKET, TABLE, LogLevel, Scope, ServiceTranslation, Settings
from plugin.settings_document import markdown
from policy.label_filter import LabelFilter

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="config")
def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((ROOT / "plugin/config.json").read_text())
    return config


def test_every_row_has_a_field_and_every_field_a_row() -> None:
    assert [setting.field for setting in TABLE] == [field.name for field in dataclasses.fields(Settings)]


def test_config_json_names_every_setting_with_its_default_and_help(config: dict[str, Any]) -> None:
    expected = [(row.name, row.default, row.help, ["value"]) for row in TABLE]

    assert expected == [(env["name"], env["value"], env["description"], env["settable"]) for env in config["env"]]


def test_socket_of_config_json_is_the_one_that_is_bound(config: dict[str, Any]) -> None:
    assert config["interface"]["socket"] == PLUGIN_SOCKET.name


def test_paths_of_the_defaults_lie_in_mounts_of_config_json(config: dict[str, Any]) -> None:
    mounted = [Path(mount["destination"]) for mount in config["mounts"]] + [Path(config["propagatedMount"])]
    settings = Settings.from_env({})

    for path in (settings.agent_socket, settings.state_dir, settings.bpffs_root):
        assert any(path.is_relative_to(mount) for mount in mounted), path


def test_document_is_up_to_date() -> None:
    assert markdown() == (ROOT / "docs/settings.md").read_text(), "make settings"


def test_module_prints_the_document() -> None:
    command = [sys.executable, "-m", "plugin.settings_document"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert markdown() == printed.stdout


def test_nothing_set_means_the_defaults() -> None:
    settings = Settings.from_env({"PATH": "/bin", "UNRELATED": "x"})

    assert settings.etcd_endpoints == ()
    assert settings.scope is Scope.AUTO
    assert settings.identity_labels == LabelFilter.parse()
    assert (settings.policy_enforcement, settings.policy_audit) == (PolicyMode.DEFAULT, False)
    assert settings.default_pools == (ipaddress.IPv4Network("10.210.0.0/16"),)
    assert (settings.node_name, settings.node_ip, settings.underlay_if, settings.mtu) == (None, None, None, None)


def test_empty_and_blank_values_mean_the_defaults() -> None:
    assert Settings.from_env({row.name: " " for row in TABLE}) == Settings.from_env({})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ETCD_ENDPOINTS", "http://127.0.0.1:2379", ("http://127.0.0.1:2379",)),
        ("ETCD_ENDPOINTS", "https://a:1/, https://[fd00::1]:2,", ("https://a:1", "https://[fd00::1]:2")),
        ("ETCD_ALLOW_PLAINTEXT", "True", True),
        ("EMBEDDED_ETCD_PORT", "12379", 12379),
        ("NODE_NAME", "web-1.example", "web-1.example"),
        ("NODE_IP", "10.77.0.1", ipaddress.IPv4Address("10.77.0.1")),
        ("UNDERLAY_IF", "enp0s31f6.100", "enp0s31f6.100"),
        ("MTU", "8950", 8950),
        ("SCOPE", "global", Scope.GLOBAL),
        ("DEFAULT_POOL_PREFIX", "30", 30),
        ("ADDRESS_QUARANTINE_S", "0", 0),
        ("NODE_GC_AFTER_H", "0", 0),
        ("IDENTITY_LABELS", "app, !team.*", LabelFilter.parse("app,!team.*")),
        ("POLICY_ENFORCEMENT", "always", PolicyMode.ALWAYS),
        ("POLICY_AUDIT", "true", True),
        ("MASQUERADE_PORTS", "2048 - 3071", PortRange(2048, 3071)),
        (
            "MASQUERADE_EXCLUDE",
            "10.0.0.0/8, 192.0.2.0/24",
            (ipaddress.IPv4Network("10.0.0.0/8"), ipaddress.IPv4Network("192.0.2.0/24")),
        ),
        ("SERVICE_TRANSLATION", "packet", ServiceTranslation.PACKET),
        ("CGROUP_ROOT", "/host/sys/fs/cgroup/unified", Path("/host/sys/fs/cgroup/unified")),
        ("LOG_LEVEL", "debug", LogLevel.DEBUG),
    ],
)
def test_value_is_read(name: str, text: str, value: object) -> None:
    assert value == getattr(Settings.from_env({name: text}), name.lower())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ETCD_ENDPOINTS", "10.0.0.1:2379"),
        ("ETCD_ENDPOINTS", "http://10.0.0.1"),
        ("ETCD_ENDPOINTS", "http://10.0.0.1:99999"),
        ("ETCD_ENDPOINTS", "http://10.0.0.1:2379/v3"),
        ("ETCD_ENDPOINTS", "http://user:word@10.0.0.1:2379"),
        ("ETCD_ENDPOINTS", "ftp://10.0.0.1:2379"),
        ("ETCD_CA", "ca.pem"),
        ("ETCD_CA", "/host/etc/opt/../../shadow"),
        ("ETCD_ALLOW_PLAINTEXT", "yes"),
        ("EMBEDDED_ETCD_PORT", "0"),
        ("EMBEDDED_ETCD_PORT", "65536"),
        ("NODE_NAME", "a/b"),
        ("NODE_NAME", "-a"),
        ("NODE_IP", "10.0.0"),
        ("NODE_IP", "127.0.0.1"),
        ("NODE_IP", "::1"),
        ("UNDERLAY_IF", "a/b"),
        ("UNDERLAY_IF", "sixteen-letters."),
        ("TUNNEL_PORT", "-1"),
        ("MTU", "575"),
        ("MTU", "1e3"),
        ("MTU", "१४५०"),
        ("SCOPE", "swarm"),
        ("DEFAULT_POOLS", ","),
        ("DEFAULT_POOLS", "10.210.0.1/16"),
        ("DEFAULT_POOLS", "10.0.0.0/8,10.1.0.0/16"),
        ("DEFAULT_POOLS", "fd00::/64"),
        ("DEFAULT_POOL_PREFIX", "31"),
        ("ADDRESS_QUARANTINE_S", "1.5"),
        ("NODE_GC_AFTER_H", "9000"),
        ("IDENTITY_LABELS", "a*b"),
        ("IDENTITY_LABELS", "!"),
        ("IDENTITY_LABELS", ","),
        ("POLICY_ENFORCEMENT", "on"),
        ("POLICY_AUDIT", "1"),
        ("MASQUERADE_PORTS", "10240"),
        ("MASQUERADE_PORTS", "1023-9999"),
        ("MASQUERADE_PORTS", "2048-3070"),
        ("MASQUERADE_PORTS", "32767-10240"),
        ("MASQUERADE_PORTS", "60000-65536"),
        ("MASQUERADE_EXCLUDE", "10.0.0.1/8"),
        ("MASQUERADE_EXCLUDE", "::/0"),
        ("SERVICE_TRANSLATION", "sockets"),
        ("LOG_LEVEL", "verbose"),
        ("STATE_DIR", "data"),
    ],
)
def test_wrong_value_is_refused_with_name_value_and_rule(name: str, text: str) -> None:
    rule = next(row.rule for row in TABLE if row.name == name)

    with pytest.raises(InvalidInput) as caught:
        Settings.from_env({name: text})

    assert f"{name}={text!r}: must be {rule}" == str(caught.value)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"ETCD_ENDPOINTS": "https://a:1", "ETCD_CA": "/ca", "ETCD_CERT": "/cert"},
            "ETCD_CERT and ETCD_KEY: must be set both or neither",
        ),
        (
            {"ETCD_ENDPOINTS": "https://a:1", "ETCD_CERT": "/cert", "ETCD_KEY": "/key"},
            "ETCD_CA: must be set when ETCD_CERT is, or the server could be anyone",
        ),
        (
            {"ETCD_ENDPOINTS": "https://a:1,http://b:1"},
            "ETCD_ENDPOINTS: must be all https:// or all http://, not a mixture",
        ),
        (
            {"ETCD_CA": "/ca"},
            "ETCD_CA: is of use with https:// in ETCD_ENDPOINTS only; set both or neither",
        ),
        (
            {"DEFAULT_POOLS": "10.1.0.0/16", "DEFAULT_POOL_PREFIX": "12"},
            "DEFAULT_POOL_PREFIX=12: must not be shorter than the pool 10.1.0.0/16 of DEFAULT_POOLS",
        ),
    ],
)
def test_settings_that_contradict_one_another_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env(environ)

    assert message == str(caught.value)


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings.from_env({"MTU": "9", "SCOPE": "x"})

    assert "MTU='9'" in str(caught.value)
    assert "SCOPE='x'" in str(caught.value)
