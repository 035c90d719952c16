"""Pack the ``cli`` package and its vendored dependencies into one executable zip archive.

Reproducible: names sorted, one fixed time, and compiled modules that are bound to the hash of their source and not to
its time. A zip archive cannot keep what Python compiles at the first start, hence the compiled modules.
"""

from __future__ import annotations

import argparse
import configparser
import io
import py_compile
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SHEBANG: Final = b"#!/usr/bin/python3 -IS\n"
"""The system's own Python, whatever root's PATH and environment say, and no package that is installed for it.

All that is imported is in here. That is also the quickest start.
"""
FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip archive can hold."""

MAIN: Final = """\
import signal
import sys

# Ctrl-C ends the command like any other, also while modules are imported.
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.version_info < (3, 11):
    sys.exit("hawse needs Python 3.11 or newer; this is %d.%d: try python3.11 and this file" % sys.version_info[:2])

from cli.main import main

main()
"""


def sources(vendored: Path) -> dict[str, bytes]:
    """Collect what goes in, by its name in the archive."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    version = config["metadata"]["version"]
    # What importlib.metadata reads for «hawse --version».
    found = {
        "__main__.py": MAIN.encode(),
        f"hawse-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: hawse\nVersion: {version}\n".encode(),
    }
    for path in sorted((ROOT / "cli").glob("*.py")):
        found[f"cli/{path.name}"] = path.read_bytes()
    for path in sorted(vendored.rglob("*")):
        name = path.relative_to(vendored).as_posix()
        licence = ".dist-info/" in name and "licenses/" in name
        if path.is_file() and (path.suffix == ".py" or licence):
            found[name] = path.read_bytes()
    return found


def compiled(name: str, source: bytes, scratch: Path) -> bytes:
    """Compile one module; the result is valid as long as it is packed beside its source."""
    written = scratch / "source.py"
    result = scratch / "compiled.pyc"
    written.write_bytes(source)
    py_compile.compile(
        str(written),
        cfile=str(result),
        dfile=name,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return result.read_bytes()


def archive(files: dict[str, bytes]) -> bytes:
    """Write a zip archive with the modules and, beside each, its compiled form."""
    content = dict(files)
    with tempfile.TemporaryDirectory() as scratch:
        for name, source in files.items():
            if name.endswith(".py"):
                content[name + "c"] = compiled(name, source, Path(scratch))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, FIXED_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            target.writestr(entry, content[name])
    return packed.getvalue()


def main() -> None:
    """Write the archive; an old one is replaced in one step, since it may be running."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vendored", type=Path, required=True, help="folder with the installed dependencies")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    output: Path = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(output.name + ".new")
    fresh.write_bytes(SHEBANG + archive(sources(options.vendored)))
    fresh.chmod(0o755)
    fresh.replace(output)
    print(f"{output}: {output.stat().st_size} bytes, compiled for Python {sys.version_info[0]}.{sys.version_info[1]}")


if __name__ == "__main__":
    main()
