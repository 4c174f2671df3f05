"""Ends the browsers of a process that has ended, even if it was killed.

It runs as a script that waits for the end of its standard input. It imports nothing of this project, so that it starts
at once and stays small. It finds processes by their command line: that of each browser has the temporary folder of its
profile in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 10.0  # longest time to wait for killed processes to end


def processes(marker: str) -> list[int]:
    """Ids of this machine's processes, except this one, whose command line contains ``marker``."""
    found = []
    if sys.platform == "linux":
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    if marker.encode() in (folder / "cmdline").read_bytes():
                        found.append(int(folder.name))
    else:
        listing = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=False)
        for line in listing.stdout.splitlines():
            pid, _, command = line.strip().partition(" ")
            if marker in command:
                found.append(int(pid))
    return [pid for pid in found if pid != os.getpid()]


def kill(marker: str, patience_s: float = PATIENCE_S) -> bool:
    """Kill the processes whose command line contains ``marker``, and those that they start; true if none is left.

    >>> kill("--user-data-dir=/there/is/no/such/folder")
    True
    """
    deadline = time.monotonic() + patience_s
    while left := [pid for pid in processes(marker) if not _is_zombie(pid)]:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)  # the kernel does not report the end of processes that are not children of this one
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2][:1] == "Z"
    except OSError:
        return False


def main(folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()  # returns when the last process that has the other end open has ended
    # The command line of this script contains the folder too; `processes` leaves it out.
    kill(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
