"""The texts of ``hawse bpf lb``, ``nat`` and ``published``: how the kernel translates addresses."""

from __future__ import annotations

from collections.abc import Iterator

from cli.table import Column, table
from cli.translation_documents import Frontend, Frontends, PublishedPorts, Translation, Translations
from cli.words import NOTHING, duration, left_out, share, socket, yes


def frontends(document: Frontends) -> str:
    """Render ``hawse bpf lb ls``: a line for each backend, what is the same for all stands once."""
    if not document["frontends"]:
        return "The kernel serves no service.\n"
    columns = (
        Column("VNI", right=True),
        Column("FRONTEND"),
        Column("SERVICE"),
        Column("AFFINITY"),
        Column("BACKEND"),
        Column("SLOTS", right=True),
        Column("SHARE", right=True),
        Column("CONTAINER"),
    )
    return table(columns, [line for frontend in document["frontends"] for line in _frontend(frontend)])


def translations(document: Translations) -> str:
    """Render ``hawse bpf nat ls``."""
    if not document["translations"]:
        return "No connection is translated.\n"
    columns = (
        Column("KIND"),
        Column("PROTOCOL"),
        Column("COMES AS"),
        Column("GOES ON AS"),
        Column("REPLY"),
        Column("IDLE", right=True),
    )
    lines = [_translation(translation) for translation in document["translations"]]
    return table(columns, lines) + left_out(document["left_out"])


def published(document: PublishedPorts) -> str:
    """Render ``hawse bpf published ls``."""
    if not document["ports"]:
        return "No port of this host is published for a container of hawse.\n"
    columns = (Column("HOST PORT"), Column("CONTAINER"), Column("ADDRESS"), Column("VNI", right=True))
    return table(
        columns,
        [
            (
                f"{socket(port['address'] or '*', port['port'])}/{port['protocol'].lower()}",
                port["container"] or NOTHING,
                socket(port["target"], port["target_port"]),
                str(port["vni"]),
            )
            for port in document["ports"]
        ],
    )


def _frontend(frontend: Frontend) -> Iterator[tuple[str, ...]]:
    port = "*" if frontend["port"] is None else frontend["port"]
    protocol = "any" if frontend["protocol"] is None else frontend["protocol"].lower()
    shown = (
        str(frontend["vni"]),
        f"{socket(frontend['address'], port)}/{protocol}",
        frontend["service"] or NOTHING,
        yes(frontend["affinity"]),
    )
    if not frontend["backends"]:
        yield (*shown, "none: refused", "0", NOTHING, NOTHING)
    for backend in frontend["backends"]:
        yield (
            *shown,
            socket(backend["address"], "*" if backend["port"] is None else backend["port"]),
            str(backend["slots"]),
            share(backend["share"]),
            backend["container"] or NOTHING,
        )
        shown = ("", "", "", "")


def _translation(translation: Translation) -> tuple[str, ...]:
    came = (
        socket(translation["source"], translation["source_port"]),
        socket(translation["destination"], translation["destination_port"]),
    )
    goes = (
        socket(translation["new_source"], translation["new_source_port"]),
        socket(translation["new_destination"], translation["new_destination_port"]),
    )
    return (
        translation["kind"],
        translation["protocol"],
        " → ".join(came),
        " → ".join(goes),
        yes(translation["reply"]),
        duration(translation["idle_s"]),
    )
