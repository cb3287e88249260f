"""Stage folders between this machine and a store: what another run or pod has done is brought, what is done here is kept.

A stage's key says all that decides its result, so that it is also its place in the store: equal work is done once, whoever
asks for it, and a pod finds what other pods have made without being told where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from biasgym.files import digest, write_text
from biasgym.progress import SILENT, Progress
from biasgym.stages.folder import StageFolder
from biasgym.store import NotFound, Store, fetch, mirrored, publish


@dataclass(frozen=True)
class Shelf:
    """A store, seen from a run.

    Attributes:
        store: The store; None keeps nothing, which is how a laptop runs without one.
        progress: Told what is brought.
    """

    store: Store | None = None
    progress: Progress = SILENT

    def bring(self, folder: StageFolder) -> None:
        """Downloads a stage's folder unless it is here and done; of one that failed the manifest, which says why."""
        if self.store is None or folder.done:
            return
        if self._status(folder) == "failed":
            self.bring_manifest(folder)
        elif fetch(self.store, place(folder), folder.path) and folder.done:
            self.progress.say(f"{folder.path.parent.name}, {folder.stage}: done before, taken from {self.store.url}")

    def bring_manifest(self, folder: StageFolder) -> None:
        """Downloads the manifest only: enough to know why a stage failed, without its files."""
        if self.store is None or folder.manifest.is_file():
            return
        with suppress(NotFound):
            text = self.store.read(f"{place(folder)}/manifest.json").decode("utf-8", errors="replace")
            write_text(folder.manifest, text)

    def _status(self, folder: StageFolder) -> str | None:
        assert self.store is not None
        try:
            manifest = json.loads(self.store.read(f"{place(folder)}/manifest.json"))
        except (NotFound, ValueError):
            return None
        return manifest.get("status") if isinstance(manifest, dict) else None

    @contextmanager
    def keeping(self, folder: StageFolder) -> Iterator[None]:
        """Copies work in progress at intervals, and publishes the folder when the block ends, also with a failure.

        A failure takes the place of nothing that another run has done meanwhile.

        Wrap it around `working`, which writes the manifest. A process that is killed publishes nothing; whoever does the
        stage next goes on from the last copy.
        """
        if self.store is None:
            yield
            return
        with mirrored(self.store, f"checkpoints/{folder.stage}/{folder.key}", folder.path, progress=self.progress):
            try:
                yield
            finally:
                failed = folder.error is not None
                if folder.manifest.is_file() and not (failed and self._status(folder) == "done"):
                    publish(self.store, folder.path, place(folder))

    @contextmanager
    def keeping_answers(self, answers: Path, folders: Sequence[StageFolder], *, every: float = 15.0) -> Iterator[None]:
        """Copies language models' answers, which were paid for, until the stages that use them are done.

        Args:
            answers: The folder that they are in.
            folders: Those stages; whoever does the same ones next goes on from the last copy.
            every: Seconds between copies; only what is new is sent.
        """
        if self.store is None or all(folder.done for folder in folders):
            yield
            return
        prefix = f"checkpoints/answers/{digest(sorted(folder.key for folder in folders))}"

        def done() -> bool:
            return not any(folder.error for folder in folders)

        with mirrored(self.store, prefix, answers, every=every, done=done, progress=self.progress):
            yield


NO_SHELF = Shelf()


def place(folder: StageFolder) -> str:
    """Where a stage's folder is in a store."""
    return f"stages/{folder.stage}/{folder.key}"
