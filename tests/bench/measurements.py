"""What is measured between a client and a server, one after the other: each call is one sample of one or more figures.

Both ends are pinned, so that a figure does not depend on where the scheduler happened to put them: to one processor
each where the path's throughput is asked for, to the same one where its latency is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.bench.figures import Better
from tests.bench.machine_cpu import busy_s
from tests.bench.places import Place, PlaceFailed

BULK_PORT: Final = 5201
DATAGRAM_PORT: Final = 7001
ECHO_PORT: Final = 7002
ASK_PORT: Final = 7003
TCP_PORTS: Final = (BULK_PORT, ECHO_PORT, ASK_PORT)
UDP_PORTS: Final = (DATAGRAM_PORT,)
DATAGRAM_BYTES: Final = 64
_SENDS: Final = "taskset -c 0"
_RECEIVES: Final = "taskset -c 1"
_BOTH: Final = "taskset -c 1"
_CUBIC: Final = "LD_PRELOAD=$CUBIC"
"""Linux's own choice; what a machine may have been set to, like BBR, sends in a rhythm of its own, and iperf3 changes
it too late."""
_PERCENTILE: Final = re.compile(r"percentile (50|99)\.000 =\s*([0-9.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two ends of a path."""

    client: Place
    server: Place
    address: str
    """That the client asks; the server's, or one that leads there."""
    ask_port: int = ASK_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a figure is, whoever it is of."""

    name: str
    title: str
    unit: str
    better: Better


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Something that is run between two ends, and the figures that it gives."""

    name: str
    kinds: tuple[Kind, ...]
    run: Callable[[Pair], tuple[float, ...]]
    """Returns a value for each kind."""


def measurements(*, quick: bool) -> Mapping[str, Measurement]:
    """All of them, by name; short ones in a quick run."""
    long, datagrams_ms, echo_s, ask_ms = ("-n 600M", 250, 1, 250) if quick else ("-n 3000M", 400, 1, 400)
    made = (
        Measurement(
            name="tcp-1",
            kinds=(
                _kind("tcp-1", "bulk TCP, 1 stream", "Gbit/s", Better.HIGHER),
                _kind("cpu-gigabyte", "CPU, whole machine, bulk TCP, 1 stream", "CPU s/GB", Better.LOWER),
            ),
            run=lambda pair: bulk(pair, streams=1, long=long),
        ),
        Measurement(
            name="tcp-4",
            kinds=(_kind("tcp-4", "bulk TCP, 4 streams", "Gbit/s", Better.HIGHER),),
            run=lambda pair: bulk(pair, streams=4, long=long)[:1],
        ),
        Measurement(
            name="udp-64",
            kinds=(
                _kind("udp-64", "64-byte UDP received", "packets/s", Better.HIGHER),
                _kind("cpu-packets", "CPU, whole machine, 64-byte UDP", "CPU s/10⁶ packets", Better.LOWER),
            ),
            run=lambda pair: datagrams(pair, ms=datagrams_ms),
        ),
        Measurement(
            name="echo",
            kinds=(
                _kind("echo-p50", "TCP request/response, p50", "µs", Better.LOWER),
                _kind("echo-p99", "TCP request/response, p99", "µs", Better.LOWER),
            ),
            run=lambda pair: echo(pair, seconds=echo_s),
        ),
        Measurement(
            name="connections",
            kinds=(_kind("connections", "connections: open, ask, close", "per second", Better.HIGHER),),
            run=lambda pair: (connections(pair, ms=ask_ms),),
        ),
    )
    return {one.name: one for one in made}


def serve(server: Place) -> None:
    """Start the servers that stay; those of bulk and datagrams are started for each sample, by whoever takes it."""
    server.start("echo", f"{_CUBIC} {_BOTH} sockperf server --tcp -i 0.0.0.0 -p {ECHO_PORT}", says="using recvfrom")
    server.start("ask", f"{_BOTH} speed serve {ASK_PORT}", says="ready")


def bulk(pair: Pair, *, streams: int, long: str) -> tuple[float, float]:
    """Gbit/s that the receiver got by iperf3, and CPU seconds of the machine for each 10⁹ bytes."""
    pair.server.start("bulk", f"{_CUBIC} {_RECEIVES} iperf3 -s -1 -p {BULK_PORT} --forceflush", says="listening")
    before = busy_s()
    try:
        command = f"{_CUBIC} {_SENDS} iperf3 -c {pair.address} -p {BULK_PORT} {long} -P {streams} -J"
        said = pair.client.run(command)
    except PlaceFailed:
        pair.server.end("bulk")
        raise
    spent_s = busy_s() - before
    pair.server.join("bulk")
    received = json.loads(said)["end"]["sum_received"]
    return received["bits_per_second"] / 1e9, spent_s / (received["bytes"] / 1e9)


def datagrams(pair: Pair, *, ms: int) -> tuple[float, float]:
    """Datagrams a second that a program received from one socket, and CPU seconds of the machine for 10⁶ of them."""
    pair.server.start("datagrams", f"{_RECEIVES} speed receive {DATAGRAM_PORT}", says="ready")
    before = busy_s()
    try:
        command = f"{_SENDS} speed send {pair.address} {DATAGRAM_PORT} {DATAGRAM_BYTES} {ms}"
        _, took_ns = map(int, pair.client.run(command).split()[-2:])
        spent_s = busy_s() - before
    finally:
        said = pair.server.stop("datagrams")
    packets, _ = map(int, said.split()[-2:])
    if packets == 0:
        raise PlaceFailed(f"{pair.server.name}: no datagrams from {pair.client.name}")
    return packets / (took_ns / 1e9), spent_s / (packets / 1e6)


def echo(pair: Pair, *, seconds: int) -> tuple[float, float]:
    """p50 and p99 of a round trip of 64 bytes there and back, in microseconds, by sockperf."""
    asks = f"sockperf ping-pong --tcp --full-rtt -m 64 -i {pair.address} -p {ECHO_PORT} -t {seconds}"
    said = pair.client.run(f"{_CUBIC}:$NO_SLEEP {_BOTH} {asks}", timeout_s=seconds + 20)
    found = dict(_PERCENTILE.findall(said))
    if len(found) != 2:
        raise PlaceFailed(f"{pair.client.name}: no percentiles of {pair.address}")
    return float(found["50"]), float(found["99"])


def connections(pair: Pair, *, ms: int) -> float:
    """Connections a second, one after the other, that were opened, answered and closed."""
    said = pair.client.run(f"{_BOTH} speed connect {pair.address} {pair.ask_port} {ms}")
    answered, failed, took_ns = map(int, said.split()[-3:])
    if failed:
        raise PlaceFailed(f"{pair.client.name}: {failed} of {answered + failed} connections to {pair.address} failed")
    return answered / (took_ns / 1e9)


def _kind(name: str, title: str, unit: str, better: Better) -> Kind:
    return Kind(name=name, title=title, unit=unit, better=better)
