"""From the agent's state to the document of ``/v1/policies/trace``."""

from __future__ import annotations

from datapath.api import Direction
from model.labels import Labels
from model.policy_answers import RuleReference, Trace, TraceQuestion, TraceStep
from observe.state import AgentState
from observe.trace_document import (
    RuleDocument,
    TraceDocument,
    TraceEndDocument,
    TracePairDocument,
    TraceQuestionDocument,
    TraceStepDocument,
)
from observe.trace_question import End, Questions, ServiceEnd, read_questions


def trace(state: AgentState, asked: TraceQuestionDocument) -> TraceDocument:
    """Describe whether a connection is allowed, and why; to or from a service, whether each is that it may become."""
    questions = read_questions(state, asked)
    pairs = [_pair(state, asked, questions, question, state.policies.trace(question)) for question in questions.each]
    telling = next((pair for pair in pairs if not pair.allowed), pairs[0])
    return TraceDocument(
        allowed=telling.allowed,
        source=_end(state, asked.source, questions.source, None),
        destination=_end(state, asked.destination, questions.destination, None),
        protocol=None if questions.port.protocol is None else questions.port.protocol.name,
        port=questions.port.port,
        port_name=questions.port.name,
        steps=telling.steps,
        pairs=pairs,
    )


def _pair(
    state: AgentState, asked: TraceQuestionDocument, questions: Questions, question: TraceQuestion, answer: Trace
) -> TracePairDocument:
    return TracePairDocument(
        allowed=answer.allowed,
        source=_end(state, asked.source, question.source, questions.source),
        destination=_end(state, asked.destination, question.destination, questions.destination),
        protocol=None if question.protocol is None else question.protocol.name,
        port=question.port,
        port_name=question.port_name,
        steps=[_step(step) for step in answer.steps],
    )


def _end(state: AgentState, text: str, end: End | ServiceEnd, behind: End | ServiceEnd | None) -> TraceEndDocument:
    service = behind.name if isinstance(behind, ServiceEnd) else None
    if isinstance(end, ServiceEnd):
        return TraceEndDocument(text=text, identity=None, labels={}, address=None, service=end.name)
    if isinstance(end, Labels):
        return TraceEndDocument(text=text, identity=None, labels=dict(end.pairs), address=None, service=service)
    if isinstance(end, int):
        labels = state.policies.labels_of(end)
        return TraceEndDocument(text=text, identity=end, labels=dict(labels.pairs), address=None, service=service)
    return TraceEndDocument(text=text, identity=None, labels={}, address=str(end), service=service)


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
