"""Write docs/openapi.json from the routes and documents of the agent's API (``make openapi``)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from observe.openapi import describe_api  # noqa: E402 - the checkout has to be on the path first

(ROOT / "docs" / "openapi.json").write_text(json.dumps(describe_api(), indent=2, ensure_ascii=False) + "\n")
