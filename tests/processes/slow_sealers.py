"""`streamsvc` with sealers that take their time: `SLOW_SEAL_SEC` a segment, spread over the steps of their work.

A worker process imports the main module of its parent before it works, and so comes by the slowness here; the recorder
itself is what it always is.
"""

import os
import time


def _slow_down(seconds: float) -> None:
    from streamsvc.persistence import seal  # noqa: PLC0415 - only workers load it

    seal_at_once, sync_folders, write_file = seal.seal_segment, seal._sync_folders, seal.write_file

    def seal_segment(segment_path, tmp_root):
        time.sleep(seconds / 4)
        manifest = seal_at_once(segment_path, tmp_root)
        time.sleep(seconds / 4)
        return manifest

    def write_slowly(*args):
        time.sleep(seconds / 32)  # There are at most eight files a segment in these tests.
        write_file(*args)

    def sync_slowly(folder):
        time.sleep(seconds / 4)
        sync_folders(folder)

    seal.seal_segment, seal.write_file, seal._sync_folders = seal_segment, write_slowly, sync_slowly


if __name__ == "__mp_main__":
    _slow_down(float(os.environ["SLOW_SEAL_SEC"]))
elif __name__ == "__main__":
    from streamsvc.__main__ import main

    main()
