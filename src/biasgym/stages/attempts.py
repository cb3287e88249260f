"""A pod that is killed cannot say so. The next one at the same work counts such ends, and after some says it in its place."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from biasgym.errors import BiasGymError
from biasgym.store import Store

MOST_KILLED = 4
"""So often is work begun; the pod after that only writes down that it failed, so that a run needs as many retries."""


@contextmanager
def told_to_stop() -> Iterator[None]:
    """Ends the work inside a `with` block at SIGTERM as Ctrl-C would: with a last copy, and without a mark.

    So a pod is told that is cancelled, or whose node is drained; neither says anything against its work.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may set a handler
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def counted(store: Store | None, work: str) -> Iterator[int]:
    """Leaves a mark in the store while some work is done. Marks go when it ends, well or with an error.

    Args:
        store: Where the marks are; without one nothing is counted.
        work: A name that the same work has in every pod.

    Yields:
        How many have begun the work and neither ended it nor failed at it: killed for want of memory, or gone with their
        node.
    """
    if store is None:
        yield 0
        return
    marks = f"attempts/{work}"
    before = len(list(store.list(marks)))
    store.write(f"{marks}/{uuid4().hex}", b"")
    try:
        yield before
    finally:
        with suppress(BiasGymError):  # of the work, or of a store that is away: either has been said
            for mark in list(store.list(marks)):
                store.delete(mark.key)
