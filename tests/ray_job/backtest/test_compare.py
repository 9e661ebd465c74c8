"""The comparison of two models on the same days, and the promotion of the better one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.backtest.compare import common_days, compare, diebold_mariano
from ray_job.bucket.errors import InputError
from ray_job.cli import models, quality
from ray_job.model import registry
from tests.support import shop as chain
from tests.support.shop import LAST, MODEL, midnight

DAY = timedelta(days=1)
FIRST = date(2026, 1, 5)


def rows(errors, *, stores=4, days=28, ahead=(1, 2), seed=0):
    """A backtest's rows whose relative errors have this standard deviation."""
    rng = np.random.default_rng(seed)
    records = []
    for day in range(days):
        for store in range(stores):
            records += [
                {
                    "store_id": f"s{store}",
                    "item_id": "",
                    "as_of": FIRST + (day - h) * DAY,
                    "target_date": FIRST + day * DAY,
                    "days_ahead": h,
                    "actual": 100.0,
                    "predicted": 100.0 * (1 + errors * rng.normal()),
                    "lower": 90.0,
                    "upper": 110.0,
                    "kind": "smooth" if store else "short",
                    "unit": 20.0,
                }
                for h in ahead
            ]
    return pa.Table.from_pylist(records)


def test_a_model_with_much_smaller_errors_is_better():
    comparison = compare(rows(0.2), rows(0.05, seed=1))
    assert comparison["better"] == "second"
    assert comparison["test"]["p_value"] < 0.01
    assert comparison["test"]["difference"] == pytest.approx(
        comparison["second"]["wape"] - comparison["first"]["wape"]
    )
    assert comparison["test"]["high"] < 0
    assert {kind: row["better"] for kind, row in comparison["kinds"].items()} == {
        "smooth": "second",
        "short": "second",
    }
    assert comparison["second"]["rmsse"] == pytest.approx(0.05 * 100 / 20, rel=0.2)
    assert compare(rows(0.05, seed=1), rows(0.2))["better"] == "first"


def test_a_model_is_not_better_than_itself():
    comparison = compare(rows(0.1), rows(0.1))
    assert comparison["better"] is None
    assert (comparison["test"]["difference"], comparison["test"]["p_value"]) == (0.0, 1.0)


def test_models_of_equal_skill_seldom_differ_significantly():
    verdicts = [
        compare(rows(0.1, seed=2 * k), rows(0.1, seed=2 * k + 1))["better"] for k in range(40)
    ]
    assert sum(verdict is not None for verdict in verdicts) <= 6


def test_a_day_is_one_observation_however_many_stores_there_are():
    """All stores have the same error on a day: more stores must not make the result surer."""
    rng = np.random.default_rng(3)
    errors_of_days = rng.normal(size=(2, 20))
    few, many = (
        diebold_mariano(*(np.abs(errors_of_days) * stores), 20.0 * stores, 1)
        for stores in (1, 1000)
    )
    assert few.p_value == pytest.approx(many.p_value)


def test_only_rows_of_both_are_compared():
    comparison = compare(rows(0.1, stores=4), rows(0.1, stores=3, seed=1))
    assert comparison["first"]["rows"] == comparison["second"]["rows"] == 3 * 28
    assert set(comparison["by_days_ahead"]) == {"1", "2"}


def test_nothing_one_day_ahead_cannot_be_compared():
    with pytest.raises(InputError, match="one day ahead"):
        compare(rows(0.1, ahead=(2,)), rows(0.1, ahead=(2,)))


def test_the_statistic_by_hand():
    """Differences 1, 3, 2, 2: variance 1/2, lag-1 covariance -1/4 with weight 1/2."""
    losses = np.array([10.0, 12.0, 9.0, 11.0])
    comparison = diebold_mariano(losses, losses + np.array([1.0, 3.0, 2.0, 2.0]), 4.0, 1)
    error = (0.25 / 4 / 0.75) ** 0.5
    assert comparison.lags == 1
    assert comparison.difference == 2.0
    assert comparison.statistic == pytest.approx(2.0 / error)
    assert comparison.high - comparison.low == pytest.approx(2 * 3.18245 * error, rel=1e-4)
    assert comparison.days_better == 0


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=7, max_size=40),
    st.integers(1, 7),
)
def test_the_test_is_symmetric(losses, ahead):
    first, second = np.array(losses).T
    forward = diebold_mariano(first, second, 1e6, ahead)
    back = diebold_mariano(second, first, 1e6, ahead)
    assert forward.difference == pytest.approx(-back.difference)
    assert forward.p_value == pytest.approx(back.p_value)
    assert 0 <= forward.p_value <= 1
    assert forward.low <= forward.difference <= forward.high


def trained(version, last):
    return SimpleNamespace(
        description=SimpleNamespace(version=version, trained_on=SimpleNamespace(last=last))
    )


def test_common_days_are_days_of_neither_training():
    first, second = trained("a", FIRST), trained("b", FIRST + 5 * DAY)
    last = FIRST + 30 * DAY
    assert common_days(first, second, last, 28) == (FIRST + 6 * DAY, last)
    assert common_days(first, second, last, 10) == (last - 9 * DAY, last)
    with pytest.raises(InputError, match="leaves 3 days"):
        common_days(first, second, FIRST + 8 * DAY, 28)


@pytest.fixture
def at_last(monkeypatch):
    """The commands' clock stands at the midnight after the chain's last day."""
    real = models.open_command

    def open_at_last(*args, **kwargs):
        command = real(*args, **kwargs)
        return replace(command, now=midnight(LAST), settings=_settings(command.settings))

    for module in (models, quality):
        monkeypatch.setattr(module, "open_command", open_at_last)


def _settings(settings):
    return chain.SETTINGS.model_copy(update={"bucket": settings.bucket})


def storecast(shop, *arguments):
    return CliRunner().invoke(app, [*arguments, "--bucket", shop.storage.url])


@pytest.mark.usefixtures("at_last")
def test_promote_needs_a_better_model_or_force_and_goes_back(shop):
    chain.train(shop.storage, "same", promote=False)
    refused = storecast(shop, "promote", "same", "--days", "7")
    assert isinstance(refused.exception, InputError)
    assert "--force promotes it all the same" in str(refused.exception)
    assert registry.current(shop.storage).version == MODEL
    forced = storecast(shop, "promote", "same", "--force")
    assert forced.exit_code == 0
    assert f"`storecast promote {MODEL}` goes back" in forced.output
    assert storecast(shop, "promote", MODEL).exit_code == 0
    assert [promotion.version for promotion in registry.history(shop.storage)] == [
        MODEL,
        "same",
        MODEL,
    ]
    unknown = storecast(shop, "promote", "nothing", "--force")
    assert "no such model" in str(unknown.exception)


@pytest.mark.usefixtures("at_last")
def test_the_command_compares_registered_models(shop, capsys):
    chain.train(shop.storage, "same", promote=False)
    ran = storecast(shop, "compare", MODEL, "same", "--days", "7", "--json")
    document = json.loads(ran.stdout)
    assert document["models"] == [MODEL, "same"]
    assert document["test"]["days"] == 7
    assert document["from"] == str(LAST - 6 * DAY)
    quality.print_comparison(document)
    assert "The difference may be chance (p = 1.000" in capsys.readouterr().out
