"""`streamsvc` that takes its time: `SLOW_SEAL_SEC` a segment, spread over a sealer's work; `SLOW_LOAD_SEC` to begin.

With `IGNORED_SIGNAL` it begins as a shell's background job does, which ignores SIGINT. SIGUSR2 blocks its loop.

A worker process imports the main module of its parent before it works, and so comes by its slowness here.
"""

import os
import signal
import time


def _seal_slowly(seconds: float) -> None:
    from streamsvc.persistence import seal  # noqa: PLC0415 - only workers load it

    seal_at_once, sync_folders, write_file = seal.seal_segment, seal._sync_folders, seal.write_file

    def seal_segment(segment_path, tmp_root, **options):
        time.sleep(seconds / 4)
        manifest = seal_at_once(segment_path, tmp_root, **options)
        time.sleep(seconds / 4)
        return manifest

    def write_slowly(*args):
        time.sleep(seconds / 32)  # There are at most eight files a segment in these tests.
        write_file(*args)

    def sync_slowly(folder):
        time.sleep(seconds / 4)
        sync_folders(folder)

    seal.seal_segment, seal.write_file, seal._sync_folders = seal_segment, write_slowly, sync_slowly


def _load_slowly(seconds: float) -> None:
    from streamsvc.settings import source  # noqa: PLC0415 - workers have no settings

    load_at_once = source.load_settings

    def load_settings(*args, **options):
        time.sleep(seconds)
        return load_at_once(*args, **options)

    source.load_settings = load_settings


def _stand_still() -> None:
    os.write(2, b"standing still")
    time.sleep(3600)


if __name__ == "__mp_main__":
    _seal_slowly(float(os.environ.get("SLOW_SEAL_SEC", "0")))
elif __name__ == "__main__":
    from streamsvc.__main__ import main

    _load_slowly(float(os.environ.get("SLOW_LOAD_SEC", "0")))
    if "IGNORED_SIGNAL" in os.environ:
        signal.signal(int(os.environ["IGNORED_SIGNAL"]), signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: _stand_still())
    main()
