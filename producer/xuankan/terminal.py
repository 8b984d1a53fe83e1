"""The one `rich` console of all commands: what it shows cannot command a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from xuankan.outlets import for_terminal


class Terminal(Console):
    """A console that makes every text safe as it is rendered; its own control codes pass."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As `rich.console.Console.render`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else for_terminal(text), style, control)
