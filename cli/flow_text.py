"""From flows to text: one line each. Names come from other hosts; what is printed cannot steer a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, tzinfo
from typing import Final

from cli.flow_documents import Flow, FlowEnd
from cli.table import printable

_RESERVED: Final = "reserved:"
_UNSHOWN: Final = ("com.docker.", "hawse.")
"""Labels that begin so name no container to a human."""
_FEW: Final = 3
_POLICY_REASONS: Final = ("POLICY_DENIED", "POLICY_DENY")
_ICMP_TYPES: Final = {
    "icmp": {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"},
    "icmpv6": {1: "unreachable", 2: "too big", 3: "time exceeded", 128: "echo request", 129: "echo reply"},
}
_TITLES: Final = ("TIME", "VERDICT", "SOURCE", "DESTINATION", "PROTOCOL", "WHY")
_GAP: Final = "  "


def compact_line(flow: Flow, *, zone: tzinfo | None, today: date, with_policy: bool) -> str:
    """Write a flow for people.

    ``12:00:01.204 DROPPED web(1021) 10.1.0.5:41022 → db(1040) 10.1.1.7:5432 tcp policy denied (db-from-api spec.…)``

    Args:
        flow: what is written.
        zone: of the times; None: the host's own.
        today: a flow of another day has its date before the time.
        with_policy: name the rules of what was forwarded, too.
    """
    seen = datetime.fromisoformat(flow["time"]).astimezone(zone)
    when = _time(seen) if seen.date() == today else f"{seen:%Y-%m-%d} {_time(seen)}"
    words = (when, flow["verdict"], _source(flow), "→", _destination(flow), _protocol(flow), _why(flow, with_policy))
    return printable(" ".join(word for word in words if word)) + "\n"


class FlowTable:
    """Rows below their titles; columns grow with what comes, lines that are written stay as they are."""

    def __init__(self, *, zone: tzinfo | None, with_policy: bool) -> None:
        self._zone = zone
        self._with_policy = with_policy
        self._widths: list[int] = []

    def rows(self, flows: Sequence[Flow]) -> str:
        """Lay out the next flows; the titles come first."""
        lines = [self._cells(flow) for flow in flows]
        if not self._widths:
            lines.insert(0, list(_TITLES))
            self._widths = [0] * len(_TITLES)
        for column in range(len(_TITLES)):
            self._widths[column] = max(self._widths[column], *(len(line[column]) for line in lines), 0)
        return "".join(
            _GAP.join(cell.ljust(width) for cell, width in zip(line, self._widths, strict=True)).rstrip() + "\n"
            for line in lines
        )

    def _cells(self, flow: Flow) -> list[str]:
        seen = datetime.fromisoformat(flow["time"]).astimezone(self._zone)
        cells = (
            f"{seen:%Y-%m-%d} {_time(seen)}",
            flow["verdict"],
            _source(flow),
            _destination(flow),
            _protocol(flow),
            _why(flow, self._with_policy),
        )
        return [printable(cell) or "-" for cell in cells]


def end_name(end: FlowEnd) -> str:
    """Name an end: its container, else service, else labels, else what it is (``host``, ``world``)."""
    if name := end.get("pod_name"):
        return name
    if workloads := end.get("workloads"):
        return workloads[0]["name"]
    labels = [label for label in end["labels"] if not label.startswith((_RESERVED, *_UNSHOWN))]
    if labels:
        return ",".join(labels[:_FEW]) + (",…" if len(labels) > _FEW else "")
    reserved = [label.removeprefix(_RESERVED) for label in end["labels"] if label.startswith(_RESERVED)]
    return reserved[0] if reserved else "unknown"


def _source(flow: Flow) -> str:
    address = flow["IP"]["source"] if "IP" in flow else ""
    return _end(_source_name(flow), address, _ports(flow)[0])


def _destination(flow: Flow) -> str:
    address = flow["IP"]["destination"] if "IP" in flow else ""
    return _end(_destination_name(flow), address, _ports(flow)[1])


def _source_name(flow: Flow) -> str:
    service = flow.get("source_service")
    return _full_name(flow["source"]) if service is None else f"{service['name']} (service)"


def _destination_name(flow: Flow) -> str:
    service = flow.get("destination_service")
    return _full_name(flow["destination"]) if service is None else f"{service['name']} (service)"


def _full_name(end: FlowEnd) -> str:
    return f"{end_name(end)}({end['identity']})" if end["identity"] else end_name(end)


def _end(name: str, address: str, port: int | None) -> str:
    if not address:
        return name
    if port is None:
        return f"{name} {address}"
    return f"{name} [{address}]:{port}" if ":" in address else f"{name} {address}:{port}"


def _ports(flow: Flow) -> tuple[int, int] | tuple[None, None]:
    layer = flow.get("l4", {})
    for ports in (layer.get("TCP"), layer.get("UDP"), layer.get("SCTP")):
        if ports is not None:
            return ports["source_port"], ports["destination_port"]
    return None, None


def _protocol(flow: Flow) -> str:
    name = flow["protocol"]
    layer = flow.get("l4", {})
    message = layer.get("ICMPv4") or layer.get("ICMPv6")
    if message is not None:
        number = message["type"]
        name = f"{name} {_ICMP_TYPES.get(name, {}).get(number, f'type {number}')}"
    elif name.isdecimal():
        name = f"protocol {name}"
    return f"{name} reply" if flow["is_reply"] else name


def _why(flow: Flow, with_policy: bool) -> str:  # noqa: FBT001 - said by its name
    explanation = flow.get("policy_explanation", "")
    reason = flow.get("drop_reason_desc", "")
    if flow["verdict"] == "FORWARDED":
        return f"({explanation})" if with_policy and explanation else ""
    if reason not in _POLICY_REASONS:
        meaning = flow.get("drop_explanation", "")
        return reason.replace("_", " ").lower() + (f" ({meaning})" if meaning else "")
    verb = "policy would deny" if flow["verdict"] == "AUDIT" else "policy denied"
    because = explanation.removeprefix("would be ").removeprefix("denied by ")
    return f"{verb} ({because})" if because else verb


def _time(seen: datetime) -> str:
    return seen.isoformat(timespec="milliseconds")[11:23]


Writer = Callable[[Sequence[Flow]], str]
"""From the next flows to what is printed."""


def writer(output: str, *, with_policy: bool, zone: tzinfo | None = None) -> Writer:
    """Make the writer of an output format: ``compact`` or ``table``."""
    if output == "table":
        return FlowTable(zone=zone, with_policy=with_policy).rows
    return lambda flows: "".join(
        compact_line(flow, zone=zone, today=datetime.now(zone).date(), with_policy=with_policy) for flow in flows
    )
