"""The thread that tends the tables of connections."""

from __future__ import annotations

from ipaddress import IPv4Address

from datapath.api import DatapathConfig
from datapath.fake import FakeDatapath
from model.errors import DatapathError
from plugin.sweeper import Sweeper
from tests.support import wait


def started() -> FakeDatapath:
    datapath = FakeDatapath()
    datapath.start(DatapathConfig(node_address=IPv4Address("10.0.0.1"), tunnel_port=8472, mtu_bytes=1450))
    return datapath


def test_it_sweeps_again_and_again_also_after_a_failure() -> None:
    datapath = started()
    datapath.failures["sweep"] = DatapathError("busy")
    sweeper = Sweeper(datapath, period_s=0.01, probe_period_s=0.005)

    sweeper.start()
    wait.until("sweeps", lambda: datapath.sweeps >= 3, timeout_s=5)
    sweeper.stop()
    sweeper.stop()

    done = datapath.sweeps
    assert "sweep" not in datapath.failures
    assert done >= 3


def test_it_looks_for_half_open_connections_more_often_also_after_a_failure() -> None:
    datapath = started()
    datapath.failures["probe_half_open"] = DatapathError("busy")
    sweeper = Sweeper(datapath, period_s=3600, probe_period_s=0.005)

    sweeper.start()
    wait.until("looks", lambda: datapath.probes >= 3, timeout_s=5)
    sweeper.stop()

    assert "probe_half_open" not in datapath.failures
    assert datapath.sweeps == 0
