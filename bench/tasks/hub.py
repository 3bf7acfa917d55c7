"""Tasks on data sets of the Hugging Face Hub, each at a pinned commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from bench.contracts import Task, TaskFacts, TaskSource
from bench.errors import RequestError
from bench.models import hub
from bench.tasks.assemble import Columns, assemble, count_labels
from bench.tasks.tables import TextTable

COMMIT = r"^[0-9a-f]{40}$"


@dataclass(frozen=True)
class DataSet:
    """A data set of the Hub: repository, configuration, and the names of its splits and columns."""

    repo: str
    config: str | None
    splits: Mapping[str, str]
    columns: Columns


class _HubTask(TaskSource):
    """What all tasks on the Hub share."""

    revision: str = Field(pattern=COMMIT, description="commit of the data set, 40 hexadecimal digits")
    validation_size: int = Field(
        2000, ge=1, description="training examples set aside for validation, stratified, where there is no such split"
    )
    drop_empty: bool = Field(False, description="leave out rows with an empty text instead of refusing them")

    def data_set(self) -> DataSet:
        """Return the data set."""
        raise NotImplementedError

    def title(self) -> str:
        """Return the name of the task in suites."""
        return self.name

    def load(self) -> Task:
        """Fetch the data set, or read it from the local cache, and return the task."""
        data_set = self.data_set()
        parts = fetch(data_set, self.revision)
        tables = {split: _table(part, f"{data_set.repo}, {data_set.splits[split]}") for split, part in parts.items()}
        columns = data_set.columns
        for table in tables.values():
            table.require((*columns.texts, columns.label))
        names = _label_names(parts["train"].features, columns.label)
        hint = "choose a data set whose labels do"
        labels = names or count_labels(tables["train"], columns.label, how_to_name=hint)
        return assemble(
            facts=TaskFacts(self.title(), labels, columns.text_pair is not None, self.max_length),
            columns=columns,
            tables=tables,
            max_train=self.max_train,
            max_test=self.max_test,
            validation_size=None if "validation" in tables else self.validation_size,
            drop_empty=self.drop_empty,
        )


def fetch(data_set: DataSet, revision: str) -> dict[str, Any]:
    """Return every split as a ``datasets.Dataset``.

    Raises:
        RequestError: the data set cannot be loaded; says how to get it.
    """
    import datasets

    try:
        with hub.without_retries():
            splits = datasets.load_dataset(data_set.repo, data_set.config, revision=revision, keep_in_memory=False)
    except Exception as error:  # the library raises a dozen kinds; all of them mean that the data set is not available
        call = f"load_dataset({data_set.repo!r}, {data_set.config!r}, revision={revision!r})"
        raise RequestError(
            f"data set {data_set.repo} ({data_set.config or 'default'}) at {revision} cannot be loaded: "
            f"{hub.why_not(error)}. "
            f'To get it, run `python -c "from datasets import load_dataset; {call}"` on a machine with network, '
            "or point HF_HOME to a cache where that was done (HF_HUB_OFFLINE=1 keeps to the cache)."
        ) from error
    for name in data_set.splits.values():
        if name not in splits:
            raise RequestError(f"data set {data_set.repo} has no split {name!r}; valid: {', '.join(splits)}.")
        # without network the library returns the newest cached commit, whatever revision was asked for
        commits = {Path(file["filename"]).parent.name for file in splits[name].cache_files}
        if commits != {revision}:
            has = ", ".join(sorted(commits))
            raise RequestError(
                f"data set {data_set.repo}: the cache serves commit {has}, not {revision}; allow the network."
            )
    return {split: splits[name] for split, name in data_set.splits.items()}


def _table(part: Any, origin: str) -> TextTable:
    columns = part.with_format("arrow")[:]
    return TextTable(origin, dict(zip(columns.column_names, columns.columns, strict=True)))


def _label_names(features: Any, column: str) -> tuple[str, ...] | None:
    names = getattr(features.get(column), "names", None)
    return tuple(names) if names else None


class Hub(_HubTask):
    """Any data set of the Hub at a pinned commit; label names come from the data set."""

    name: ClassVar[str] = "hub"

    repo: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", description="data set on the Hub, e.g. stanfordnlp/imdb")
    config: str | None = Field(None, description="configuration of the data set, if it has several")
    text: str = Field("text", description="column of the first or only segment")
    text_pair: str | None = Field(None, description="column of the second segment, for pairs")
    label: str = Field("label", description="column of the label, an integer that counts from 0")
    train: str = Field("train", description="split to train on")
    validation: str | None = Field(None, description="split to validate on; by default a part of the training split")
    test: str = Field("test", description="split to test on")

    def data_set(self) -> DataSet:
        """Return the data set."""
        splits = {"train": self.train, "test": self.test}
        if self.validation is not None:
            splits["validation"] = self.validation
        return DataSet(self.repo, self.config, splits, Columns(self.text, self.text_pair, self.label))

    def title(self) -> str:
        """Return the repository and the configuration."""
        return "/".join(filter(None, ("hub", self.repo, self.config)))


class _Glue(_HubTask):
    """A GLUE task. The labels of GLUE's test sets are hidden, so its validation split is the test set here."""

    columns: ClassVar[Columns]
    revision: str = Field(
        "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c", pattern=COMMIT, description="commit of nyu-mll/glue"
    )

    def data_set(self) -> DataSet:
        """Return the data set."""
        return DataSet("nyu-mll/glue", self.name, {"train": "train", "test": "validation"}, self.columns)


class Sst2(_Glue):
    """SST-2 of GLUE, sentiment of phrases from film reviews; tested on GLUE's validation split.

    GLUE hides the labels of its test split. The validation split here is a stratified part of the training split.
    """

    name: ClassVar[str] = "sst2"
    citation: ClassVar[str] = "Socher et al., EMNLP 2013; Wang et al., ICLR 2019, arXiv:1804.07461"
    columns: ClassVar[Columns] = Columns("sentence")


class Qqp(_Glue):
    """QQP of GLUE, whether two questions from Quora ask the same; tested on GLUE's validation split.

    GLUE hides the labels of its test split. The validation split here is a stratified part of the training split.
    Pairs with an empty question are left out.
    """

    name: ClassVar[str] = "qqp"
    citation: ClassVar[str] = "Iyer et al., First Quora Dataset Release, 2017; Wang et al., ICLR 2019, arXiv:1804.07461"
    columns: ClassVar[Columns] = Columns("question1", "question2")
    drop_empty: bool = Field(True, description="leave out rows with an empty text instead of refusing them")


class Qnli(_Glue):
    """QNLI of GLUE, whether a sentence answers a question; tested on GLUE's validation split.

    On the Hub label 0 is entailment (it answers) and 1 is not_entailment. GLUE hides the labels of its test split.
    The validation split here is a stratified part of the training split.
    """

    name: ClassVar[str] = "qnli"
    citation: ClassVar[str] = "Rajpurkar et al., EMNLP 2016; Wang et al., ICLR 2019, arXiv:1804.07461"
    columns: ClassVar[Columns] = Columns("question", "sentence")


class Imdb(_HubTask):
    """IMDB, sentiment of long film reviews; the validation split is a stratified part of the training split."""

    name: ClassVar[str] = "imdb"
    citation: ClassVar[str] = "Maas et al., ACL 2011"
    revision: str = Field(
        "e6281661ce1c48d982bc483cf8a173c1bbeb5d31", pattern=COMMIT, description="commit of stanfordnlp/imdb"
    )

    def data_set(self) -> DataSet:
        """Return the data set."""
        return DataSet("stanfordnlp/imdb", "plain_text", {"train": "train", "test": "test"}, Columns())


class Amazon(_HubTask):
    """Amazon reviews, sentiment, without their titles; 3.6 million training examples, so set max_train.

    The validation split is a stratified part of the training split. Reviews without text are left out.
    """

    name: ClassVar[str] = "amazon"
    citation: ClassVar[str] = "Zhang et al., NeurIPS 2015, arXiv:1509.01626"
    revision: str = Field(
        "9d9c45c18f8c3cf1b23a3c27917b60cbf28f3289", pattern=COMMIT, description="commit of fancyzhx/amazon_polarity"
    )
    drop_empty: bool = Field(True, description="leave out rows with an empty text instead of refusing them")

    def data_set(self) -> DataSet:
        """Return the data set."""
        splits = {"train": "train", "test": "test"}
        return DataSet("fancyzhx/amazon_polarity", "amazon_polarity", splits, Columns("content"))


class AgNews(_HubTask):
    """AG News, topics of news in four classes; the validation split is a stratified part of the training split."""

    name: ClassVar[str] = "agnews"
    citation: ClassVar[str] = "Zhang et al., NeurIPS 2015, arXiv:1509.01626"
    revision: str = Field(
        "eb185aade064a813bc0b7f42de02595523103ca4", pattern=COMMIT, description="commit of fancyzhx/ag_news"
    )

    def data_set(self) -> DataSet:
        """Return the data set."""
        return DataSet("fancyzhx/ag_news", "default", {"train": "train", "test": "test"}, Columns())
