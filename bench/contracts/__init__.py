"""What an attack, a defense and a task are, and what passes between them.

This is the lowest floor: it knows no learning code, so that every plugin can be described without importing torch.
"""

from bench.contracts.access import Access as Access
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
from bench.contracts.defended import Defended as Defended
from bench.contracts.defended import Predictions as Predictions
from bench.contracts.defended import Suspicion as Suspicion
from bench.contracts.defended import softmax as softmax
from bench.contracts.defense import Defense as Defense
from bench.contracts.defense import Detector as Detector
from bench.contracts.defense import board_of as board_of
from bench.contracts.defense import threat_of as threat_of
from bench.contracts.dialogues import Dialogue as Dialogue
from bench.contracts.dialogues import Dialogues as Dialogues
from bench.contracts.examples import Examples as Examples
from bench.contracts.examples import Inputs as Inputs
from bench.contracts.examples import IntArray as IntArray
from bench.contracts.examples import join as join
from bench.contracts.examples import stratified_order as stratified_order
from bench.contracts.needs import Needs as Needs
from bench.contracts.needs import Other as Other
from bench.contracts.needs import needs_in_short as needs_in_short
from bench.contracts.needs import needs_in_words as needs_in_words
from bench.contracts.plugin import Budget as Budget
from bench.contracts.plugin import FloatArray as FloatArray
from bench.contracts.plugin import Plugin as Plugin
from bench.contracts.plugin import Precision as Precision
from bench.contracts.task import Classifier as Classifier
from bench.contracts.task import Task as Task
from bench.contracts.task import TaskFacts as TaskFacts
from bench.contracts.task import TaskSource as TaskSource
from bench.contracts.task import Window as Window
from bench.contracts.threat import Acts as Acts
from bench.contracts.threat import Board as Board
from bench.contracts.threat import Holding as Holding
from bench.contracts.threat import Judged as Judged
from bench.contracts.threat import Received as Received
from bench.contracts.threat import ThreatModel as ThreatModel
