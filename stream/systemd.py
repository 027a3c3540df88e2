"""What systemd is told of us (sd_notify): ready, stopping, and that the event loop still turns.

Nothing happens, and nothing fails, where no systemd listens.
"""

import asyncio
import contextlib
import os
import socket


def notify(*facts: str) -> bool:
    """Send facts such as READY=1; False where nobody asked for them or hears them."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        # A manager that doesn't read for so long is not worth holding up the line for.
        said.settimeout(0.5)
        # A leading @ stands for the NUL byte of Linux' abstract names.
        said.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        said.send("\n".join(facts).encode())
        return True
    return False


def watchdog_s() -> float | None:
    """How often systemd wants to hear from this process; None: not at all."""
    told = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(told) / 1e6 if told.isdigit() and int(told) and for_us else None


async def keep_watched() -> None:
    """Until cancelled, say twice in each watchdog time that the event loop turns; returns where none asks."""
    limit_s = watchdog_s()
    while limit_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(limit_s / 2)
