"""The tunnel device and the pair to the host's own stack, with their programs."""

from __future__ import annotations

from datapath import ipv4_settings, names, tc
from datapath.api import DatapathConfig
from datapath.links import Links, vxlan_is_usable
from datapath.netlink import Netlink
from datapath.programs import Programs


def ensure_tunnel(netlink: Netlink, links: Links, programs: Programs, config: DatapathConfig) -> int:
    """The VXLAN device with its program; made anew when it is another one than we need. Its ifindex.

    Raises:
        LinkError: the kernel refused.
    """
    link = links.find(names.TUNNEL_IFNAME)
    if link is not None and not vxlan_is_usable(link, port=config.tunnel_port):
        links.remove(link.ifname)
        link = None
    if link is None:
        link = links.create_vxlan(port=config.tunnel_port, mtu_bytes=config.mtu_bytes)
    tc.attach(netlink, ifindex=link.ifindex, hook=tc.OWN_INGRESS, program_fd=programs.from_overlay, name="from_overlay")
    if (link.mac, link.mtu_bytes, link.up) != (names.router_mac().packed, config.mtu_bytes, True):
        links.raise_vxlan(port=config.tunnel_port, mtu_bytes=config.mtu_bytes)
    return link.ifindex


def ensure_host_pair(netlink: Netlink, links: Links, programs: Programs, config: DatapathConfig) -> int:
    """The pair to the host's own stack with its program; the ifindex of our end.

    Raises:
        LinkError: the kernel refused.
    """
    ours = links.ensure_host_pair(mtu_bytes=config.mtu_bytes)
    tc.attach(netlink, ifindex=ours.ifindex, hook=tc.OWN_INGRESS, program_fd=programs.from_host, name="from_host")
    theirs = links.raise_host_pair(mtu_bytes=config.mtu_bytes)
    for ifindex in (ours.ifindex, theirs):
        ipv4_settings.apply(netlink, ifindex=ifindex, settings=ipv4_settings.INTO_THE_STACK)
    return ours.ifindex


def remove(links: Links) -> None:
    """Remove all interfaces that are ours, those of endpoints too.

    Raises:
        LinkError: the kernel refused.
    """
    for link in links.host_ends():
        links.remove(link.ifname)
    links.remove(names.HOST_PEER_IFNAME)
    tunnel = links.find(names.TUNNEL_IFNAME)
    if tunnel is not None and tunnel.kind == "vxlan":
        links.remove(names.TUNNEL_IFNAME)
