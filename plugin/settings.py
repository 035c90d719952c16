"""What an operator can set: one table of environment variables, one frozen object made from it.

:data:`TABLE` is the only place where a variable's name, default, unit, rule and help stand. ``plugin/config.json`` and
``docs/settings.md`` repeat it for Docker and for readers, and a test holds them against it;
``python3 -m plugin.settings --markdown`` prints the document.

An empty value means the default, everywhere: Docker hands over every variable of ``config.json``, set or not, and
``docker plugin upgrade`` keeps old values but gives new variables none.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar
from urllib.parse import urlsplit

from model.errors import InvalidInput
from model.ids import NodeName, node_name

_T = TypeVar("_T")

PLUGIN_SOCKET: Final = Path("/run/docker/plugins/hawse.sock")
"""Where dockerd looks for the plugin: the directory is Docker's, the name is the one in ``plugin/config.json``."""

_INTERFACE: Final = re.compile(r"[^\s/:]{1,15}")
"""What the kernel takes as an interface's name (``dev_valid_name`` in net/core/dev.c)."""


class Scope(StrEnum):
    """Who allocates networks: each engine for itself, or the Swarm's leader for all."""

    AUTO = "auto"
    LOCAL = "local"
    GLOBAL = "global"


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


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
            raise ValueError(text)
        return int(text)

    return parse


def _optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda text: parse(text) if text else None


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def _path(text: str) -> Path:
    if not PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        raise ValueError(text)
    return Path(text)


def _interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text) or text in {".", ".."}:
        raise ValueError(text)
    return text


def _node_ip(text: str) -> ipaddress.IPv4Address:
    address = ipaddress.IPv4Address(text)
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        raise ValueError(text)
    return address


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _endpoints(text: str) -> tuple[str, ...]:
    for url in _items(text):
        parts = urlsplit(url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or not parts.port
            or parts.username is not None
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
        ):
            raise ValueError(url)
    return tuple(url.rstrip("/") for url in _items(text))


def _pools(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    pools = tuple(ipaddress.IPv4Network(item) for item in _items(text))
    if not pools or any(one.overlaps(other) for one, other in itertools.combinations(pools, 2)):
        raise ValueError(text)
    return pools


TABLE: Final[tuple[Setting, ...]] = (
    Setting(
        name="ETCD_ENDPOINTS",
        default="",
        unit="URLs, comma separated",
        rule="URLs like https://10.0.0.1:2379, with a port and without a path, separated by commas",
        help="The etcd cluster that all nodes share. Empty: an etcd of this node's own, for a single host.",
        parse=_endpoints,
    ),
    Setting(
        name="ETCD_CA",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/etc/opt/hawse/ca.pem",
        help="Certificate of the authority that signed the etcd servers' certificates. See «Certificates».",
        parse=_optional(_path),
    ),
    Setting(
        name="ETCD_CERT",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/etc/opt/hawse/client.pem",
        help="Certificate that this node shows to etcd.",
        parse=_optional(_path),
    ),
    Setting(
        name="ETCD_KEY",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/etc/opt/hawse/client.key",
        help="Private key of ETCD_CERT.",
        parse=_optional(_path),
    ),
    Setting(
        name="ETCD_ALLOW_PLAINTEXT",
        default="false",
        unit="",
        rule="true or false",
        help="Allow http:// to an etcd on another host: whoever can change that traffic rules the network.",
        parse=_boolean,
    ),
    Setting(
        name="EMBEDDED_ETCD_PORT",
        default="2379",
        unit="TCP port",
        rule="a number from 1 to 65535",
        help="Port on 127.0.0.1 of the node's own etcd; of use while ETCD_ENDPOINTS is empty.",
        parse=_integer(1, 65535),
    ),
    Setting(
        name="NODE_NAME",
        default="",
        unit="name",
        rule="1 to 63 letters, digits, '-', '_' or '.', first and last a letter or digit",
        help="Name of this host in the cluster, unique. Empty: the host's name.",
        parse=_optional(node_name),
    ),
    Setting(
        name="NODE_IP",
        default="",
        unit="IPv4 address",
        rule="an IPv4 address of this host, like 10.0.0.1",
        help="Address that other nodes send tunnel packets to. Empty: the address of UNDERLAY_IF.",
        parse=_optional(_node_ip),
    ),
    Setting(
        name="UNDERLAY_IF",
        default="",
        unit="interface",
        rule="the name of an interface of this host, at most 15 characters",
        help="Interface that tunnel packets leave by. Empty: the one that has NODE_IP, or that the default route uses.",
        parse=_optional(_interface),
    ),
    Setting(
        name="TUNNEL_PORT",
        default="8472",
        unit="UDP port",
        rule="a number from 1 to 65535",
        help="VXLAN port, the same on all nodes. Docker's own overlay driver uses 4789.",
        parse=_integer(1, 65535),
    ),
    Setting(
        name="MTU",
        default="",
        unit="bytes",
        rule="a number from 576 to 65535",
        help="Largest packet of a container. Empty: 50 less than the underlay's, so that a tunnel packet fits.",
        parse=_optional(_integer(576, 65535)),
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
        parse=_pools,
    ),
    Setting(
        name="DEFAULT_POOL_PREFIX",
        default="24",
        unit="bits",
        rule="a number from 8 to 30",
        help="Prefix length of a network made without --subnet.",
        parse=_integer(8, 30),
    ),
    Setting(
        name="ADDRESS_QUARANTINE_S",
        default="60",
        unit="seconds",
        rule="a number from 0 to 86400",
        help="A released address is not given out again for this long unless nothing else is free.",
        parse=_integer(0, 86400),
    ),
    Setting(
        name="NODE_GC_AFTER_H",
        default="168",
        unit="hours",
        rule="a number from 0 to 8760",
        help="What a node left behind is removed when its agent was silent for this long. 0: never.",
        parse=_integer(0, 8760),
    ),
    Setting(
        name="CGROUP_ROOT",
        default="",
        unit="path",
        rule="an absolute path as the plugin sees it, like /host/sys/fs/cgroup",
        help="cgroup v2 directory above all containers. Empty: the host's cgroup v2 mount.",
        parse=_optional(_path),
    ),
    Setting(
        name="BPFFS_ROOT",
        default="/sys/fs/bpf",
        unit="path",
        rule="an absolute path as the plugin sees it",
        help="BPF file system in which programs and maps outlive the agent.",
        parse=_path,
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
        parse=_path,
    ),
    Setting(
        name="STATE_DIR",
        default="/data",
        unit="path",
        rule="an absolute path as the plugin sees it; /data outlives the plugin's upgrades",
        help="Where the agent keeps what must survive a restart: its own etcd's data and the last known scope.",
        parse=_path,
    ),
)


def markdown() -> str:
    """The table as a document: ``docs/settings.md``."""
    rows = [
        f"| `{row.name}` | {f'`{row.default}`' if row.default else '(empty)'} | {row.unit} | {row.rule} | {row.help} |"
        for row in TABLE
    ]
    return "\n".join([_HEAD, *rows, _CERTIFICATES])


_HEAD: Final = """\
# Settings

<!-- Made by «make settings»; do not edit. -->

Set while the plugin is disabled, for example `docker plugin set hawse:latest LOG_LEVEL=debug`. An empty value means
the default. A wrong value is refused with the name, the value and the rule: the engine's log has it, and so has every
`docker network create` until it is corrected.

| name | default | unit | must be | what it does |
|---|---|---|---|---|"""

_CERTIFICATES: Final = """
## Certificates

The plugin sees the host's `/etc/opt` read-only as `/host/etc/opt`: put the files into `/etc/opt/hawse/` and set

```sh
docker plugin set hawse:latest ETCD_ENDPOINTS=https://10.0.0.1:2379 \\
    ETCD_CA=/host/etc/opt/hawse/ca.pem ETCD_CERT=/host/etc/opt/hawse/client.pem ETCD_KEY=/host/etc/opt/hawse/client.key
```

Another directory of the host takes its place with `docker plugin set hawse:latest etcd-tls.source=/srv/certificates`.
"""


def main(arguments: list[str]) -> int:
    """Print the document."""
    if arguments != ["--markdown"]:
        sys.stderr.write("usage: python3 -m plugin.settings --markdown\n")
        return 2
    sys.stdout.write(markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
