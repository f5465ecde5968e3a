"""Progress of long work: rows, rate, time left; silent unless standard error is a terminal."""

from tqdm import tqdm


class Progress:
    """A progress line that is cheap to advance."""

    def __init__(self, what: str, total: int | None = None, unit: str = "rows") -> None:
        """``total``: how many units there will be, if known; ``unit``: what is counted."""
        self._bar = tqdm(total=total, desc=what, unit=f" {unit}", disable=None, smoothing=0.1)

    def add(self, n: int = 1, **facts: str) -> None:
        """``n`` more are done; ``facts`` are shown beside."""
        if facts:
            self._bar.set_postfix(facts, refresh=False)
        self._bar.update(n)

    def close(self) -> None:
        """End the line."""
        self._bar.close()
