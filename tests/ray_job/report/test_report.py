"""The report of a backtest: figures, plots, the page, and feature importance."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.backtest import Backtest, backtest
from ray_job.backtest.model_backtest import figures
from ray_job.backtest.slices import slices
from ray_job.backtest.trial import Conditions
from ray_job.backtest.weather import with_forecast_errors
from ray_job.bucket.errors import InputError
from ray_job.cli import models
from ray_job.evaluation.metrics import measures
from ray_job.features.naive import RULES
from ray_job.model.model import Model
from ray_job.report import document, plots
from ray_job.report.figures import Rows, chance_within, coverage_of_stores, within
from ray_job.report.formats import number, percent, share
from ray_job.report.importance import BASELINE, importance
from ray_job.report.plots import Line
from ray_job.report.svg import DARK_PALETTE, PALETTE
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
def ranked(model):
    return importance(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS)


@pytest.fixture(scope="module")
def inputs(model, result, ranked):
    return document.ReportInputs(
        model=model.description,
        first=FIRST,
        last=LAST,
        rows=result.rows,
        figures=figures(result, model.description.intervals),
        slices=slices(result.rows, PANEL, CONTEXT),
        importance=ranked,
        remarks=document.remarks(model.description, Conditions()),
        made_at=MADE,
    )


@pytest.fixture(scope="module")
def page(inputs):
    return document.render(inputs)


def test_figures_agree_with_the_measures(result):
    rows = Rows.of(result.rows)
    report = result.report()
    for ahead, row in rows.by_days_ahead().iterrows():
        expected = report["by_days_ahead"][str(ahead)]
        for name in ("rows", "rmspe", "wape", "bias"):
            assert row[name] == pytest.approx(expected[name])
        assert row["coverage"] == pytest.approx(expected["coverage_80"])
        assert row["width"] == pytest.approx(expected["width_80"])
    store = rows.by_store().loc["s003"]
    of_store = rows.first[rows.first["store_id"] == "s003"]
    assert store["wape"] == pytest.approx(
        measures(of_store["actual"].to_numpy(), of_store["predicted"].to_numpy())["wape"]
    )
    assert rows.by_day()["rows"].sum() == report["rows"]
    assert report["naive"][rows.rule]["wape"] == min(report["naive"][r]["wape"] for r in RULES)


def test_classes_of_size_hold_all_stores_from_small_to_large(result):
    size = Rows.of(result.rows).by_size()
    assert size["rows"].sum() == result.report()["rows"]
    assert size["mean_sales"].is_monotonic_increasing


def test_coverage_of_stores(result):
    coverage = coverage_of_stores(result.rows)
    assert coverage["stores"] == 12
    stores = Rows.of(result.rows).by_store()
    assert coverage["share"] == within(stores)
    assert coverage["share"] == ((stores["coverage"] >= 0.67) & (stores["coverage"] <= 0.92)).mean()


def test_coverage_of_perfectly_calibrated_stores():
    """Of 42 days 29 to 38 lie within; of a single day all or none are inside."""
    days = pd.DataFrame({"rows": [42]})
    assert chance_within(days) == pytest.approx(0.9494, abs=1e-4)
    assert chance_within(pd.DataFrame({"rows": [1, 42]})) == chance_within(days) / 2


def test_the_page_loads_nothing_from_anywhere(page):
    links = re.findall(r"""(?:src|href)="([^"]*)"|url\(([^)]*)\)|(@import|<script|<link)""", page)
    assert links
    for link in links:
        assert "".join(link).startswith(("#", "data:image/png;base64,"))
    addresses = set(re.findall(r"https?://[^\"]*", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_inputs_give_the_same_page(inputs, page):
    assert document.render(inputs) == page


def test_the_user_s_settings_of_matplotlib_change_nothing(inputs, page):
    with mpl.rc_context({"svg.fonttype": "path", "lines.linewidth": 9, "font.size": 30}):
        assert document.render(inputs) == page


def test_every_plot_is_well_formed_and_described(page):
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) > 12
    for drawing in drawings:
        root = ET.fromstring(drawing)  # noqa: S314 - our own
        assert root.attrib["role"] == "img"
        assert re.search(r"\d", root.attrib["aria-label"])
        assert "nan" not in re.sub(r"base64,[^\"]*", "", drawing).lower()


def test_ids_are_unique_and_texts_are_texts(page):
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(set(ids)) == len(ids)
    assert re.search(r"<text [^>]*>21 Jun</text>", page)


def test_colours_of_plots_are_variables_that_the_page_defines(page):
    used = set(re.findall(r"var\((--\w+)\)", page))
    defined = set(re.findall(r"(--\w+):", page))
    assert used <= defined
    assert {f"--{kind}" for kind in PALETTE} <= defined
    assert set(PALETTE) == set(DARK_PALETTE)
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert re.findall(r"(?:fill|stroke): #[0-9a-f]{6}", drawings) == []


def test_the_page_has_all_sections(page, result):
    for heading in (
        "Naive rules, one day ahead",
        "Day by day",
        "By weekday and by days ahead",
        "The 80 % interval",
        "Forecast and sales",
        "By store",
        "Worst stores",
        "Feature importance",
        "Kinds of days",
    ):
        assert heading in page
    assert f"{100 * result.report()['wape']:.1f} %" in page
    assert "a forecast without error" in page


def test_names_are_escaped(page):
    assert "v&lt;1&gt;" in page
    assert "v<1>" not in page


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        (Conditions(late=2), "last 2 days before each night were withheld"),
        (Conditions(weather=False), "the weather was withheld"),
        (Conditions(weather_noise=0.3), "errors of a forecast (0.3"),
    ],
)
def test_remarks_tell_the_conditions(model, conditions, sentence):
    assert sentence in " ".join(document.remarks(model.description, conditions))


def test_a_single_row_makes_a_page_too(model, result):
    row = result.rows.filter(pc.equal(result.rows["days_ahead"], 1)).slice(0, 1)
    page = document.render(
        document.ReportInputs(
            model.description,
            FIRST,
            LAST,
            row,
            figures(Backtest(row), model.description.intervals),
            {},
            None,
            [],
            MADE,
        )
    )
    assert "</html>" in page
    assert "Feature importance" not in page
    assert "Kinds of days" not in page


class LevelAndPromotions:
    """A store sells its level, and 30 % more on days with promotion."""

    def __init__(self, names: list[str]) -> None:
        self.level, self.promo = names.index("level"), names.index("promo")

    def predict(self, features):
        promoted = np.nan_to_num(features[:, self.promo]) != 0
        return np.exp(features[:, self.level]) * np.where(promoted, 1.3, 1.0)


def test_only_features_that_a_model_uses_are_important(model):
    description = model.description.model_copy(update={"target": "sales"})
    simple = Model.of(LevelAndPromotions(list(description.features)), description)
    simple_ranked = importance(PANEL, FIRST, LAST, CONTEXT, simple, SETTINGS)
    assert [name for name, _ in simple_ranked.features[:2]] == ["level", "promo"]
    assert simple_ranked.features[1][1] > 0.01
    assert {rise for _, rise in simple_ranked.features[2:]} == {0.0}
    assert simple_ranked.families[:2] == [
        ("past sales", simple_ranked.features[0][1]),
        ("promotions", simple_ranked.features[1][1]),
    ]
    assert BASELINE not in dict(simple_ranked.features)


def test_importance_is_the_same_each_time(ranked, model):
    assert importance(PANEL, FIRST, LAST, CONTEXT, model, SETTINGS) == ranked


def test_slices_contain_the_days_of_their_kind():
    days = [date(2024, 12, 20), date(2024, 12, 23), date(2024, 12, 24), date(2024, 12, 27)]
    panel = panels.panel(stores=2, days=400)
    context = panels.context(panel)
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
    by_kind = slices(rows, panel, context)
    assert by_kind["in the two weeks before Christmas"]["rows"] == 3
    assert by_kind["in the week after Christmas"]["wape"] == pytest.approx(0.4)
    assert by_kind["the day before a holiday"]["wape"] == pytest.approx(0.3)
    assert by_kind["two or three days before a holiday"]["wape"] == pytest.approx(0.2)
    assert by_kind["the day after a holiday"]["rows"] == 1
    assert by_kind["the day after a holiday"]["naive_wape"] == 0.0
    assert "in the week before Easter" not in by_kind
    promoted = sum(by_kind[name]["rows"] for name in ("on promotion", "without promotion"))
    assert promoted == 4
    in_school = np.nan_to_num(panel.known_ahead["school_holiday"][0]) != 0
    expected = sum(bool(in_school[panel.column(day)]) for day in days)
    assert by_kind.get("in school holidays", {"rows": 0})["rows"] == expected


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


def test_a_context_without_weather_makes_inputs_without_weather():
    bare = CONTEXT.without_weather()
    assert panels.inputs(PANEL, bare).weather == ()
    assert bare.weather_missing_at(FIRST).all()
    assert with_forecast_errors(bare, FIRST, 0.3) is bare


def test_weather_errors_change_forecasts_and_missing_weather_does_not_prevent_them(model, result):
    noisy = backtest(PANEL, FIRST, FIRST, CONTEXT, model, SETTINGS, weather_noise=3.0)
    exact = result.rows.filter(pc.equal(result.rows["target_date"], FIRST))
    assert noisy.rows.num_rows == exact.num_rows
    assert noisy.rows["predicted"] != exact["predicted"]
    bare = backtest(PANEL, FIRST, FIRST, CONTEXT.without_weather(), model, SETTINGS)
    assert np.isfinite(bare.rows["predicted"].to_numpy()).all()


def test_a_plot_of_equal_values_has_a_scale():
    drawn = plots.line_plot("t", ["a", "b"], [Line("x", "forecast", np.zeros(2))], number)
    assert "nan" not in drawn.svg.lower()
    assert ">0.2</text>" in drawn.svg


def test_a_density_of_nothing_is_a_plot():
    assert "0 points" in plots.density("t", np.zeros(3), np.zeros(3)).svg


def test_a_line_breaks_where_values_are_unknown():
    gap = Line("x", "forecast", np.array([1.0, np.nan, 2.0, 3.0]))
    drawn = plots.line_plot("t", ["a", "b", "c", "d"], [gap], number).svg
    path = re.search(r'<path d="([^"]*)"[^>]*stroke: var\(--forecast\); stroke-width: 2', drawn)
    assert path.group(1).count("M") == 2
    assert "x: first 1 (a), smallest 1 (a), largest 3 (d), last 3 (d)." in drawn


def test_a_ranking_names_all_bars():
    drawn = plots.ranking("Error", [("model", 0.1), ("rule", -0.2)], percent, ["forecast", "naive"])
    assert 'aria-label="Error. model 10 %, rule -20 %."' in drawn.svg


def test_names_in_plots_are_escaped_and_are_no_formulas():
    name = '<b> & "$x_1$"'
    drawn = plots.ranking(name, [(name, 0.1)], percent, ["forecast"]).svg
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert root.attrib["aria-label"] == f"{name}. {name} 10 %."
    assert name in [element.text for element in root.iter()]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (1500, "1.5 k"), (2.5e6, "2.5 m"), (3e9, "3 bn")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (float("nan"), "–"), (0.0712, "7.1 %"), (-0.01, "−1.0 %")]
)
def test_shares_are_percent_or_a_dash(value, text):
    assert share(value) == text


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
    ran = storecast(
        shop, monkeypatch, "backtest", "--days", "2", "--report", str(file), "--weather-noise", "1"
    )
    assert f"The report is in {file}." in ran.output
    assert "has the errors of a forecast" in file.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_refused(shop, monkeypatch, tmp_path):
    file = tmp_path / "nowhere" / "report.html"
    ran = storecast(shop, monkeypatch, "backtest", "--days", "1", "--report", str(file))
    assert isinstance(ran.exception, InputError)
    assert "--report" in str(ran.exception)


def test_days_that_the_model_was_trained_on_are_refused(shop, monkeypatch):
    ran = storecast(shop, monkeypatch, "backtest", "--days", "15")
    assert "errors that are too small" in str(ran.exception)
