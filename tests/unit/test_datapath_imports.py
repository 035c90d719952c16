"""What the datapath must not drag into the agent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_only_the_messages_of_pyroute2_are_loaded() -> None:
    code = "import json, sys, datapath.linux, datapath.underlay; print(json.dumps(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    loaded = json.loads(printed)

    assert "pyroute2.netlink.rtnl.ifinfmsg" in loaded
    assert not {"asyncio", "pyroute2.iproute", "pyroute2.ndb", "bcc", "datapath.compile"} & set(loaded)
