"""The channel to the writer."""

import pytest
import trio
import trio.testing

from streamsvc.batch import Block, open_block_channel
from streamsvc.schema import Market, Source


def block(size_bytes=10, connection=1):
    return Block(Market.SPOT, Source.STREAM, connection, 0, b"\x01", [b"x" * size_bytes], size_bytes)


async def test_a_sender_waits_while_the_channel_holds_its_limit():
    """What lies in the channel stays below the limit plus one block."""
    sender, receiver = open_block_channel(limit_bytes=20)
    with sender, receiver:
        async with trio.open_nursery() as nursery:
            reached = []

            async def send_three():
                for number in range(3):
                    await sender.wait_room()
                    sender.put_nowait(block(15))
                    reached.append(number)

            nursery.start_soon(send_three)
            await trio.testing.wait_all_tasks_blocked()
            assert [0, 1] == reached
            assert 30 == sender.statistics().used_bytes
            await receiver.receive()
            await trio.testing.wait_all_tasks_blocked()
            assert [0, 1, 2] == reached


async def test_many_senders_that_wait_go_over_the_limit_by_one_block_only():
    """All waiting senders wake at once, and each looks again before it puts."""
    sender, receiver = open_block_channel(limit_bytes=10)
    with sender, receiver:
        sender.put_nowait(block(10))
        async with trio.open_nursery() as nursery:

            async def send_one():
                with sender.clone() as own:
                    await own.wait_room()
                    own.put_nowait(block(10))

            for _ in range(50):
                nursery.start_soon(send_one)
            await trio.testing.wait_all_tasks_blocked()
            assert 50 == sender.statistics().senders_waiting
            await receiver.receive()
            await trio.testing.wait_all_tasks_blocked()
            assert 10 == sender.statistics().used_bytes
            nursery.cancel_scope.cancel()


async def test_the_channel_ends_when_every_clone_is_closed():
    """A writer that sees the end has seen everything."""
    sender, receiver = open_block_channel(limit_bytes=100)
    with receiver:
        clone = sender.clone()
        clone.put_nowait(block())
        sender.close()
        clone.close()
        await receiver.receive()
        with pytest.raises(trio.EndOfChannel):
            await receiver.receive()


async def test_senders_that_wait_learn_that_the_receiver_is_gone():
    """Nobody waits for ever for a writer that has died."""
    sender, receiver = open_block_channel(limit_bytes=1)
    with sender:
        sender.put_nowait(block())
        async with trio.open_nursery() as nursery:

            async def wait():
                with pytest.raises(trio.BrokenResourceError):
                    await sender.wait_room()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            receiver.close()


async def test_a_cancelled_wait_puts_nothing():
    """Waiting for room takes nothing in, so nothing is lost with it."""
    sender, receiver = open_block_channel(limit_bytes=1)
    with sender, receiver:
        sender.put_nowait(block(5))
        with trio.move_on_after(0):
            await sender.wait_room()
        assert 5 == sender.statistics().used_bytes
        assert 0 == sender.statistics().senders_waiting
