"""How much a policy document may say; more than any real one does, and little enough to be judged at once."""

from __future__ import annotations

from typing import Final

TEXT_MAX_BYTES: Final = 512 * 1024
DOCUMENTS_MAX: Final = 256
"""In one text."""
DEPTH_MAX: Final = 64
FAULTS_MAX: Final = 100
"""A document that is wrong throughout is not worth a longer list."""

RULES_MAX: Final = 1024
"""In one section."""
PEERS_MAX: Final = 4096
"""In one list."""
PORTS_MAX: Final = 256
"""In one list."""
EXCEPT_MAX: Final = 1024
"""Exceptions of one address prefix."""

REQUIREMENTS_MAX: Final = 256
"""In one selector; an identity has fewer labels."""
VALUES_MAX: Final = 1024
"""In one requirement."""
KEY_MAX: Final = 512
"""Characters of a label's key."""
VALUE_MAX: Final = 4096
"""Characters of a label's value."""

SHORT_FORM_MAX: Final = 4096
"""Characters of a short form."""
ITEMS_MAX: Final = 128
"""In one short form."""
