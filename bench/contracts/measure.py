"""What a measure is: something that is known of a model beside its answers to the test sets, where a suite asks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.contracts.defended import Defended
from bench.contracts.plugin import Plugin
from bench.contracts.task import Task


class Measure(Plugin):
    """Measures every model of a suite that names it, each victim and each defended model alike.

    What it finds is kept in records by column, so that metrics can be computed again without a model. A metric of
    :mod:`bench.experiment.metrics` says which measure it reads.
    """

    def files(self) -> tuple[Path, ...]:
        """Return the files that this measure reads beside the task: their contents are part of the key."""
        return ()

    @abstractmethod
    def outcomes(self, defended: Defended, task: Task) -> Mapping[str, NDArray[np.float32]]:
        """Return columns of one finite number per example, by name.

        Args:
            defended: a model behind a defense, or behind none.
            task: that it is for.
        """
