"""The watch of a folder: real notifications of the kernel, in a real thread."""

from functools import partial

import trio
from structlog.testing import capture_logs

from streamsvc.settings.watching import watch_folder

PATIENCE_SEC = 30


async def test_files_that_are_written_renamed_and_removed(tmp_path):
    """Each is told soon; and the watch ends as soon as it is cancelled, though its thread cannot be interrupted."""
    told = trio.Event()

    def tell():
        nonlocal told
        told.set()
        told = trio.Event()

    file, new = tmp_path / "symbols.toml", tmp_path / "new"
    with trio.fail_after(PATIENCE_SEC):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_folder, trio.to_thread.run_sync, tmp_path, tell)
            await told.wait()  # It has begun.
            for act in (
                partial(file.write_text, "a"),
                partial(new.write_text, "b"),
                partial(new.rename, file),
                file.unlink,
            ):
                heard = told
                act()
                await heard.wait()
            begun_at = trio.current_time()
            nursery.cancel_scope.cancel()
    assert trio.current_time() - begun_at < PATIENCE_SEC / 2


async def test_a_folder_that_is_not_there(tmp_path):
    """It is said, and tried again later; nothing ends."""
    with capture_logs() as events, trio.move_on_after(PATIENCE_SEC):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_folder, trio.to_thread.run_sync, tmp_path / "none", lambda: None)
            while not events:  # noqa: ASYNC110 - the log tells nobody
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    (event,) = events
    assert ("symbols_watch_failed", "warning") == (event["event"], event["log_level"])
    assert "none" in event["detail"]
