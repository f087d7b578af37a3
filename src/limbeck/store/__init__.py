"""The store: teacher outputs on disk, for every view of every sample."""

from limbeck.store.store import Store

__all__ = ["Store"]
