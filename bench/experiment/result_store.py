"""The store of results: it takes and gives typed records, and nothing else under their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.experiment import outcomes
from bench.experiment.kept import Kept, KeptRecord
from bench.experiment.record import Failure, Record
from bench.experiment.stored_fields import WrongField
from bench.store import Store, Unreadable
from bench.store.derived import Derived
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

    def kept(self, keys: Iterable[str]) -> Kept:
        """Return what is kept of every record of ``keys`` that can be used; the rest of each is read when it is asked.

        It takes a hundredth of the time of :meth:`result` for each of them.
        """
        summaries = self.summaries(keys)
        stamps = dict(zip(summaries.keys, summaries.stamps, strict=True))
        derived = Derived(self, outcomes.derivation(), stamps, lambda key: self.must_have(key).document())
        records = (KeptRecord(key, row, self.must_have, derived) for key, row in KeptRecord.rows(summaries))
        return Kept({record.key: record for record in records}, summaries.unreadable)

    def must_have(self, key: str) -> Record:
        """Return the record of a cell.

        Raises:
            Unreadable: there is none, or a file that cannot be read.
        """
        if (record := self.result(key)) is None:
            raise Unreadable(f"the record {key[:12]} was there a moment ago and has changed since; start again.")
        return record

    def error(self, key: str) -> str | None:
        """Return why the last attempt at a job failed, or None.

        Raises:
            Unreadable: there is a file that cannot be read.
        """
        document = self.failure(key)
        return None if document is None else Failure.of(document).error

    def errors(self, keys: Iterable[str]) -> dict[str, str]:
        """Return why the last attempt at each job failed, or that this cannot be read, for those of which one did."""
        errors: dict[str, str] = {}
        failed = self.keys_of_failures()
        for key in keys if failed else ():
            if key in failed:
                try:
                    error = self.error(key)
                except Unreadable as trouble:
                    error = str(trouble)
                if error is not None:
                    errors[key] = error
        return errors

    def results(self) -> Iterator[Record]:
        """Yield every record that can be used, in ascending order of keys."""
        yield from map(Record.of, self.records())
