"""Commands that other packages bring, as entry points of the group `biasgym.commands`; each is a typer app.

An app is imported when its command is called or listed, so its module must be quick to import, as ours are.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

GROUP = "biasgym.commands"


class Extended(TyperGroup):
    """A group of commands that entry points add to."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Own names first."""
        return list(dict.fromkeys([*super().list_commands(ctx), *_brought()]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """An own command wins over a brought one of the same name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _brought():
            return own
        command = typer.main.get_group(_brought()[cmd_name].load())
        command.name = cmd_name
        return command


@cache
def _brought() -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}
