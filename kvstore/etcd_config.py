"""Where etcd is and how to reach it safely; checked when it is made, so that a bad setting is told at start.

Plain HTTP carries the cluster's whole state, and lets anyone who can reach the port change it. It is accepted to the
own host, and elsewhere only by name (``allow_plaintext``).
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from model.errors import InvalidInput

_PORT: Final = 2379


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdConfig:
    """Members of one etcd cluster and the credentials for them.

    Raises:
        InvalidInput: a setting is malformed, contradicts another one, or names a file that cannot be used; the message
            names the setting of the plugin and what to change.
    """

    endpoints: tuple[str, ...]
    """``https://host:port`` of the members, the one to prefer first."""
    ca: Path | None = None
    """PEM file with the authority that signed the members' certificates."""
    cert: Path | None = None
    """PEM file with the client's certificate."""
    key: Path | None = None
    """PEM file with the client's key."""
    allow_plaintext: bool = False
    """Accept ``http://`` to another host."""
    timeout_s: float = 3.0
    """Longest time of one call, failover included."""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise InvalidInput("ETCD_ENDPOINTS is empty: give at least one endpoint like https://192.0.2.1:2379")
        if self.timeout_s <= 0:
            raise InvalidInput(f"the time limit for etcd is {self.timeout_s} s: it must be more than 0")
        for endpoint in self.endpoints:
            self._check(endpoint)
        if (self.cert is None) != (self.key is None):
            raise InvalidInput("ETCD_CERT and ETCD_KEY belong together: set both or none")
        self._check_files()

    @property
    def secure(self) -> bool:
        """Whether the members are reached by TLS."""
        return self.ca is not None

    @property
    def targets(self) -> tuple[str, ...]:
        """The members as ``host:port``."""
        return tuple(_target(_split(endpoint)) for endpoint in self.endpoints)

    def _check(self, endpoint: str) -> None:
        parts = _split(endpoint)
        if parts.scheme == "https":
            if self.ca is None:
                raise InvalidInput(f"ETCD_ENDPOINTS {endpoint} is https: set ETCD_CA to the file of its authority")
            return
        if self.ca is not None or self.cert is not None:
            raise InvalidInput(f"ETCD_ENDPOINTS {endpoint} is plain http, but ETCD_CA or ETCD_CERT is set: use https")
        if not (self.allow_plaintext or _is_loopback(parts.hostname or "")):
            raise InvalidInput(
                f"ETCD_ENDPOINTS {endpoint} is plain http to another host, anyone on the way could read and change the "
                "cluster's state: use https with ETCD_CA, ETCD_CERT and ETCD_KEY, or set ETCD_ALLOW_PLAINTEXT=true"
            )

    def _check_files(self) -> None:
        # gRPC reports a bad file only as a connection that never comes up.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            try:
                context.load_verify_locations(cafile=self.ca)
            except (OSError, ssl.SSLError) as err:
                raise InvalidInput(f"ETCD_CA {self.ca} is not a readable PEM certificate: {err}") from err
        if self.cert is not None and self.key is not None:
            try:
                # Without the password function OpenSSL would ask on the terminal.
                context.load_cert_chain(self.cert, self.key, password=lambda: "")
            except (OSError, ssl.SSLError) as err:
                raise InvalidInput(
                    f"ETCD_CERT {self.cert} and ETCD_KEY {self.key} are not a readable, matching pair: {err}"
                ) from err


def _split(endpoint: str) -> SplitResult:
    wrong = InvalidInput(f"ETCD_ENDPOINTS {endpoint!r} is not an endpoint like https://192.0.2.1:2379")
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError as err:
        raise wrong from err
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
    plain = endpoint.isascii() and endpoint.isprintable() and " " not in endpoint and "," not in endpoint
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or extra or not plain:
        raise wrong
    return parts


def _target(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]:{parts.port or _PORT}" if ":" in host else f"{host}:{parts.port or _PORT}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
