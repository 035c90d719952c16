"""The settings as a document, ``docs/settings.md``; ``python3 -m plugin.settings_document`` prints it."""

from __future__ import annotations

import sys
from typing import Final

from plugin.settings import TABLE


def markdown() -> str:
    """The document."""
    rows = [
        f"| `{row.name}` | {f'`{row.default}`' if row.default else '(empty)'} | {row.unit} | {row.rule} | {row.help} |"
        for row in TABLE
    ]
    return "\n".join([_HEAD, *rows, _LABELS, _WAY_OUT, _CERTIFICATES])


_HEAD: Final = """\
# Settings

<!-- Made by «make settings»; do not edit. -->

Set while the plugin is disabled, for example `docker plugin set hawse:latest LOG_LEVEL=debug`. An empty value means
the default. A wrong value is refused with the name, the value and the rule: the engine's log has it, and so has every
`docker network create` until it is corrected.

| name | default | unit | must be | what it does |
|---|---|---|---|---|"""

_LABELS: Final = """
## Labels and identities

Containers whose labels are the same have one identity, a number from 256 to 65535 that the whole cluster knows, and
policies are about identities. `IDENTITY_LABELS` says which labels count: patterns of label keys, of which the last that
matches decides. `!` in front leaves a label out, and so does matching no pattern; `*` at the beginning or at the end
stands for any text. The default takes what users write and the names of services, stacks and projects, and leaves out
what differs from container to container or describes an image. Names of services alone would be:

```sh
docker plugin set hawse:latest IDENTITY_LABELS=com.docker.swarm.service.name,com.docker.compose.service
```

Labels that begin with `hawse.` always count, those that begin with `reserved:` never. The stack
(`com.docker.stack.namespace`) and the Compose project (`com.docker.compose.project`), which a NetworkPolicy takes for
the namespace, count unless a pattern leaves them out. At most 128 labels can count, with keys of 253 bytes, values of
1024 and 16 KiB together. All nodes of a cluster should have the same value.
"""

_WAY_OUT: Final = """
## Ports of masqueraded connections

Connections of containers to the outside get the address of their host and one of its ports from `MASQUERADE_PORTS`.
The host itself must use none of them for connections of its own: the agent does not start when they overlap
`net.ipv4.ip_local_port_range`. Either set other ports, or take them out of that range:

```sh
sysctl net.ipv4.ip_local_port_range             # Linux has 32768-60999 unless it was changed
docker plugin set hawse:latest MASQUERADE_PORTS=2048-9999
```

A port at which a program of the host listens may lie among them: it goes to the program.
"""

_CERTIFICATES: Final = """
## Certificates

The plugin sees the host's `/etc/opt` read-only as `/host/etc/opt`: put the files into `/etc/opt/hawse/` and set

```sh
docker plugin set hawse:latest ETCD_ENDPOINTS=https://10.0.0.1:2379 \\
    ETCD_CA=/host/etc/opt/hawse/ca.pem ETCD_CERT=/host/etc/opt/hawse/client.pem ETCD_KEY=/host/etc/opt/hawse/client.key
```

Another directory of the host takes its place with `docker plugin set hawse:latest etcd-tls.source=/srv/certificates`.
"""


if __name__ == "__main__":
    sys.stdout.write(markdown())
