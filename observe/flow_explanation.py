"""Why a flow passed or not: the rules that decided, and a sentence for the operator."""

from __future__ import annotations

from dataclasses import dataclass

from datapath.api import Direction
from datapath.flow_event import FlowVerdict
from datapath.policy_table import FIRST_RULE, RULE_UNKNOWN_IDENTITY
from model.ids import IDENTITY_INIT
from model.policy_answers import RuleReference
from observe.drop_reasons import NO_BACKEND, POLICY_DENIED, POLICY_DENY, reason_meaning
from observe.flow import Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """A rule that decided, at one end."""

    direction: Direction
    deny: bool
    rule: RuleReference


def deciding_rules(flow: Flow) -> tuple[Deciding, ...]:
    """Find the known rules that decided: one, or of a connection inside this host one at each end."""
    event = flow.event
    found: list[Deciding] = []
    if flow.rule is not None:
        deny = event.verdict is not FlowVerdict.FORWARDED
        found.append(Deciding(direction=event.direction, deny=deny, rule=flow.rule))
    if flow.other_rule is not None and event.verdict is FlowVerdict.FORWARDED:
        found.append(Deciding(direction=Direction.INGRESS, deny=False, rule=flow.other_rule))
    return tuple(found)


def is_policy_verdict(flow: Flow) -> bool:
    """Whether a policy decided, and not the form of the packet or a missing destination."""
    event = flow.event
    if event.verdict is FlowVerdict.FORWARDED:
        return bool(event.rule or event.other_rule)
    return event.reason in {POLICY_DENIED, POLICY_DENY}


def explanation(flow: Flow) -> str:
    """Say why, in one line: ``denied by db-guard spec.ingressDeny[0]``; empty when no policy decided."""
    if not is_policy_verdict(flow):
        return ""
    verdict = flow.event.verdict
    if verdict is FlowVerdict.FORWARDED:
        return f"allowed by {' and '.join(_allowing(flow))}"
    denial = _denial(flow)
    return f"would be {denial}" if verdict is FlowVerdict.AUDIT and denial.startswith("denied") else denial


def drop_explanation(flow: Flow) -> str:
    """Say what the reason of a drop means when it was no policy; empty when the reason's name says enough."""
    if flow.event.verdict is not FlowVerdict.DROPPED:
        return ""
    destination = flow.destination
    if flow.event.reason == NO_BACKEND and destination.services:
        name = destination.services[0]
        return f"nobody answers for the service {name}; the client is refused: «hawse service get {name}»"
    return reason_meaning(flow.event.reason)


def _allowing(flow: Flow) -> list[str]:
    numbers = ((flow.event.rule, flow.rule), (flow.event.other_rule, flow.other_rule))
    named = [_rule(number, rule) for number, rule in numbers if number]
    return list(dict.fromkeys(named))


def _denial(flow: Flow) -> str:
    event = flow.event
    if event.rule == RULE_UNKNOWN_IDENTITY:
        return f"identity {flow.peer.identity} is not known on this node yet"
    if event.rule:
        return f"denied by {_rule(event.rule, flow.rule)}"
    if flow.selecting:
        return f"no rule allows it; selected by {', '.join(flow.selecting)}"
    if flow.judged.identity == IDENTITY_INIT:
        return "no rule allows it; the labels of the container are not known yet"
    return "no rule allows it; no policy that selects it is known"


def _rule(number: int, rule: RuleReference | None) -> str:
    if rule is not None:
        return f"{rule.policy} {rule.path}".rstrip()
    return f"rule {number}" + (", which is not known here any more" if number >= FIRST_RULE else "")
