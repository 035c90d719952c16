"""What an operator can set: one table of environment variables, one frozen object made from it.

:data:`TABLE` is the only place where a variable's name, default, unit, rule and help stand. ``plugin/config.json`` and
``docs/settings.md`` (:mod:`plugin.settings_document`) repeat it for Docker and for readers, and a test holds them
against it. How a value is read stands in :mod:`plugin.setting_rules`.

An empty value means the default, everywhere: Docker hands over every variable of ``config.json``, set or not, and
``docker plugin upgrade`` keeps old values but gives new variables none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from model.errors import InvalidInput
from model.ids import NodeName, node_name
from model.policies import PolicyMode
from plugin.setting_rules import (
    PortRange,
    boolean,
    endpoints,
    integer,
    interface,
    networks,
    node_ip,
    optional,
    path,
    pools,
    port_range,
)
from policy.label_filter import DEFAULT_PATTERNS, LabelFilter

PLUGIN_SOCKET: Final = Path("/run/docker/plugins/hawse.sock")
"""Where dockerd looks for the plugin: the directory is Docker's, the name is the one in ``plugin/config.json``."""


class Scope(StrEnum):
    """Who allocates networks: each engine for itself, or the Swarm's leader for all."""

    AUTO = "auto"
    LOCAL = "local"
    GLOBAL = "global"


class ServiceTranslation(StrEnum):
    """Where virtual addresses of services are translated."""

    AUTO = "auto"
    """At sockets where the host allows it, otherwise in packets."""
    SOCKET = "socket"
    PACKET = "packet"


class LogLevel(StrEnum):
    """The least severe records that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The agent's settings, parsed and checked; ``None`` means «find out at start»."""

    etcd_endpoints: tuple[str, ...]
    """URLs of an etcd cluster; empty: the agent runs an etcd of its own."""
    etcd_ca: Path | None
    etcd_cert: Path | None
    etcd_key: Path | None
    etcd_allow_plaintext: bool
    embedded_etcd_port: int
    node_name: NodeName | None
    node_ip: ipaddress.IPv4Address | None
    underlay_if: str | None
    tunnel_port: int
    mtu: int | None
    """MTU of containers, in bytes."""
    scope: Scope
    default_pools: tuple[ipaddress.IPv4Network, ...]
    default_pool_prefix: int
    address_quarantine_s: int
    node_gc_after_h: int
    identity_labels: LabelFilter
    policy_enforcement: PolicyMode
    policy_audit: bool
    masquerade_ports: PortRange
    masquerade_exclude: tuple[ipaddress.IPv4Network, ...]
    service_translation: ServiceTranslation
    cgroup_root: Path | None
    bpffs_root: Path
    log_level: LogLevel
    agent_socket: Path
    state_dir: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the variables of :data:`TABLE`; others are ignored.

        Raises:
            InvalidInput: names every wrong variable with its value and its rule, one sentence each.
        """
        values: dict[str, object] = {}
        problems: list[str] = []
        for setting in TABLE:
            text = environ.get(setting.name, "").strip() or setting.default
            try:
                values[setting.field] = setting.parse(text)
            except (ValueError, InvalidInput):
                problems.append(f"{setting.name}={text!r}: must be {setting.rule}")
        if not problems:
            settings = cls(**values)  # type: ignore[arg-type] # the table's parsers and the fields: test_settings.py
            problems = _contradictions(settings)
            if not problems:
                return settings
        raise InvalidInput("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of the table: a variable, its rule and how it is read."""

    name: str
    default: str
    """As text, the way an operator would write it."""
    unit: str
    rule: str
    """Completes the sentence «must be …»."""
    help: str
    parse: Callable[[str], object]
    """Raises ValueError or InvalidInput when the rule is broken."""

    @property
    def field(self) -> str:
        """Name of the attribute in :class:`Settings`."""
        return self.name.lower()


def _contradictions(settings: Settings) -> list[str]:
    """Rules between settings that are each right on their own."""
    problems = []
    if (settings.etcd_cert is None) != (settings.etcd_key is None):
        problems.append("ETCD_CERT and ETCD_KEY: must be set both or neither")
    if settings.etcd_cert is not None and settings.etcd_ca is None:
        problems.append("ETCD_CA: must be set when ETCD_CERT is, or the server could be anyone")
    schemes = {urlsplit(url).scheme for url in settings.etcd_endpoints}
    if len(schemes) > 1:
        problems.append("ETCD_ENDPOINTS: must be all https:// or all http://, not a mixture")
    if settings.etcd_ca is not None and schemes != {"https"}:
        problems.append("ETCD_CA: is of use with https:// in ETCD_ENDPOINTS only; set both or neither")
    problems += [
        f"DEFAULT_POOL_PREFIX={settings.default_pool_prefix}: must not be shorter than the pool {pool} of DEFAULT_POOLS"
        for pool in settings.default_pools
        if pool.prefixlen > settings.default_pool_prefix
    ]
    return problems


TABLE: Final[tuple[Setting, ...]] = (
    Setting(
        name="ETCD_ENDPOINTS",
        default="",
        unit="URLs, comma separated",
        rule="URLs like https://10.0.0.1:2379, with a port and without a path, separated by commas",
        help="The etcd cluster that all nodes share. Empty: an etcd of this node's own, for a single host.",
        parse=endpoints,
    ),
    Setting(
        name="ETCD_CA",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/etc/opt/hawse/ca.pem",
        help="Certificate of the authority that signed the etcd servers' certificates. See «Certificates».",
        parse=optional(path),
    ),
    Setting(
        name="ETCD_CERT",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/etc/opt/hawse/client.pem",
        help="Certificate that this node shows to etcd.",
        parse=optional(path),
    ),
    Setting(
        name="ETCD_KEY",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/etc/opt/hawse/client.key",
        help="Private key of ETCD_CERT.",
        parse=optional(path),
    ),
    Setting(
        name="ETCD_ALLOW_PLAINTEXT",
        default="false",
        unit="",
        rule="true or false",
        help="Allow http:// to an etcd on another host: whoever can change that traffic rules the network.",
        parse=boolean,
    ),
    Setting(
        name="EMBEDDED_ETCD_PORT",
        default="2379",
        unit="TCP port",
        rule="a number from 1 to 65535",
        help="Port on 127.0.0.1 of the node's own etcd; of use while ETCD_ENDPOINTS is empty.",
        parse=integer(1, 65535),
    ),
    Setting(
        name="NODE_NAME",
        default="",
        unit="name",
        rule="1 to 63 letters, digits, '-', '_' or '.', first and last a letter or digit",
        help="Name of this host in the cluster, unique. Empty: the host's name.",
        parse=optional(node_name),
    ),
    Setting(
        name="NODE_IP",
        default="",
        unit="IPv4 address",
        rule="an IPv4 address of this host, like 10.0.0.1",
        help="Address that other nodes send tunnel packets to. Empty: the address of UNDERLAY_IF.",
        parse=optional(node_ip),
    ),
    Setting(
        name="UNDERLAY_IF",
        default="",
        unit="interface",
        rule="the name of an interface of this host, at most 15 characters",
        help="Interface that tunnel packets leave by. Empty: the one that has NODE_IP, or that the default route uses.",
        parse=optional(interface),
    ),
    Setting(
        name="TUNNEL_PORT",
        default="8472",
        unit="UDP port",
        rule="a number from 1 to 65535",
        help="VXLAN port, the same on all nodes. Docker's own overlay driver uses 4789.",
        parse=integer(1, 65535),
    ),
    Setting(
        name="MTU",
        default="",
        unit="bytes",
        rule="a number from 576 to 65535",
        help="Largest packet of a container. Empty: 50 less than the underlay's, so that a tunnel packet fits.",
        parse=optional(integer(576, 65535)),
    ),
    Setting(
        name="SCOPE",
        default="auto",
        unit="",
        rule="auto, local or global",
        help="Who allocates networks: this engine (local) or the Swarm's leader (global). auto: global in a Swarm.",
        parse=Scope,
    ),
    Setting(
        name="DEFAULT_POOLS",
        default="10.210.0.0/16",
        unit="CIDRs, comma separated",
        rule="IPv4 networks like 10.210.0.0/16 that do not overlap, separated by commas",
        help="Ranges that networks made without --subnet are cut from.",
        parse=pools,
    ),
    Setting(
        name="DEFAULT_POOL_PREFIX",
        default="24",
        unit="bits",
        rule="a number from 8 to 30",
        help="Prefix length of a network made without --subnet.",
        parse=integer(8, 30),
    ),
    Setting(
        name="ADDRESS_QUARANTINE_S",
        default="60",
        unit="seconds",
        rule="a number from 0 to 86400",
        help="A released address is not given out again for this long unless nothing else is free.",
        parse=integer(0, 86400),
    ),
    Setting(
        name="NODE_GC_AFTER_H",
        default="168",
        unit="hours",
        rule="a number from 0 to 8760",
        help="What a node left behind is removed when its agent was silent for this long. 0: never.",
        parse=integer(0, 8760),
    ),
    Setting(
        name="IDENTITY_LABELS",
        default=DEFAULT_PATTERNS,
        unit="patterns, comma separated",
        rule="patterns of label keys like app, com.example.* or !com.example.*, separated by commas",
        help="Labels that tell containers apart, and that policies can select by. See «Labels and identities».",
        parse=LabelFilter.parse,
    ),
    Setting(
        name="POLICY_ENFORCEMENT",
        default="default",
        unit="",
        rule="default, always or never",
        help="Who is closed by default: what policies select (default), everything (always) or nothing (never).",
        parse=PolicyMode,
    ),
    Setting(
        name="POLICY_AUDIT",
        default="false",
        unit="",
        rule="true or false",
        help="Report what policies would deny, and let it pass.",
        parse=boolean,
    ),
    Setting(
        name="MASQUERADE_PORTS",
        default="10240-32767",
        unit="ports",
        rule="two ports like 10240-32767, the first from 1024 on, at least 1024 ports",
        help="Ports of the host that connections of containers leave by; not those of net.ipv4.ip_local_port_range.",
        parse=port_range,
    ),
    Setting(
        name="MASQUERADE_EXCLUDE",
        default="",
        unit="CIDRs, comma separated",
        rule="IPv4 networks like 10.0.0.0/8, separated by commas",
        help="Ranges outside that containers reach with their own addresses: routers there know the way back.",
        parse=networks,
    ),
    Setting(
        name="SERVICE_TRANSLATION",
        default="auto",
        unit="",
        rule="auto, socket or packet",
        help="Where addresses of services are translated. auto: at sockets where the kernel and cgroup v2 allow it.",
        parse=ServiceTranslation,
    ),
    Setting(
        name="CGROUP_ROOT",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/sys/fs/cgroup",
        help="cgroup v2 directory above all containers. Empty: the host's cgroup v2 mount.",
        parse=optional(path),
    ),
    Setting(
        name="BPFFS_ROOT",
        default="/sys/fs/bpf",
        unit="path",
        rule="an absolute path as the plugin sees it",
        help="BPF file system in which programs and maps outlive the agent.",
        parse=path,
    ),
    Setting(
        name="LOG_LEVEL",
        default="info",
        unit="",
        rule="debug, info, warning or error",
        help="Least severe records that are written to the engine's log.",
        parse=LogLevel,
    ),
    Setting(
        name="AGENT_SOCKET",
        default="/host/run/hawse/agent.sock",
        unit="path",
        rule="an absolute path as the plugin sees it; /host/run is the host's /run",
        help="Socket of the agent, which the hawse command talks to.",
        parse=path,
    ),
    Setting(
        name="STATE_DIR",
        default="/data",
        unit="path",
        rule="an absolute path as the plugin sees it; /data outlives the plugin's upgrades",
        help="Where the agent keeps what must survive a restart: its own etcd's data and the last known scope.",
        parse=path,
    ),
)
