"""``GET /v1/flows``: the last flows of this node, and as they come; as one document, or one object a line.

Lines are for who hands flows on: they can be printed as they are, without looking into thousands a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Response, request

from model.errors import Exhausted, InvalidInput
from observe.document import ErrorDocument
from observe.flow_describe import page_document, page_lines
from observe.flow_document import FlowsDocument
from observe.flow_filter import parse_filter
from observe.flow_ring import CAPACITY, FlowLog

FLOWS_PATH: Final = "/v1/flows"
LINES_TYPE: Final = "application/x-ndjson"
_DOCUMENT_TYPE: Final = "application/json"
MAX_WAIT_S: Final = 5.0
"""Shorter than what a client waits for an answer (10 s) and the agent for its last answers when it stops (8 s)."""

_MAX_NUMBER: Final = 2**53


@dataclass(frozen=True, slots=True)
class FlowParameter:
    """One parameter of the query, for the API's description."""

    name: str
    description: str
    repeated: bool = True
    """Whether it may be there several times."""


FLOW_PARAMETERS: Final = (
    FlowParameter("since", "Only flows from this number on: next of the answer before.", repeated=False),
    FlowParameter(
        "epoch", "epoch of the answer that since is of; after a restart of the agent it is begun anew.", repeated=False
    ),
    FlowParameter("last", f"Only so many, the newest; at most {CAPACITY} are kept.", repeated=False),
    FlowParameter(
        "wait_s", f"While there is none, wait so many seconds for one; at most {MAX_WAIT_S:g}.", repeated=False
    ),
    FlowParameter("verdict", "FORWARDED, DROPPED or AUDIT; this and the following may be repeated: alternatives."),
    FlowParameter("drop_reason", "POLICY_DENIED, POLICY_DENY or another; or its number."),
    FlowParameter("direction", "Whose policy decided: ingress the destination's, egress the source's."),
    FlowParameter("protocol", "tcp, udp, icmp, icmpv6, sctp or a number."),
    FlowParameter("since_time", "Only flows from this time on, RFC 3339.", repeated=False),
    FlowParameter("label", "key=value, or key for any value; repeated: all of them, at the same end of the flow."),
    FlowParameter("from_label", "The same, of the source."),
    FlowParameter("to_label", "The same, of the destination."),
    FlowParameter("port", "A port at either end, or a range, 8000-8080."),
    FlowParameter("from_port", "The same, of the source."),
    FlowParameter("to_port", "The same, of the destination."),
    FlowParameter("ip", "An address at either end, or a prefix, 10.1.0.0/16."),
    FlowParameter("from_ip", "The same, of the source."),
    FlowParameter("to_ip", "The same, of the destination."),
    FlowParameter("identity", "An identity at either end: its number, or host, world, init, remote-node."),
    FlowParameter("from_identity", "The same, of the source."),
    FlowParameter("to_identity", "The same, of the destination."),
    FlowParameter("container", "Name of a container at either end; * and ? stand for other characters."),
    FlowParameter("from_container", "The same, of the source."),
    FlowParameter("to_container", "The same, of the destination."),
    FlowParameter(
        "service", "Name of a service whose virtual address or container is at either end; * and ? as for containers."
    ),
    FlowParameter("from_service", "The same, of the source."),
    FlowParameter("to_service", "The same, of the destination."),
)


def flow_view(log: FlowLog) -> Callable[[], Response]:
    """Make the view function of :data:`FLOWS_PATH`.

    It answers 400 for a parameter that cannot be read and 429 when too many requests wait already.
    """
    encoder = msgspec.json.Encoder()

    def flows() -> Response:
        try:
            page = read_flows(log, request.args.to_dict(flat=False))
        except InvalidInput as err:
            return _json(ErrorDocument(error=str(err)), HTTPStatus.BAD_REQUEST)
        except Exhausted as err:
            return _json(ErrorDocument(error=str(err)), HTTPStatus.TOO_MANY_REQUESTS)
        if request.accept_mimetypes.best_match((_DOCUMENT_TYPE, LINES_TYPE)) == LINES_TYPE:
            return Response(encoder.encode_lines(page_lines(page)), mimetype=LINES_TYPE)
        return _json(page, HTTPStatus.OK)

    return flows


def read_flows(log: FlowLog, parameters: Mapping[str, Sequence[str]]) -> FlowsDocument:
    """Answer one request.

    Raises:
        InvalidInput: a parameter is not known or cannot be read; the message names it.
        Exhausted: too many requests wait already.
    """
    left = dict(parameters)
    since = _whole(left, "since")
    last = _whole(left, "last")
    epoch = _once(left, "epoch")
    wait_s = _seconds(left, "wait_s")
    page = log.read(since=since, epoch=epoch, last=last, wait_s=wait_s, predicate=parse_filter(left))
    return page_document(log, page)


def _once(parameters: dict[str, Sequence[str]], name: str) -> str | None:
    values = parameters.pop(name, ())
    if len(values) > 1:
        raise InvalidInput(f"{name}: given {len(values)} times")
    return values[0] if values else None


def _whole(parameters: dict[str, Sequence[str]], name: str) -> int | None:
    text = _once(parameters, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(_MAX_NUMBER)):
        raise InvalidInput(f"{name}: {text[:80]!r} is not a whole number from 0 on")
    return int(text)


def _seconds(parameters: dict[str, Sequence[str]], name: str) -> float:
    text = _once(parameters, name)
    try:
        seconds = 0.0 if text is None else float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidInput(f"{name}: {str(text)[:80]!r} is not a number of seconds")
    return min(seconds, MAX_WAIT_S)


def _json(document: object, status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode(document), status=status, mimetype=_DOCUMENT_TYPE)
