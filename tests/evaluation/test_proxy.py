from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from spie_robo.errors import ConfigError
from spie_robo.evaluation import proxy
from spie_robo.evaluation.proxy import (
    SuccessRates,
    mean_maximum_rank_violation,
    pearson,
    proxy_fidelity,
)

DATA = Path(__file__).parent / "data"


def column(name: str, rates: list[float], episodes: int | None = None) -> SuccessRates:
    counts = None if episodes is None else np.full(len(rates), episodes, np.int64)
    return SuccessRates(name, np.array(rates), counts)


def test_pearson_by_hand() -> None:
    # Deviations (-1, 0, 1) / 4 and (-2, -1, 3) / 12: r = 5 / sqrt(2 * 14).
    assert pearson(real=[0.25, 0.5, 0.75], sim=[1 / 12, 2 / 12, 6 / 12]) == pytest.approx(
        5 / math.sqrt(28)
    )
    assert pearson(real=[0.0, 0.5, 1.0], sim=[0.9, 0.5, 0.1]) == pytest.approx(-1)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 1.0])
def test_pearson_of_a_constant_is_undefined(rate: float) -> None:
    assert math.isnan(pearson(real=[0.1, 0.7, 0.3], sim=[rate] * 3))
    assert math.isnan(pearson(real=[rate] * 3, sim=[0.1, 0.7, 0.3]))


def test_mmrv_by_hand() -> None:
    # The simulator swaps a and b (0.1 apart) and ranks d below c (0.3 apart).
    # Worst violations: a 0.1, b 0.1, c 0.3, d 0.3.
    value = mean_maximum_rank_violation(real=[0.2, 0.3, 0.5, 0.8], sim=[0.4, 0.1, 0.9, 0.6])
    assert value == pytest.approx((0.1 + 0.1 + 0.3 + 0.3) / 4)


def test_mmrv_takes_the_worst_violation_of_each_policy() -> None:
    # The simulator puts the best policy last: it violates with all others, each of them only with
    # it. Worst: 0.8, 0.6, 0.8 and 0.2.
    value = mean_maximum_rank_violation(real=[0.1, 0.3, 0.9, 0.7], sim=[0.2, 0.3, 0.1, 0.4])
    assert value == pytest.approx((0.8 + 0.6 + 0.8 + 0.2) / 4)


def test_mmrv_depends_on_the_order_of_the_simulator_only() -> None:
    real, sim = [0.1, 0.5, 0.9, 0.4], np.array([0.2, 0.8, 0.3, 0.6])
    value = mean_maximum_rank_violation(real=real, sim=sim)
    assert value > 0
    assert mean_maximum_rank_violation(real=real, sim=sim**3 / 2) == value
    assert mean_maximum_rank_violation(real=real, sim=np.array(real) / 3) == 0


def test_mmrv_is_asymmetric_and_takes_names_only() -> None:
    one, other = [0.10, 0.15, 0.90], [0.8, 0.1, 0.9]
    assert mean_maximum_rank_violation(real=one, sim=other) == pytest.approx(2 * 0.05 / 3)
    assert mean_maximum_rank_violation(real=other, sim=one) == pytest.approx(2 * 0.7 / 3)
    with pytest.raises(TypeError):
        mean_maximum_rank_violation(one, other)  # type: ignore[misc]
    with pytest.raises(TypeError):
        pearson(one, other)  # type: ignore[misc]


def test_ties() -> None:
    # Equal in reality: never a violation. Different in reality, tied in the simulator: charged to
    # the worse policy only, here a with 0.6 (b has no violation left).
    assert mean_maximum_rank_violation(real=[0.4, 0.4], sim=[0.1, 0.9]) == 0
    assert mean_maximum_rank_violation(real=[0.2, 0.8], sim=[0.5, 0.5]) == pytest.approx(0.6 / 2)
    assert mean_maximum_rank_violation(real=[0.8, 0.2], sim=[0.5, 0.5]) == pytest.approx(0.6 / 2)
    # A simulator in which all policies do equally well is not a perfect one.
    value = mean_maximum_rank_violation(real=[0.1, 0.5, 0.9], sim=[0, 0, 0])
    assert value == pytest.approx((0.8 + 0.4 + 0) / 3)


@pytest.mark.parametrize(("real", "sim"), [([0.1, 0.2], [0.1]), ([[0.1]], [[0.2]]), ([], [])])
def test_shapes_are_checked(real: list[float], sim: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected two arrays of shape \(policies,\)"):
        pearson(real=real, sim=sim)
    with pytest.raises(ValueError, match=r"expected two arrays of shape \(policies,\)"):
        mean_maximum_rank_violation(real=real, sim=sim)


def published(table: str) -> list[tuple[list[float], list[float], float, float]]:
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    with (DATA / f"simpler_table_{table}_rates.csv").open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in ("task", "policy"):
                    rates[row["task"], name].append(float(value))
    with (DATA / f"simpler_table_{table}_metrics.csv").open() as file:
        return [
            (
                rates[row["task"], "real"],
                rates[row["task"], row["setup"]],
                float(row["mmrv"]),
                float(row["pearson"]),
            )
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize(("table", "count"), [("iv", 18), ("v", 4)])
def test_published_tables_come_out(table: str, count: int) -> None:
    rows = published(table)
    assert len(rows) == count
    for real, sim, mmrv, r in rows:
        # The published rates are rounded to three decimals (see data/SOURCE.md).
        assert mean_maximum_rank_violation(real=real, sim=sim) == pytest.approx(mmrv, abs=0.001)
        assert pearson(real=real, sim=sim) == pytest.approx(r, abs=0.004)


def test_published_tables_tell_the_arguments_apart() -> None:
    swapped = [mean_maximum_rank_violation(real=s, sim=r) - m for r, s, m, _ in published("iv")]
    assert max(map(abs, swapped)) > 0.05


def test_result_has_the_points_and_intervals_around_them() -> None:
    real = column("real", [0.1, 0.3, 0.5, 0.6, 0.8, 0.9])
    sim = column("sim", [0.3, 0.2, 0.7, 0.5, 0.9, 0.8])
    result = proxy_fidelity(real, [sim], resamples=2000)
    (one,) = result.simulators
    assert one.pearson == pearson(real=real.rates, sim=sim.rates)
    assert one.mmrv == mean_maximum_rank_violation(real=real.rates, sim=sim.rates)
    assert one.pearson_interval is not None
    assert one.pearson_interval[0] < one.pearson < one.pearson_interval[1]
    assert one.mmrv_interval[0] < one.mmrv < one.mmrv_interval[1]
    assert result.comparisons == () and result.resampled_episodes == ()
    assert one.undefined < 10  # all six draws the same policy: once in 6^5


def test_seed_decides_the_intervals() -> None:
    real, sim = column("real", [0.1, 0.4, 0.5, 0.9]), column("sim", [0.2, 0.3, 0.9, 0.7], 20)
    one = proxy_fidelity(real, [sim], seed=3, resamples=500)
    assert one == proxy_fidelity(real, [sim], seed=3, resamples=500)
    assert one.simulators != proxy_fidelity(real, [sim], seed=4, resamples=500).simulators


def test_parts_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sim = column("real", [0.1, 0.4, 0.5, 0.9]), column("sim", [0.2, 0.3, 0.9, 0.7])
    whole = proxy_fidelity(real, [sim], resamples=501)
    monkeypatch.setattr(proxy, "_PAIRS_AT_ONCE", 1)
    assert proxy_fidelity(real, [sim], resamples=501) == whole


def test_episodes_widen_the_intervals_and_more_of_them_less() -> None:
    rates = list(np.linspace(0.05, 0.95, 12))
    widths = []
    for episodes in (None, 1000, 10):
        result = proxy_fidelity(
            column("real", rates, episodes), [column("sim", rates, episodes)], resamples=1000
        )
        interval = result.simulators[0].pearson_interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[0] == pytest.approx(0, abs=1e-9)
    assert widths[0] < widths[1] < widths[2] / 3
    assert result.resampled_episodes == ("real", "sim")


def test_comparison_is_paired() -> None:
    rates = list(np.linspace(0.1, 0.9, 8))
    real, noisy = column("real", rates), column("sim", [*rates[::-1][:6], 0.2, 0.1])
    good, copy = column("edited", rates), column("copy", list(noisy.rates))
    result = proxy_fidelity(real, [noisy, good, copy], resamples=1000)
    better, same = result.comparisons
    assert (better.name, better.baseline) == ("edited", "sim")
    assert better.pearson_gain is not None and better.pearson_gain > 1
    assert better.pearson_interval is not None and better.pearson_interval[0] > 0
    assert better.mmrv_gain > 0 and better.mmrv_interval[0] > 0
    # The same rates on the same resamples: a difference of nothing, without any spread.
    assert (same.pearson_gain, same.mmrv_gain) == (0, 0)
    assert same.pearson_interval == (0, 0) and same.mmrv_interval == (0, 0)


def test_constant_simulator_has_no_r_but_a_violation() -> None:
    real = column("real", [0.1, 0.5, 0.9])
    result = proxy_fidelity(real, [column("sim", [0, 0, 0]), column("b", [0, 0.5, 1])])
    constant, good = result.simulators
    assert constant.pearson is None and constant.pearson_interval is None
    assert constant.undefined == result.resamples
    assert constant.mmrv == pytest.approx(0.4)
    assert good.pearson == pytest.approx(1)
    (comparison,) = result.comparisons
    assert comparison.pearson_gain is None and comparison.pearson_interval is None
    assert comparison.mmrv_gain == pytest.approx(0.4)


def test_too_few_defined_resamples_give_no_interval() -> None:
    # One policy of three differs: it is drawn in 1 - (2/3)^3 = 70 %, and alone in 4 %; with rates
    # from one episode each, r is defined in fewer than half.
    real = column("real", [0.0, 0.0, 0.5], 1)
    (one,) = proxy_fidelity(real, [column("sim", [0.1, 0.0, 0.9])], resamples=1000).simulators
    assert one.pearson is not None and one.pearson_interval is None
    assert 500 < one.undefined < 1000


@pytest.mark.parametrize(
    ("real", "sim", "message"),
    [
        ([0.1, 0.9], [0.1, 0.9], "3 or more policies, got 2"),
        ([0.5, 0.5, 0.5], [0.1, 0.5, 0.9], "all 3 have 0.5"),
        ([0.1, 0.5, 0.9], [0.1, 0.5], "expected 3 rates"),
    ],
)
def test_input_that_says_nothing_is_refused(
    real: list[float], sim: list[float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        proxy_fidelity(column("real", real), [column("sim", sim)])
