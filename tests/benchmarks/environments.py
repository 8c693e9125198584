"""The peers' environments: one virtual environment a list of requirements, made once under `.bench/`.

An environment is made again when its list, or the Python that runs the benchmark, is another than the one that it was
made with.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
BENCH_FOLDER = CHECKOUT / ".bench"
INSTALL_SEC_MAX = 900

ENVIRONMENT_OF_PEER = {
    "trio_websocket": "readers",
    "websockets": "readers",
    "picows": "readers",
    "cryptofeed": "cryptofeed",
    "ccxt": "ccxt",
    "nautilus": "nautilus",
    "plain_loop": "plain-loop",
    "plot": "plot",
    "aiofiles": "aiofiles",
}


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there yet.

    Raises:
        subprocess.CalledProcessError: pip could not install the peer; what it said is on standard error.
    """
    name = ENVIRONMENT_OF_PEER[peer]
    requirements = HERE / f"requirements-{name}.txt"
    folder, stamp = BENCH_FOLDER / name, BENCH_FOLDER / f"{name}.stamp"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    python = folder / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print(f"making the environment {folder.relative_to(CHECKOUT)}", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True, stdout=sys.stderr, timeout=INSTALL_SEC_MAX)
        stamp.write_text(wanted)
    return python
