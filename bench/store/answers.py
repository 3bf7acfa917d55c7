"""Answers that took long: texts that follow from the records of a store, kept under the hash of all that made them.

Whoever asks names everything that an answer follows from, the stamp of every record's file included. So a record that
was added, changed or removed makes another question, which has no answer yet.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from bench.errors import RequestError
from bench.store.documents import SCHEMA, Damaged, Newer, read_bytes, unwrap, wrap
from bench.store.layout import Folder, check_key

log = logging.getLogger(__name__)

MOST_ANSWERS = 32  # of a store; beyond, the oldest are dropped
LARGEST_ANSWER = 64 << 20  # bytes


class Answers(Folder):
    """The answers of a store. They only save time, so whatever is wrong with one, it is made again."""

    def answer(self, key: str) -> str | None:
        """Return the text that is kept under a key, or None."""
        try:
            text = unwrap(read_bytes(self._place_of_answer(key), most=LARGEST_ANSWER), key=key).get("text")
        except (OSError, Damaged, Newer):
            return None
        return text if isinstance(text, str) else None

    def keep_answer(self, key: str, text: str) -> None:
        """Keep a text under a key; where the store cannot be written, nothing is kept."""
        content = wrap({"schema": SCHEMA, "key": key, "text": text})
        if len(content) > LARGEST_ANSWER:
            return
        try:
            with self.guard():
                path = self._place_of_answer(key)
                path.unlink(missing_ok=True)  # a damaged one
                self.write_new(path, content)
                self._drop_oldest()
        except RequestError as error:
            log.info("an answer is not kept: %s", error)

    def _place_of_answer(self, key: str) -> Path:
        return self.root / "compact" / f"{check_key(key)}.answer"

    def _drop_oldest(self) -> None:
        kept = sorted((self.root / "compact").glob("*.answer"), key=lambda path: path.lstat().st_mtime_ns)
        for path in kept[:-MOST_ANSWERS]:
            with contextlib.suppress(OSError):
                os.unlink(path)
