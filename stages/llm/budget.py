"""The spending limit of a run, in tokens: what a request may use is set aside before it is sent."""

import anyio

from stages.core.errors import InputError


class Budget:
    """Tokens used and set aside, kept at or below a limit. To be used from one event loop."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: prompt and completion tokens; none: only count."""
        self.limit = limit
        self.spent = 0
        "tokens used"
        self._reserved = 0
        self._changed = anyio.Event()

    def take(self, tokens: int) -> bool:
        """Set ``tokens`` aside if they fit."""
        if self.limit is not None and self.spent + self._reserved + tokens > self.limit:
            return False
        self._reserved += tokens
        return True

    async def reserve(self, tokens: int) -> None:
        """Set ``tokens`` aside, waiting while requests under way may still turn out smaller than expected.

        :raises InputError: if they do not fit.
        """
        while not self.take(tokens):
            if not self._reserved:
                raise InputError(f"token_limit: {self.spent:,} of {self.limit:,} tokens are used, and the next request may take {tokens:,}. Raise the limit in params.yaml.")
            await self._changed.wait()

    def settle(self, reserved: int, used: int) -> None:
        """Replace what was set aside for a request by what it used."""
        self._reserved -= reserved
        self.spent += used
        self._changed.set()
        self._changed = anyio.Event()
