"""The one error a user is meant to read: what was wrong, where, and what to do."""


class BiasGymError(ValueError):
    """Bad input or a refused operation. The CLI prints it as one line and exits with code 2.

    Args:
        what: What is wrong, as a sentence without a full stop.
        where: The file, setting or argument at fault.
        hint: What the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        line = f"{where}: {what}" if where else what
        super().__init__(f"{line}; {hint}" if hint else line)


class StorageError(BiasGymError):
    """A full disk, a read-only folder, a store or a hub that is away: no cell is to blame, and the whole run stops."""
