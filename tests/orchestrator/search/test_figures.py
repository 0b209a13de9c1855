"""Figures of a search: seeds are categories, what a band is and over how many is said."""

import pytest

from orchestrator.config.load import load_sweep
from orchestrator.search import figures
from orchestrator.search.figures import draw_search
from orchestrator.search.settings import SettingResult, plan_settings

SEEDS = "search.space.seed=[0,1,5]"


@pytest.fixture
def drawn(sweep, monkeypatch):
    """Return what draws the figures of settings, some failed, and gives their panels by file."""
    found = {}
    monkeypatch.setattr(figures, "draw_panels", lambda path, panels, title: found.update({path.stem: panels}))

    def draw(*space, failed=()):
        config = load_sweep(sweep, space)
        results = [
            SettingResult(setting=setting, state="failed", metrics={}, error="why")
            if number in failed
            else SettingResult(setting=setting, state="done", metrics={"GG/accuracy": 0.5 + number / 100})
            for number, setting in enumerate(plan_settings(config))
        ]
        draw_search(config, results)
        return found

    return draw


def test_seeds_alone_are_dots_on_categories_with_their_mean_and_spread(drawn):
    (panel,) = drawn(SEEDS)["dimensions"]
    assert panel.names == ("0", "1", "5")
    assert not panel.has_line
    assert [*panel.curves[0].values] == [0, 1, 2]
    assert panel.curves[0].band == "mean of n = 3 seeds ± 1 standard deviation"


def test_the_band_over_seeds_is_named_with_their_number(drawn):
    both = drawn("search.space.training.steps=[20,40]", SEEDS)
    (curve,) = both["search"][0].curves
    assert (curve.name, curve.band) == ("mean", "band: lowest to highest of n = 3 seeds")
    steps, seeds = both["dimensions"]
    assert steps.is_whole
    assert steps.curves[0].band == "band: lowest to highest of n = 3 seeds"
    assert [curve.name for curve in seeds.curves] == ["steps 20", "steps 40"]


def test_a_failed_point_is_not_counted(drawn):
    both = drawn("search.space.training.steps=[20,40]", SEEDS, failed={1})
    assert both["search"][0].curves[0].band == "band: lowest to highest of n = 2 to 3 seeds"


def test_one_value_each_has_no_band(drawn):
    (curve,) = drawn("search.space.training.steps=[20,40]")["search"][0].curves
    assert (curve.name, curve.band) == ("", "")
