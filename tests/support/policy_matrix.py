"""One row of the policy matrix: policies are applied, everybody tries everybody, and all that tells of it must agree.

For every probe of a row: what became of it, what ``hawse policy trace`` says, and of a denied one what ``hawse
observe`` says on the node that denied it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from cli.policy_documents import Trace
from tests.support import wait
from tests.support.cast import Cast
from tests.support.node import Node
from tests.support.probe import Outcome, Probe, Protocol, Spot, Tried

_AT_ONCE: Final = 32
_REPORTED_S: Final = 15
_ROLLOUT_S: Final = 30
_BEFORE: Final = timedelta(seconds=10)
_NO_RULE: Final = "no rule allows it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """Why a probe is denied, and where."""

    direction: str
    """``egress``: at the source; ``ingress``: at the destination."""
    rule: str = ""
    """Policy and path of the rule that denies; empty: no rule allows it."""
    selected_by: tuple[str, ...] = ()
    """Then the policies that would have to."""

    def __str__(self) -> str:
        return f"denied at {self.direction}: {self.explanation}"

    @property
    def explanation(self) -> str:
        """As flows say it."""
        return f"denied by {self.rule}" if self.rule else f"{_NO_RULE}; selected by {', '.join(self.selected_by)}"


class Open:
    """A probe is let through."""

    def __str__(self) -> str:
        return "open"


OPEN: Final = Open()
Expected: TypeAlias = Open | Denied
Document: TypeAlias = Mapping[str, object]


def no_rule(direction: str, *policies: str) -> Denied:
    """No rule allows it, and these policies ask for one."""
    return Denied(direction=direction, selected_by=policies)


def denied_by(direction: str, policy: str, path: str) -> Denied:
    """A rule denies it."""
    return Denied(direction=direction, rule=f"{policy} {path}")


@dataclass(frozen=True, slots=True)
class Row:
    """Policies, and who reaches whom under them.

    ``expected`` is by ``<role> > <role> <ports>``, with ports separated by spaces: ``7001`` (TCP and UDP),
    ``7001/tcp``, ``icmp``, or ``any`` for one port of both and ICMP. It holds for every pair of places, on one node
    and on two.
    """

    name: str
    documents: str
    expected: Mapping[str, Expected]


def policy(name: str, subject: Document, **spec: object) -> str:
    """A document of kind Policy; ``subject`` is a selector."""
    return _document("hawse/v1", "Policy", {"name": name}, {"endpointSelector": subject, **spec})


def network_policy(namespace: str, name: str, subject: Document, **spec: object) -> str:
    """A document of kind NetworkPolicy; ``subject`` is a selector."""
    metadata = {"name": name, "namespace": namespace}
    return _document("networking.k8s.io/v1", "NetworkPolicy", metadata, {"podSelector": subject, **spec})


def labelled(**labels: str) -> Document:
    """A selector of these labels."""
    return {"matchLabels": labels}


def ports(*words: str) -> list[Document]:
    """A list for ``toPorts``: of ``7001/tcp``, ``7001``, ``pg``, ``7010-7019/udp``."""
    return [{"ports": [_port(word) for word in words]}]


def documents(*texts: str) -> str:
    """Several documents in one text."""
    return "---\n".join(texts)


class Matrix:
    """The nodes under policies, and the cast that tries them."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._applied = 0

    @contextmanager
    def under(self, text: str) -> Iterator[None]:
        """While the block runs, these policies hold on every node; another node applies them each time."""
        node = self._cast.nodes[self._applied % len(self._cast.nodes)]
        self._applied += 1
        if not text:
            yield
            return
        applied = node.hawse("policy", "apply", "-f", "-", f"--wait={_ROLLOUT_S}", stdin=text)
        assert applied.rc == 0, str(applied)
        try:
            yield
        finally:
            # Not waited for: whoever applies the next ones waits for this as well.
            deleted = node.hawse("policy", "delete", "-f", "-", stdin=text)
        assert deleted.rc == 0, str(deleted)

    def check(self, row: Row) -> None:
        """Everything of a row holds; all that does not is told at once."""
        with self.under(row.documents), ThreadPoolExecutor(_AT_ONCE) as pool:
            self._check(row.expected, pool)

    def _check(self, wanted: Mapping[str, Expected], pool: ThreadPoolExecutor) -> None:
        expected = {probe: one for text, one in wanted.items() for probe in self._probes(text)}
        traces = pool.map(lambda item: _trace_fault(*item), expected.items())
        began = datetime.now(UTC)
        tried = list(pool.map(lambda item: item[0].run(patient=item[1] is OPEN), expected.items()))
        faults = [
            f"{one.probe}: {one.outcome} ({one.error}), should be {expected[one.probe]}"
            for one in tried
            if (one.outcome is Outcome.OPEN) is not (expected[one.probe] is OPEN)
        ]
        denied = {one: why for one in tried if isinstance(why := expected[one.probe], Denied)}
        faults += [] if faults else _report_faults(denied, began, pool)
        faults += [fault for fault in traces if fault]
        faults += _command_faults(*next(iter(expected.items())))
        assert not faults, "\n".join(faults)

    def _probes(self, text: str) -> Iterator[Probe]:
        who, _, ports = text.partition(" > ")
        whom, *ports_asked = ports.split()
        for source in self._cast.spots[who]:
            for target in self._cast.spots[whom]:
                if _relation_holds(source, target):
                    for port, protocol in _ports(ports_asked):
                        yield Probe(source=source, target=target, protocol=protocol, port=port)


def trace(node: Node, source: str, target: str, dport: str) -> Trace:
    """What an agent answers to ``hawse policy trace``."""
    return node.agent().post("/v1/policies/trace", {"from": source, "to": target, "dport": dport}, Trace)


def dropped(node: Node, since: datetime) -> list[dict[str, Any]]:
    """What ``hawse observe`` tells of dropped packets."""
    told = node.hawse("observe", "--verdict", "DROPPED", "--since", since.isoformat(), "-o", "json")
    assert told.rc == 0, str(told)
    return [json.loads(line)["flow"] for line in told.out.splitlines()]


def _document(version: str, kind: str, metadata: Document, spec: Document) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}) + "\n"


def _port(word: str) -> Document:
    name, _, protocol = word.partition("/")
    first, _, last = name.partition("-")
    made: dict[str, object] = {"port": int(first) if first.isdecimal() else first}
    if last:
        made["endPort"] = int(last)
    if protocol:
        made["protocol"] = protocol.upper()
    return made


def _relation_holds(source: Spot, target: Spot) -> bool:
    """Nobody tries himself; a host is the other's own one, and a remote node another."""
    if source is target:
        return False
    for one, other in ((source, target), (target, source)):
        if one.role in {"host", "remote-node"} and (one.node is other.node) is not (one.role == "host"):
            return False
    return True


def _ports(words: Sequence[str]) -> Iterator[tuple[int, Protocol]]:
    for word in words:
        number, _, protocol = word.partition("/")
        if number == "icmp":
            yield 0, Protocol.ICMP
        elif number == "any":
            yield from ((7001, Protocol.TCP), (7001, Protocol.UDP), (0, Protocol.ICMP))
        elif protocol:
            yield int(number), Protocol(protocol)
        else:
            yield from ((int(number), Protocol.TCP), (int(number), Protocol.UDP))


def _trace_fault(probe: Probe, expected: Expected) -> str | None:
    """What the trace has wrong about a probe."""
    answer = trace(_asked(probe), probe.source.address, probe.target.address, probe.dport)
    if isinstance(expected, Open):
        return None if answer["allowed"] else f"trace of {probe}: denied: {answer['steps']}"
    for step in answer["steps"]:
        if step["direction"] == expected.direction and not step["allowed"]:
            denying = [f"{rule['policy']} {rule['path']}" for rule in step["matched"] if rule["deny"]]
            if not expected.rule and not denying and tuple(step["selecting"]) == expected.selected_by:
                return None
            if expected.rule and denying[:1] == [expected.rule]:
                return None
    return f"trace of {probe}: should be {expected.explanation}: {answer['steps']}"


def _command_faults(probe: Probe, expected: Expected) -> list[str]:
    """What the command has wrong: it tells what the agent answers."""
    node = _asked(probe)
    argv = ("policy", "trace", "--from", probe.source.address, "--to", probe.target.address, "--dport", probe.dport)
    told = node.hawse(*argv)
    verdict = "ALLOWED" if isinstance(expected, Open) else "DENIED"
    right = told.rc == (verdict == "DENIED") and told.out.endswith(f"Final verdict: {verdict}\n")
    return [] if right else [f"{probe} is {expected}: {told}"]


def _asked(probe: Probe) -> Node:
    """Whom to ask about a probe: hosts are told apart from where the container is."""
    return probe.target.place if probe.target.container else probe.source.place


def _report_faults(denied: Mapping[Tried, Denied], since: datetime, pool: ThreadPoolExecutor) -> list[str]:
    """What the reports of denied probes have wrong, or that there is none."""
    nodes = {node.name: node for node in (_deciding(one.probe, why) for one, why in denied.items())}

    def reported() -> list[str]:
        told = zip(nodes, pool.map(lambda node: dropped(node, since), nodes.values()), strict=True)
        flows = {(name, *_key(flow)): flow for name, reports in told for flow in reports}
        faults = []
        for one, why in denied.items():
            name = _deciding(one.probe, why).name
            flow = flows.get((name, *_key_of(one)))
            if flow is None:
                raise _NotReported(one, name)
            faults += _flow_faults(one.probe, why, flow)
        return faults

    if not denied:
        return []
    try:
        return wait.until_passes(reported, timeout_s=_REPORTED_S, interval_s=0.2)
    except _NotReported as missing:
        one = missing.tried
        ends = [spot.node for spot in (one.probe.source, one.probe.target) if spot.node is not None]
        seen = [
            f"{node.name}: {flow['time']} {flow['drop_reason_desc']}"
            for node in {node.name: node for node in ends}.values()
            for flow in dropped(node, since - _BEFORE)
            if _key(flow) == _key_of(one)
        ]
        return [f"{missing}, tried from {since} on; what there is, also from before: {seen}"]


class _NotReported(AssertionError):
    def __init__(self, tried: Tried, node: str) -> None:
        super().__init__(f"{tried.probe}: {tried.outcome} ({tried.error}), and no report of it on {node}")
        self.tried = tried


def _deciding(probe: Probe, why: Denied) -> Node:
    return probe.source.place if why.direction == "egress" else probe.target.place


def _key(flow: Mapping[str, Any]) -> tuple[str, ...]:
    layer4 = next(iter(flow["l4"].values()), {}) if "l4" in flow else {}
    ip = flow.get("IP", {})
    return (
        ip.get("source", ""),
        ip.get("destination", ""),
        flow["protocol"],
        str(layer4.get("source_port", "")),
        str(layer4.get("destination_port", "")),
    )


def _key_of(one: Tried) -> tuple[str, ...]:
    probe = one.probe
    ports = ("", "") if probe.protocol is Protocol.ICMP else (str(one.own_port), str(probe.port))
    return (probe.source.address, probe.target.address, probe.protocol.value, *ports)


def _flow_faults(probe: Probe, why: Denied, flow: Mapping[str, Any]) -> list[str]:
    direction = why.direction
    denying = [
        "/".join(filter(None, (one.get("namespace"), f"{one['name']} {one['rule']}")))
        for one in flow.get(f"{direction}_denied_by", [])
    ]
    facts = {
        "direction": (flow["traffic_direction"], direction.upper()),
        "reason": (flow["drop_reason_desc"], "POLICY_DENY" if why.rule else "POLICY_DENIED"),
        "source": (_end(flow["source"]), _end_of(probe.source)),
        "destination": (_end(flow["destination"]), _end_of(probe.target)),
        "denied by": (denying, [why.rule] if why.rule else []),
        "selected by": (tuple(flow.get("selected_by", ())), why.selected_by),
        "explanation": (flow.get("policy_explanation"), why.explanation),
        "node": (flow["node_name"], _deciding(probe, why).name),
    }
    return [
        f"report of {probe}: {name} is {told}, should be {meant}"
        for name, (told, meant) in facts.items()
        if told != meant
    ]


def _end(end: Mapping[str, Any]) -> tuple[frozenset[str], str, str]:
    return frozenset(end["labels"]), end.get("pod_name", ""), end.get("node", "")


def _end_of(spot: Spot) -> tuple[frozenset[str], str, str]:
    return spot.labels, spot.container, spot.place.name if spot.container else ""
