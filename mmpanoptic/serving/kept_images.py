"""Network outputs that wait for other thresholds, bounded in number and bytes."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from threading import Lock

from mmpanoptic.apis.live_fusion import KeptOutputs


class KeptImages:
    """Keep the outputs of the newest images; the one that was longest not asked for goes first.

    Each is known by a name that cannot be guessed, and only to the client that sent the image.

    Args:
        number (int): Most images.
        nbytes (int): Most bytes of all.
    """

    def __init__(self, number: int, nbytes: int) -> None:
        self.number = number
        self.most = nbytes
        self.nbytes = 0
        self._lock = Lock()
        self._kept: OrderedDict[str, KeptOutputs] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, kept: KeptOutputs, instead: str | None = None) -> str | None:
        """Keep the outputs of an image.

        Args:
            kept (KeptOutputs): The outputs.
            instead (str | None): Name of the image that its client needs no more.

        Returns:
            str | None: Its name; None if it is larger than all that may be kept.
        """
        with self._lock:
            self._drop(instead)
            if not self.number or kept.nbytes > self.most:
                return None
            while len(self._kept) >= self.number or self.nbytes + kept.nbytes > self.most:
                self._drop(next(iter(self._kept)))
            name = secrets.token_urlsafe(24)
            self._kept[name] = kept
            self.nbytes += kept.nbytes
            return name

    def get(self, name: str) -> KeptOutputs | None:
        """Return the outputs of an image; None if they are gone."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def _drop(self, name: str | None) -> None:
        gone = self._kept.pop(name, None) if name else None
        self.nbytes -= 0 if gone is None else gone.nbytes
