"""The report of a backtest: figures, plots, the page, and what the model lives on."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from ray_job import report
from ray_job.__main__ import app
from ray_job.backtest import Backtest, backtest
from ray_job.backtest.naive import RULES
from ray_job.backtest.slices import slices
from ray_job.backtest.trial import Conditions
from ray_job.backtest.weather import with_forecast_errors
from ray_job.bucket.errors import InputError
from ray_job.cli import models
from ray_job.evaluation.metrics import measures
from ray_job.model.model import Model
from ray_job.report import plots as report_plots
from ray_job.report.figures import Rows, chance_within, coverage_of_stores, within
from ray_job.report.importance import BASELINE, importance
from ray_job.settings import Settings
from tests.support import panels
from tests.support import shop as chain

DAY = timedelta(days=1)
PANEL = panels.panel(stores=12, days=200)
CONTEXT = panels.context(PANEL)
TRAINED = PANEL.first_day + 171 * DAY
FIRST, LAST = TRAINED + DAY, TRAINED + 28 * DAY
SETTINGS = Settings(
    training={"rows": 3000, "trees": 15, "leaves": 15, "calibration_days": 28}, lookback_days=120
)
MADE = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def model():
    return panels.fitted_model(PANEL, CONTEXT, SETTINGS, TRAINED, version="v<1>", created_at=MADE)


@pytest.fixture(scope="module")
def result(model):
    return backtest(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS)


@pytest.fixture(scope="module")
def found(model):
    return importance(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS)


@pytest.fixture(scope="module")
def page(model, result, found):
    return report.render(
        report.Material(
            model=model.description,
            first=FIRST,
            last=LAST,
            rows=result.rows,
            figures=result.report(),
            slices=slices(result.rows, PANEL, CONTEXT),
            importance=found,
            remarks=report.remarks(model.description, Conditions()),
            made_at=MADE,
        )
    )


def test_figures_agree_with_the_measures(result):
    rows = Rows.of(result.rows)
    told = result.report()
    for ahead, row in rows.by_days_ahead().iterrows():
        expected = told["by_days_ahead"][str(ahead)]
        for name in ("rows", "rmspe", "wape", "bias"):
            assert row[name] == pytest.approx(expected[name])
        assert row["coverage"] == pytest.approx(expected["coverage_80"])
        assert row["width"] == pytest.approx(expected["width_80"])
    store = rows.by_store().loc["s003"]
    mine = rows.first[rows.first["store_id"] == "s003"]
    assert store["wape"] == pytest.approx(
        measures(mine["actual"].to_numpy(), mine["predicted"].to_numpy())["wape"]
    )
    assert rows.by_day()["rows"].sum() == told["rows"]
    assert told["naive"][rows.rule]["wape"] == min(told["naive"][r]["wape"] for r in RULES)


def test_sizes_hold_all_stores_from_small_to_large(result):
    size = Rows.of(result.rows).by_size()
    assert size["rows"].sum() == result.report()["rows"]
    assert size["mean_sales"].is_monotonic_increasing


def test_coverage_of_stores(result):
    told = coverage_of_stores(result.rows)
    assert told["stores"] == 12
    stores = Rows.of(result.rows).by_store()
    assert told["share"] == within(stores)
    assert told["share"] == ((stores["coverage"] >= 0.67) & (stores["coverage"] <= 0.92)).mean()


def test_what_chance_alone_would_put_within():
    """Of 42 days 29 to 38 lie within; of a single day all or nothing is inside."""
    days = pd.DataFrame({"rows": [42]})
    assert chance_within(days) == pytest.approx(0.9494, abs=1e-4)
    assert chance_within(pd.DataFrame({"rows": [1, 42]})) == chance_within(days) / 2


def test_the_page_asks_nothing_of_any_host(page):
    assert not re.search(r"(src|href|url\(|@import|https?:)", page)
    assert "<script" not in page


def test_every_plot_is_well_formed_and_has_a_name(page):
    plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(plots) > 12
    for plot in plots:
        root = ET.fromstring(plot)  # noqa: S314 - our own
        assert root.attrib["aria-label"]
        assert "nan" not in plot.lower()


def test_the_page_tells_what_it_should(page, result):
    for heading in (
        "Against naive rules",
        "Day by day",
        "By weekday and by days ahead",
        "The 80 % interval",
        "Forecast against sales",
        "By store",
        "Worst stores",
        "What the model lives on",
        "Kinds of days",
    ):
        assert heading in page
    assert f"{100 * result.report()['wape']:.1f} %" in page
    assert "flatters" in page


def test_names_are_escaped(page):
    assert "v&lt;1&gt;" in page
    assert "v<1>" not in page


@pytest.mark.parametrize(
    ("under", "said"),
    [
        (Conditions(late=2), "last 2 days"),
        (Conditions(weather=False), "got none"),
        (Conditions(weather_noise=0.3), "errors of a forecast (0.3"),
    ],
)
def test_remarks_say_how_it_was_done(model, under, said):
    assert said in " ".join(report.remarks(model.description, under))


def test_a_store_of_one_day_makes_a_page_too(model, result):
    few = result.rows.filter(pc.equal(result.rows["days_ahead"], 1)).slice(0, 1)
    told = report.Material(
        model.description, FIRST, LAST, few, Backtest(few).report(), {}, None, [], MADE
    )
    assert "</html>" in report.render(told)


class LevelAndPromotions:
    """A store sells its level, and on promoted days 30 % more; that is all that there is."""

    def __init__(self, names: list[str]) -> None:
        self.level, self.promo = names.index("level"), names.index("promo")

    def predict(self, features):
        promoted = np.nan_to_num(features[:, self.promo]) != 0
        return np.exp(features[:, self.level]) * np.where(promoted, 1.3, 1.0)


def test_a_model_lives_on_the_features_that_it_uses(model):
    told = model.description.model_copy(update={"target": "sales"})
    simple = Model.of(LevelAndPromotions(list(told.features)), told)
    found = importance(PANEL, FIRST, LAST, CONTEXT, simple, SETTINGS)
    assert [name for name, _ in found.features[:2]] == ["level", "promo"]
    assert found.features[1][1] > 0.01
    assert {value for _, value in found.features[2:]} == {0.0}
    assert found.families[:2] == [
        ("past sales", found.features[0][1]),
        ("promotions", found.features[1][1]),
    ]
    assert BASELINE not in dict(found.features)


def test_importance_is_the_same_each_time(found, model):
    assert importance(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS) == found


def test_slices_are_the_days_they_say():
    days = [date(2024, 12, 20), date(2024, 12, 23), date(2024, 12, 24), date(2024, 12, 27)]
    known = panels.panel(stores=2, days=400)
    around = panels.context(known)
    rows = pa.table(
        {
            "store_id": ["s000"] * 4,
            "item_id": [""] * 4,
            "target_date": pa.array(days, pa.date32()),
            "days_ahead": [1] * 4,
            **{name: [100.0, 100.0, 100.0, 100.0] for name in ("actual", *RULES)},
            "predicted": [110.0, 120.0, 130.0, 140.0],
            "lower": [90.0] * 4,
            "upper": [115.0] * 4,
        }
    )
    told = slices(rows, known, around)
    assert told["in the two weeks before Christmas"]["rows"] == 3
    assert told["in the week after Christmas"]["wape"] == pytest.approx(0.4)
    assert told["the day before a holiday"]["wape"] == pytest.approx(0.3)
    assert told["two or three days before a holiday"]["wape"] == pytest.approx(0.2)
    assert told["the day after a holiday"]["rows"] == 1
    assert told["the day after a holiday"]["naive_wape"] == 0.0
    assert "in the week before Easter" not in told
    promoted = sum(told[name]["rows"] for name in ("on promotion", "without promotion"))
    assert promoted == 4
    in_school = np.nan_to_num(known.known_ahead["school_holiday"][0]) != 0
    expected = sum(bool(in_school[known.column(day)]) for day in days)
    assert told.get("in school holidays", {"rows": 0})["rows"] == expected


def test_weather_errors_begin_after_the_as_of_and_grow():
    as_of = PANEL.first_day + 100 * DAY
    noisy = with_forecast_errors(CONTEXT, as_of, 0.3)
    assert np.array_equal(noisy.weather[:, :101], CONTEXT.weather[:, :101])
    errors = np.abs(noisy.weather[:, 101:] - CONTEXT.weather[:, 101:])
    assert errors[:, :10].mean() < errors[:, 40:90].mean()
    assert noisy.weather.min() >= CONTEXT.weather[:-1].min()
    assert noisy.digest != CONTEXT.digest
    assert np.array_equal(noisy.weather, with_forecast_errors(CONTEXT, as_of, 0.3).weather)
    assert with_forecast_errors(CONTEXT, as_of, 0.0) is CONTEXT


def test_a_context_without_weather_makes_a_model_without():
    none = CONTEXT.without_weather()
    assert panels.inputs(PANEL, none).weather == ()
    assert none.weather_missing_at(FIRST).all()
    assert with_forecast_errors(none, FIRST, 0.3) is none


def test_forecast_errors_are_felt_and_no_weather_still_forecasts(model, result):
    noisy = backtest(PANEL, FIRST, FIRST, CONTEXT, model, SETTINGS, weather_noise=3.0)
    exact = result.rows.filter(pc.equal(result.rows["target_date"], FIRST))
    assert noisy.rows.num_rows == exact.num_rows
    assert noisy.rows["predicted"] != exact["predicted"]
    bare = backtest(PANEL, FIRST, FIRST, CONTEXT.without_weather(), model, SETTINGS)
    assert np.isfinite(bare.rows["predicted"].to_numpy()).all()


def test_plots_of_nothing_and_of_the_same_value():
    flat = report_plots.lines(
        "t", ["a", "b"], [report_plots.Line("x", "forecast", np.zeros(2))], report_plots.number
    )
    assert "NaN" not in flat
    assert "<svg" in report_plots.density("t", np.zeros(3), np.zeros(3))
    gap = report_plots.Line("x", "forecast", np.array([1.0, np.nan, 2.0]))
    drawn = report_plots.lines("t", ["a", "b", "c"], [gap], report_plots.number)
    assert drawn.count("M") > drawn.count('<path class="grid"')


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1500, "1.5 k"), (2.5e6, "2.5 m"), (3e9, "3 bn")]
)
def test_numbers_are_short(value, text):
    assert report_plots.number(value) == text


def storecast(shop, monkeypatch, *arguments):
    """A command at the midnight after the chain's last day, under its settings."""
    real = models.open_command

    def open_at_last(*args, **kwargs):
        command = real(*args, **kwargs)
        given = chain.SETTINGS.model_copy(update={"bucket": command.settings.bucket})
        return replace(command, now=chain.midnight(chain.LAST), settings=given)

    monkeypatch.setattr(models, "open_command", open_at_last)
    return CliRunner().invoke(app, [*arguments, "--bucket", shop.storage.url])


def test_the_command_writes_the_report(shop, monkeypatch, tmp_path):
    file = tmp_path / "report.html"
    told = storecast(
        shop, monkeypatch, "backtest", "--days", "2", "--report", str(file), "--weather-noise", "1"
    )
    assert f"The report is in {file}." in told.output
    assert "given the errors of a forecast" in file.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_refused(shop, monkeypatch, tmp_path):
    file = tmp_path / "nowhere" / "report.html"
    told = storecast(shop, monkeypatch, "backtest", "--days", "1", "--report", str(file))
    assert isinstance(told.exception, InputError)
    assert "--report" in str(told.exception)


def test_days_that_the_model_was_trained_on_are_refused(shop, monkeypatch):
    told = storecast(shop, monkeypatch, "backtest", "--days", "15")
    assert "would flatter it" in str(told.exception)
