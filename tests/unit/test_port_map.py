"""The port map of the engine: what is read, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.fields import Fields
from driver.port_map import PORT_MAP, read_port_map
from model.endpoints import PortRequest, Publication
from model.errors import InvalidInput, ProtocolError
from tests.support.driver_world import port

PORTS = st.integers(min_value=1, max_value=65535)
PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
ADDRESSES = st.one_of(
    st.just(""), st.just("0.0.0.0"), st.integers(0x0A000000, 0x0AFFFFFF).map(lambda n: str(IPv4Address(n)))
)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, object]:
    """One entry as engines send it."""
    first, last = sorted((draw(PORTS), draw(PORTS)))
    proto = draw(st.sampled_from(list(PROTOCOLS)))
    if PROTOCOLS[proto] == "sctp":
        return port(first, first, proto=proto, host_ip=draw(ADDRESSES))
    start, end = draw(st.sampled_from([(0, 0), (first, first), (first, last), (first, 0)]))
    return port(draw(PORTS), start, end, proto=proto, host_ip=draw(ADDRESSES))


def read(*ports: object) -> tuple[PortRequest, ...]:
    return read_port_map(Fields({PORT_MAP: list(ports)}, "Options"))


@given(entries())
def test_every_entry_of_an_engine_is_read(entry: dict[str, Any]) -> None:
    [request] = read(entry)

    assert (entry["Port"], PROTOCOLS[entry["Proto"]]) == (request.port, request.protocol)
    assert (entry["HostPort"], entry["HostPortEnd"] or entry["HostPort"]) == (
        request.first_host_port,
        request.last_host_port,
    )
    expected = None if entry["HostIP"] in {"", "0.0.0.0"} else IPv4Address(entry["HostIP"])
    assert expected == request.host_address


@given(st.lists(entries(), max_size=20))
def test_order_is_kept_and_only_certain_ports_count_once(sent: list[dict[str, object]]) -> None:
    each = [read(entry)[0] for entry in sent]

    assert read(*sent) == tuple(one for index, one in enumerate(each) if not one.is_certain or one not in each[:index])


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["Proto", "Port", "HostIP", "HostPort", "HostPortEnd"]), inner, max_size=5),
        ),
    )
)
def test_nothing_else_than_a_refusal_comes_of_anything(value: object) -> None:
    try:
        requests = read_port_map(Fields({PORT_MAP: value}))
    except InvalidInput:
        return

    for request in requests:
        assert 1 <= request.port <= 65535
        assert 0 <= request.first_host_port <= request.last_host_port <= 65535


@given(entries(), PORTS)
def test_what_is_chosen_meets_the_request(entry: dict[str, object], number: int) -> None:
    [request] = read(entry)
    publication = Publication(
        port=request.port, protocol=request.protocol, host_port=number, host_address=request.host_address
    )

    inside = not request.first_host_port or request.first_host_port <= number <= request.last_host_port
    assert inside == request.is_met_by(publication)


@pytest.mark.parametrize("absent", [{}, {PORT_MAP: None}, {PORT_MAP: []}])
def test_no_map_is_an_empty_one(absent: dict[str, object]) -> None:
    assert () == read_port_map(Fields(absent))


def test_every_ipv6_address_beside_every_ipv4_one_is_passed_over() -> None:
    alone = read(port(80, 8080))

    assert alone == read(port(80, 8080, host_ip="0.0.0.0"), port(80, 8080, host_ip="::"))
    assert alone == read(port(80, 8080, host_ip="::"), port(80, 8080))
    assert alone == read(port(80, 8080, host_ip="::ffff:0.0.0.0"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            port(80, 8080, host_ip="2001:db8::1"),
            "ports cannot be published on 2001:db8::1: hawse publishes on IPv4 only",
        ),
        (port(80, 8080, host_ip="::1"), "ports cannot be published on ::1: hawse publishes on IPv4 only"),
        (port(80, 8080, host_ip="::"), "port 80/tcp cannot be published on [::]"),
        (port(80, 8080, host_ip="224.0.0.1"), "224.0.0.1: it is no address of a host"),
        (port(80, 8080, host_ip="255.255.255.255"), "it is no address of a host"),
        (port(80, 8080, proto=1), "protocol 1 has no ports to publish"),
        (port(80, 8080, proto=132), "port 80/sctp can only be published as the same port of the host: -p 80:80/sctp"),
        (port(80, 0, proto=132), "port 80/sctp can only be published as the same port"),
        (port(80, 80, 90, proto=132), "port 80/sctp can only be published as the same port"),
        (port(0, 8080), "portmap[0].Port: 0 is not a port of a container"),
        (port(80, 8080, 8079), "host ports 8080-8079 are no range"),
        (port(80, 0, 8079), "host ports 0-8079 are no range"),
        (port(80, 65536), "portmap[0].HostPort: 65536 is not a port"),
        (port(-1, 80), "portmap[0].Port: -1 is not a port"),
    ],
)
def test_what_cannot_be_published_is_refused(entry: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(entry)

    assert said in str(caught.value)


def test_another_form_is_named_with_its_path() -> None:
    with pytest.raises(
        ProtocolError, match=r"^Options\.com\.docker\.network\.portmap\[1\]\.HostPort: expected an integer"
    ):
        read(port(), {"Proto": 6, "Port": 80, "HostPort": "8080"})
