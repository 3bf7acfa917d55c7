"""Where pre-trained models come from, and how their files are read, checked and written."""

from bench.models.architectures import attention_of as attention_of
from bench.models.counterpart import check_counterpart as check_counterpart
from bench.models.pretrained import EMBEDDED as EMBEDDED
from bench.models.pretrained import PretrainedModel as PretrainedModel
from bench.models.pretrained import create as create
from bench.models.pretrained import list_models as list_models
