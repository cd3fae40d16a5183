"""The arrays that a forward and a backward pass leave behind for each other."""

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SHAPES_KEPT = 16


class Activations:
    """Named arrays of one row a position, for batches of one shape [B, T]; allocated once."""

    def __init__(self, batch: int, length: int, dtype: str) -> None:
        self.batch, self.length = batch, length
        self._dtype = np.dtype(dtype)
        self._arrays: dict[str, Array] = {}
        self._lock = threading.Lock()

    def array(self, name: str, *shape: int, dtype: Any = None) -> Array:
        """The array of this name; zeros the first time it is asked for."""
        found = self._arrays.get(name)
        if found is None:
            with self._lock:
                found = self._arrays.get(name)
                if found is None:
                    found = self._arrays[name] = np.zeros(shape, dtype or self._dtype)
        return found

    def rows(self, name: str, width: int, dtype: Any = None) -> Array:
        """[B * T, width]."""
        return self.array(name, self.batch * self.length, width, dtype=dtype)


class Kept:
    """The activations of the shapes that were used last."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._of: OrderedDict[tuple[int, int], Activations] = OrderedDict()

    def of(self, batch: int, length: int) -> Activations:
        """Those of a shape; their contents are what the last pass of that shape left."""
        key = batch, length
        if key not in self._of:
            self._of[key] = Activations(batch, length, self._dtype)
            if len(self._of) > SHAPES_KEPT:
                self._of.popitem(last=False)
        self._of.move_to_end(key)
        return self._of[key]
