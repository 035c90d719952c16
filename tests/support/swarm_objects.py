"""Objects of the engine's API as managers of 20.10 and 28 send them, with more fields than hawse reads."""

from __future__ import annotations

from typing import Any

NET = "net" + 22 * "n"
"""Docker's id of a Swarm's network."""
INGRESS = "ing" + 22 * "i"


def service(name: str, *, vip: str = "10.1.0.2/24", mode: str = "vip", **labels: str) -> dict[str, Any]:
    """One of the service list; it publishes a port, so it is in ``ingress`` too."""
    virtual = [{"NetworkID": INGRESS, "Addr": "10.0.0.7/24"}]
    if mode == "vip":
        virtual.append({"NetworkID": NET, "Addr": vip})
    return {
        "ID": name.ljust(25, "0"),
        "Version": {"Index": 40},
        "CreatedAt": "2026-01-01T00:00:00.000000001Z",
        "UpdatedAt": "2026-01-01T00:00:00.000000001Z",
        "Spec": {
            "Name": name,
            "Labels": labels,
            "TaskTemplate": {"ContainerSpec": {"Image": "web"}, "Networks": [{"Target": NET}], "Runtime": "container"},
            "Mode": {"Replicated": {"Replicas": 3}},
            "EndpointSpec": {"Mode": mode},
        },
        "Endpoint": {"Spec": {"Mode": mode}, "VirtualIPs": virtual},
    }


def task(
    of: str,
    slot: int,
    address: str = "",
    *,
    node: str = "s1",
    state: str = "running",
    desired: str = "running",
) -> dict[str, Any]:
    """One of the task list."""
    made: dict[str, Any] = {
        "ID": f"{of}t{slot}".ljust(25, "0"),
        "Version": {"Index": 41},
        "Labels": {},
        "Spec": {"ContainerSpec": {"Image": "web"}, "Networks": [{"Target": NET}], "ForceUpdate": 0},
        "ServiceID": of.ljust(25, "0"),
        "Slot": slot,
        "NodeID": node.ljust(25, "0"),
        "Status": {"Timestamp": "2026-01-01T00:00:01Z", "State": state, "Message": "started"},
        "DesiredState": desired,
        "NetworksAttachments": [
            {"Network": {"ID": INGRESS, "Spec": {"Name": "ingress"}}, "Addresses": ["10.0.0.9/24"]}
        ],
    }
    if address:
        made["NetworksAttachments"].append(
            {"Network": {"ID": NET, "DriverState": {"Name": "hawse:latest"}}, "Addresses": [address]}
        )
    return made


def node(name: str, address: str, *, state: str = "ready", manager: str = "") -> dict[str, Any]:
    """One of the node list."""
    made: dict[str, Any] = {
        "ID": name.ljust(25, "0"),
        "Spec": {"Labels": {}, "Role": "worker", "Availability": "active"},
        "Description": {"Hostname": name, "Platform": {"Architecture": "x86_64", "OS": "linux"}},
        "Status": {"State": state, "Addr": address},
    }
    if manager:
        made["ManagerStatus"] = {"Leader": True, "Reachability": "reachable", "Addr": manager}
    return made
