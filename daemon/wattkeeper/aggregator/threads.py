"""The aggregator's threads: whatever is slow keeps only its own kind waiting."""

from concurrent.futures import ThreadPoolExecutor


class Threads:
    """Pools by what they do.

    Questions are apart from the rest, so that slow ones hold up neither deliveries nor scrapes.
    """

    def __init__(self) -> None:
        self.ask = ThreadPoolExecutor(4, "ask")
        self.page = ThreadPoolExecutor(2, "page")
        self.scrape = ThreadPoolExecutor(1, "scrape")
        self.look = ThreadPoolExecutor(1, "look")
        self.check = ThreadPoolExecutor(1, "check")
        self.budgets = ThreadPoolExecutor(1, "budgets")
        self.unpack = ThreadPoolExecutor(1, "unpack")
        self.read = ThreadPoolExecutor(2, "read")
        self.record = ThreadPoolExecutor(1, "record")
        self.commit = ThreadPoolExecutor(1, "commit")

    def end(self) -> None:
        """Wait for what they do; they take nothing more. Blocks."""
        pools: list[ThreadPoolExecutor] = [*vars(self).values()]
        for pool in pools:
            pool.shutdown()
