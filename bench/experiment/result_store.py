"""The store of results: it takes and gives typed records, and nothing else under their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.experiment.record import Failure, Record
from bench.experiment.stored_fields import WrongField
from bench.store import Store
from bench.store.documents import Damaged


class ResultStore(Store):
    """A store whose records and failures have their types; a document without them counts as damaged."""

    def check_content(self, room: str, document: Mapping[str, Any]) -> None:
        """Raise :class:`Damaged` for what is no record, or no failure."""
        try:
            (Record if room == "records" else Failure).of(document)
        except WrongField as error:
            raise Damaged(str(error)) from None

    def result(self, key: str) -> Record | None:
        """Return the record of a cell, or None if there is none that can be used.

        Raises:
            Unreadable: there is a file that cannot be read.
        """
        document = self.record(key)
        return None if document is None else Record.of(document)

    def error(self, key: str) -> str | None:
        """Return why the last attempt at a job failed, or None.

        Raises:
            Unreadable: there is a file that cannot be read.
        """
        document = self.failure(key)
        return None if document is None else Failure.of(document).error

    def results(self) -> Iterator[Record]:
        """Yield every record that can be used, in ascending order of keys."""
        yield from map(Record.of, self.records())
