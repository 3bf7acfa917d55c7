"""What jobs cost before any was measured, and what ``run --dry-run`` says of the time that they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.contracts.kind import Kind
from bench.experiment import costs, probe
from bench.experiment.plan import EXAMPLES_PER_SECOND
from bench.plugins.chain import chain
from tests.experiment.test_other_library_versions import opened
from tests.performance import cell_costs

RESULTS = Path(__file__).parents[2] / "results"
ENCODER = Kind.CLASSIFICATION


def test_the_table_is_what_the_published_records_say() -> None:
    assert cell_costs.table([RESULTS]) == costs.measured()


def test_a_chain_costs_what_its_parts_cost_and_a_search_more_than_a_fixed_value() -> None:
    table = costs.measured()[ENCODER]
    tuned, mixed = table["fine-tuning"], table["fine-mixing, fixed"]
    assert costs.of_defense(chain("fine-tuning"), ENCODER) == tuned
    both = chain("fine-tuning+fine-mixing(reserve_ratio=0.5)")
    assert costs.of_defense(both, ENCODER) == pytest.approx(tuned + mixed)
    assert costs.of_defense(chain("fine-mixing"), ENCODER) == table["fine-mixing"] > 3 * mixed
    assert costs.of_defense(None, ENCODER) == 0
    assert costs.unknown(both, ENCODER) == []
    assert costs.unknown(chain("fine-tuning+onion"), ENCODER) == ["onion"]
    assert min(table.values()) <= costs.of_defense(chain("onion"), ENCODER) <= max(table.values())


def test_a_dry_run_says_how_long_it_takes(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(world, tmp_path)
    cost = sum(job.cost for job in session.plan.jobs) * EXAMPLES_PER_SECOND
    monkeypatch.setattr(probe, "seconds_per_example", lambda victims, *, device, threads: 3600 * 6 / cost)
    size, counts, takes = session.forecast(workers=2, device="cpu")
    assert "2 victims, 4 cells" in size and "done 0, failed 0, to do 6" in counts
    assert takes.startswith("about 3.0 h with 2 workers, as ")


def test_a_probe_trains_what_the_suite_would_train(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.2)
    victims = opened(world, tmp_path).plan.victims.values()
    assert 0 < probe.seconds_per_example(victims, device="cpu", threads=1) < 1
