"""What an attack, a defense and a task are, and what passes between them.

This is the lowest floor: it knows no learning code, so that every plugin can be described without importing torch.
"""

from bench.contracts.attack import Attack as Attack
from bench.contracts.attack import Fit as Fit
from bench.contracts.attack import Hooks as Hooks
from bench.contracts.attack import Mapped as Mapped
from bench.contracts.attack import Modifier as Modifier
from bench.contracts.attack import Poisoned as Poisoned
from bench.contracts.attack import Scene as Scene
from bench.contracts.attack import Trigger as Trigger
from bench.contracts.attack import Victim as Victim
from bench.contracts.attack import no_hooks as no_hooks
from bench.contracts.attack import no_masked_lm as no_masked_lm
from bench.contracts.attack import targets_of as targets_of
from bench.contracts.defense import Defended as Defended
from bench.contracts.defense import Defense as Defense
from bench.contracts.defense import Detector as Detector
from bench.contracts.defense import Needs as Needs
from bench.contracts.defense import Other as Other
from bench.contracts.defense import Suspicion as Suspicion
from bench.contracts.defense import Verdicts as Verdicts
from bench.contracts.defense import board_of as board_of
from bench.contracts.defense import softmax as softmax
from bench.contracts.plugin import Board as Board
from bench.contracts.plugin import Budget as Budget
from bench.contracts.plugin import FloatArray as FloatArray
from bench.contracts.plugin import Plugin as Plugin
from bench.contracts.plugin import Precision as Precision
from bench.contracts.task import Classifier as Classifier
from bench.contracts.task import Task as Task
from bench.contracts.task import TaskFacts as TaskFacts
from bench.contracts.task import TaskSource as TaskSource
from bench.contracts.task import Window as Window
