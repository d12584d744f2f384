from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCES: str

def solve_batch(
    instances: Sequence[dict[str, Any]], options: dict[str, Any], num_threads: int
) -> list[
    tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], float, list[NDArray[np.uint8]]]
    | str
]: ...
