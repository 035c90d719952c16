"""From the agent's state to the document of ``/v1/policies/trace``."""

from __future__ import annotations

from datapath.api import Direction
from model.labels import Labels
from model.policy_answers import RuleReference, TraceStep
from observe.state import AgentState
from observe.trace_document import (
    RuleDocument,
    TraceDocument,
    TraceEndDocument,
    TraceQuestionDocument,
    TraceStepDocument,
)
from observe.trace_question import End, read_question


def trace(state: AgentState, asked: TraceQuestionDocument) -> TraceDocument:
    """Describe whether a connection is allowed, and why."""
    question = read_question(state, asked)
    answer = state.policies.trace(question)
    return TraceDocument(
        allowed=answer.allowed,
        source=_end(state, asked.source, question.source),
        destination=_end(state, asked.destination, question.destination),
        protocol=None if question.protocol is None else question.protocol.name,
        port=question.port,
        port_name=question.port_name,
        steps=[_step(step) for step in answer.steps],
    )


def _end(state: AgentState, text: str, end: End) -> TraceEndDocument:
    if isinstance(end, Labels):
        return TraceEndDocument(text=text, identity=None, labels=dict(end.pairs), address=None)
    if isinstance(end, int):
        labels = state.policies.labels_of(end)
        return TraceEndDocument(text=text, identity=end, labels=dict(labels.pairs), address=None)
    return TraceEndDocument(text=text, identity=None, labels={}, address=str(end))


def _step(step: TraceStep) -> TraceStepDocument:
    return TraceStepDocument(
        direction=Direction(step.direction).value,
        endpoint=step.endpoint,
        enforced=step.enforced,
        selecting=list(step.selecting),
        matched=[_rule(rule) for rule in step.matched],
        allowed=step.allowed,
        reason=step.reason,
    )


def _rule(rule: RuleReference) -> RuleDocument:
    return RuleDocument(policy=rule.policy, path=rule.path, deny=rule.deny, revision=rule.revision)
