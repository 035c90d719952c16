"""The message classes of pyroute2, and nothing else of it.

Importing the package runs its ``__init__``, which loads every kind of socket it has, an event loop and a database of
interfaces: 19 MB that an agent with a memory budget would carry for nothing. The messages need none of it, so the
package is made known without being run, unless somebody has imported it already. Nothing outside of this module imports
pyroute2.
"""

from __future__ import annotations

import importlib.util
import sys


def _without_the_rest() -> None:
    if "pyroute2" in sys.modules:
        return
    spec = importlib.util.find_spec("pyroute2")
    if spec is None:
        raise ModuleNotFoundError("pyroute2 is not installed", name="pyroute2")
    sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)


_without_the_rest()

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: E402
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: E402
from pyroute2.netlink.rtnl.tcmsg import tcmsg  # noqa: E402

__all__ = ["ifaddrmsg", "ifinfmsg", "rtmsg", "tcmsg"]
