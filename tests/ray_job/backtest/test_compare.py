"""Two models on the same days: the test, the days, and what promote makes of it."""

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
    told = []
    for day in range(days):
        for store in range(stores):
            told += [
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
                }
                for h in ahead
            ]
    return pa.Table.from_pylist(told)


def test_a_model_that_is_clearly_nearer_is_better():
    found = compare(rows(0.2), rows(0.05, seed=1))
    assert found["better"] == "second"
    assert found["test"]["p_value"] < 0.01
    assert found["test"]["difference"] == pytest.approx(
        found["second"]["wape"] - found["first"]["wape"]
    )
    assert found["test"]["high"] < 0
    assert compare(rows(0.05, seed=1), rows(0.2))["better"] == "first"


def test_a_model_is_not_better_than_itself():
    found = compare(rows(0.1), rows(0.1))
    assert found["better"] is None
    assert (found["test"]["difference"], found["test"]["p_value"]) == (0.0, 1.0)


def test_chance_is_seldom_taken_for_skill():
    verdicts = [
        compare(rows(0.1, seed=2 * k), rows(0.1, seed=2 * k + 1))["better"] for k in range(40)
    ]
    assert sum(verdict is not None for verdict in verdicts) <= 6


def test_a_thousand_stores_with_the_same_luck_are_one_observation_a_day():
    """Every store has the day's error: more stores must not make it more certain."""
    rng = np.random.default_rng(3)
    luck = rng.normal(size=(2, 20))
    few, many = (
        diebold_mariano(*(np.abs(luck) * stores), 20.0 * stores, 1) for stores in (1, 1000)
    )
    assert few.p_value == pytest.approx(many.p_value)


def test_only_rows_of_both_are_compared():
    found = compare(rows(0.1, stores=4), rows(0.1, stores=3, seed=1))
    assert found["first"]["rows"] == found["second"]["rows"] == 3 * 28
    assert set(found["by_days_ahead"]) == {"1", "2"}


def test_nothing_one_day_ahead_cannot_be_compared():
    with pytest.raises(InputError, match="one day ahead"):
        compare(rows(0.1, ahead=(2,)), rows(0.1, ahead=(2,)))


def test_the_statistic_by_hand():
    """Differences 1, 3, 2, 2: variance 1/2, lag-1 covariance -1/4 with weight 1/2."""
    losses = np.array([10.0, 12.0, 9.0, 11.0])
    found = diebold_mariano(losses, losses + np.array([1.0, 3.0, 2.0, 2.0]), 4.0, 1)
    error = (0.25 / 4 / 0.75) ** 0.5
    assert found.lags == 1
    assert found.difference == 2.0
    assert found.statistic == pytest.approx(2.0 / error)
    assert found.high - found.low == pytest.approx(2 * 3.18245 * error, rel=1e-4)
    assert found.days_better == 0


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=7, max_size=40),
    st.integers(1, 7),
)
def test_the_test_is_symmetric(losses, ahead):
    one, other = np.array(losses).T
    there, back = (diebold_mariano(*pair, 1e6, ahead) for pair in ((one, other), (other, one)))
    assert there.difference == pytest.approx(-back.difference)
    assert there.p_value == pytest.approx(back.p_value)
    assert 0 <= there.p_value <= 1
    assert there.low <= there.difference <= there.high


def trained(version, last):
    return SimpleNamespace(
        description=SimpleNamespace(version=version, trained_on=SimpleNamespace(last=last))
    )


def test_common_days_are_those_that_neither_has_seen():
    one, other = trained("a", FIRST), trained("b", FIRST + 5 * DAY)
    last = FIRST + 30 * DAY
    assert common_days(one, other, last, 28) == (FIRST + 6 * DAY, last)
    assert common_days(one, other, last, 10) == (last - 9 * DAY, last)
    with pytest.raises(InputError, match="leaves 3 days"):
        common_days(one, other, FIRST + 8 * DAY, 28)


@pytest.fixture
def at_last(monkeypatch):
    """The commands' clock stands at the midnight after the chain's last day."""
    real = models.open_command

    def open_at_last(*args, **kwargs):
        command = real(*args, **kwargs)
        return replace(command, now=midnight(LAST), settings=_settings(command.settings))

    for module in (models, quality):
        monkeypatch.setattr(module, "open_command", open_at_last)


def _settings(given):
    return chain.SETTINGS.model_copy(update={"bucket": given.bucket})


def storecast(shop, *arguments):
    return CliRunner().invoke(app, [*arguments, "--bucket", shop.storage.url])


@pytest.mark.usefixtures("at_last")
def test_promote_wants_the_better_one_or_force_and_goes_back(shop):
    chain.train(shop.storage, "same", promote=False)
    refused = storecast(shop, "promote", "same", "--days", "7")
    assert isinstance(refused.exception, InputError)
    assert "--force promotes it all the same" in str(refused.exception)
    assert registry.current(shop.storage).version == MODEL
    forced = storecast(shop, "promote", "same", "--force")
    assert forced.exit_code == 0
    assert f"`storecast promote {MODEL}` goes back" in forced.output
    assert storecast(shop, "promote", MODEL).exit_code == 0
    assert [one.version for one in registry.history(shop.storage)] == [MODEL, "same", MODEL]
    unknown = storecast(shop, "promote", "nothing", "--force")
    assert "no such model" in str(unknown.exception)


@pytest.mark.usefixtures("at_last")
def test_the_command_compares_registered_models(shop, capsys):
    chain.train(shop.storage, "same", promote=False)
    told = storecast(shop, "compare", MODEL, "same", "--days", "7", "--json")
    document = json.loads(told.stdout)
    assert document["models"] == [MODEL, "same"]
    assert document["test"]["days"] == 7
    assert document["from"] == str(LAST - 6 * DAY)
    quality.print_comparison(document)
    assert "The difference may be chance (p = 1.000" in capsys.readouterr().out
