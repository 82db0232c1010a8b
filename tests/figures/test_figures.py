"""Figures of the chapters: described for who cannot see them, told apart without colours."""

import inspect
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text

from stochrestore.experiments import inpaint
from stochrestore.experiments.appendix_c import SampledDistance
from stochrestore.experiments.lipschitz import Steepness
from stochrestore.experiments.theorem_3_1 import GanHistory
from stochrestore.figures import (
    families,
    images,
    lipschitz,
    sr_robustness,
    style,
    tables,
    theory,
    toy,
    trainings,
)
from stochrestore.figures.interactive import weight_browser
from stochrestore.figures.style import NAMES
from stochrestore.metrics.interval import Interval
from stochrestore.metrics.lipschitz import Difficulty
from stochrestore.problems.finite import two_pixel_images

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MODELS = ("robust_gan", "erratic_gan", "robust_sto_gan", "sto_gan")


def drawing_cells(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return [
        cell
        for cell in cells
        if cell["cell_type"] == "code" and "plt.show()" in "".join(cell["source"])
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_alt_text_a_caption_and_a_name(notebook):
    described = [cell["metadata"].get("mystnb", {}) for cell in drawing_cells(notebook)]
    assert described
    for cell in described:
        alt, figure = cell["image"]["alt"], cell["figure"]
        assert len(alt) >= 60
        assert len(figure["caption"]) > 25
        assert alt.strip() != figure["caption"].strip()
        assert figure["name"].startswith("fig-")


def test_names_of_figures_are_not_used_twice():
    cells = [cell for notebook in NOTEBOOKS for cell in drawing_cells(notebook)]
    names = [cell["metadata"]["mystnb"]["figure"]["name"] for cell in cells]
    assert len(set(names)) == len(names) >= 20


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def looks(axis):
    """Label → (marker, dash) of what a legend of the axis shows."""
    found = {}
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
        line = handle[0] if isinstance(handle, ErrorbarContainer) else handle
        if hasattr(line, "get_marker"):
            found[label] = (line.get_marker(), line.get_linestyle(), line.is_dashed())
    return found


def test_models_of_the_toy_trade_off_have_markers_of_their_own():
    names = ("robust_sine", "erratic_sine", *MODELS, "posterior_sampler")
    quality = {"recall": 0.5, "sensitivity": 1e-3}
    rows = [{"estimator": name, **quality} for name in names for _ in range(2)]
    sine = [{"alpha": alpha, **quality} for alpha in (1.0, 2.0) for _ in range(2)]
    path = [{"step": step, **quality} for step in range(3)]
    figure = toy.tradeoff(sine, rows, path, ceiling=1e-3, epsilon=1e-3)
    shown = looks(figure.axes[0])
    markers = [shown[NAMES[name]][0] for name in names]
    assert len(set(markers)) == len(names)
    curves = [look[1] for label, look in shown.items() if label not in NAMES.values()]
    assert len(set(curves)) == len(curves) == 2


def test_lines_over_scale_and_weight_differ_in_marker_and_dash():
    value = Interval(1.0, 0.5, 1.5)
    rows = [
        {"data": "d", "scale": scale, "estimator": name, "features": "pixels"}
        | dict.fromkeys(images.FIGURE_4, value)
        for name in (*MODELS, "posterior_sampler")
        for scale in (2, 4)
    ]
    weights = [
        {"estimator": name, "weight": weight, "fid": 1.0} for name in MODELS for weight in (0, 1)
    ]
    for axis in (
        images.over_scale(rows).axes[0],
        images.over_weight(weights, {"fid": "FID"}).axes[0],
    ):
        shown = looks(axis)
        assert len(shown) >= 4
        assert len({marker for marker, *_ in shown.values()}) == len(shown)


@pytest.mark.filterwarnings("error")
def test_sweeps_may_lack_the_models_that_were_left_out():
    """``inpaint`` with robust=True, or False, where the sweeps were not trained."""
    images.seed_use([]).canvas.draw()
    erratic = [{"estimator": "robust_gan", "weight": 0.0, "fid": 1.0}]
    images.over_weight(erratic, {"fid": "FID"}).canvas.draw()


def test_networks_of_figure_8_differ_in_marker_and_dash():
    rows = [
        {"data": "d", "network": name, "alpha": alpha, "output_rgb": 30.0, "input_rgb": 35.0}
        for name in ("edsr", "esrgan", "srflow")
        for alpha in (1.0, 2.0)
        for _ in range(2)
    ]
    shown = looks(sr_robustness.figure_8(rows).axes[0])
    assert len(shown) == 4
    assert len({marker for marker, *_ in shown.values()}) == 4
    assert len({dash for _, dash, _ in shown.values()}) >= 3


def test_a_figure_to_choose_from_says_its_values_and_scrolls_by_keyboard():
    sweep = [
        {"estimator": name, "weight": weight, "recall": 0.5, "sensitivity": 1e-3}
        for name in ("robust_gan", "robust_sto_gan")
        for weight in (0.1, 0.2)
    ]
    page = weight_browser(sweep, 1e-3)._repr_html_()
    assert '<legend>λ_R</legend><label><input type="radio"' in page
    assert "<span>0.1</span></label>" in page
    assert '<div aria-live="polite" tabindex="0">' in page


def test_curves_are_a_line_a_network_and_an_entry_a_kind():
    history = [dict.fromkeys(trainings.CURVES, 0.5) | {"step": step} for step in (1, 2)]
    records = {name: [{"history": history}] * 3 for name in MODELS}
    old = [{"history": [{"step": 1, "critic_loss": 1.0}]}]  # from before there were curves
    figure = trainings.curves({**records, "sto_gan": old})
    assert [len(axis.lines) for axis in figure.axes] == [9] * 5 + [0]
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == [NAMES[name] for name in MODELS[:3]]
    assert trainings.curves({"sto_gan": old}).axes[-1].get_legend() is None


def test_numbers_stand_over_the_samples_they_are_of():
    value, nothing = Interval(0.123, 0.1, 0.2), None
    rows = [
        {"estimator": "sto_gan", "std": value, "robustness": Interval(24.6, 20.0, 30.0)},
        {"estimator": "posterior_sampler", "std": value, "robustness": nothing},
    ]
    notes = images.behaviour_notes(rows)
    assert notes == {"sto_gan": "std 0.12 · 25 dB", "posterior_sampler": "std 0.12"}
    one, four = torch.rand(1, 2, 1, 8, 8), torch.rand(4, 2, 1, 8, 8)
    groups = [("input", one), ("sto_gan", four)]
    axes = images.sample_sheet(groups, notes=notes).axes
    assert [axes[0].get_title(), axes[1].get_title("left")] == [
        "input",
        "StoGAN\nstd 0.12 · 25 dB",
    ]
    narrow = images.sample_sheet([("sto_gan", one)], notes=notes)
    assert narrow.axes[0].get_title() == "StoGAN\nstd 0.12\n25 dB"
    assert images.sample_sheet(groups).axes[1].get_title("left") == "StoGAN"


def test_health_is_told_of_each_network_that_was_examined():
    records = {"sto_gan": [{"two_sample_accuracy": 0.5}, {"two_sample_accuracy": 0.75}, {}]}
    table = trainings.health_table({**records, "robust_gan": [{}]}, 0.5)
    assert list(table.index) == ["StoGAN", "images"]
    assert list(table["mean"]) == ["0.625", "0.500"]
    assert table["each network"].iloc[0] == "0.500, 0.750"


def test_curves_are_those_of_the_networks_that_were_measured_along_the_way():
    point = dict.fromkeys(trainings.CURVES, 1.0)
    losses = {"step": 1, "critic_loss": 1.3}
    measured = {"history": [losses, {**losses, **point}, {**losses, "step": 2, **point}]}
    records = {"sto_gan": [measured, measured], "robust_gan": [{"history": [losses]}]}
    assert trainings.has_curves(records)
    assert not trainings.has_curves({"robust_gan": records["robust_gan"]})
    figure = trainings.curves(records, "clothes ×4")
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2, 2, 2, 0]
    assert figure.axes[-1].get_title() == "clothes ×4"
    plt.close(figure)


def test_a_cost_near_zero_looks_like_one():
    costs = {"robust_gan": -0.01, "erratic_gan": -0.03}
    rows = [
        {"data": "fashion", "scale": 4, "estimator": name, "bits": 1130.0, "cost": cost}
        for name, cost in costs.items()
    ]
    figure = images.cost_of_one_answer(rows)
    low, high = figure.axes[0].get_ylim()
    assert low <= -0.5 < 0.5 <= high
    plt.close(figure)


def test_figure_4_of_one_scale_has_limits_around_it():
    measured = dict.fromkeys(images.FIGURE_4, Interval(0.5, 0.4, 0.6))
    rows = [
        {"data": data, "scale": 4, "estimator": name, "features": "pixels"} | measured
        for data in ("digits", "fashion", "faces")
        for name in (*MODELS, "posterior_sampler")
    ]
    figure = images.over_scale(rows)
    figure.canvas.draw()  # margins of a single point grew or shrank from column to column
    for axis in figure.axes:
        low, high = axis.get_xlim()
        assert 0 < low < 3.9 < 4.1 < high
        places = {float(line.get_xdata()[0]) for line in axis.lines}
        assert len(places) == len(MODELS) + 1  # they would lie upon each other
        assert all(low < place < high for place in places)
    plt.close(figure)


# --- Large enough to read --------------------------------------------------------------------

SCREEN = 702  # pixels of text on a screen of 1300


def on_screen(figure):
    """Pixels to the inch of a figure that fills the text, or is shown at its own size."""
    figure.canvas.draw()
    return min(96.0, SCREEN / figure.get_size_inches()[0])


def smallest_text(figure):
    """In pixels on the screen."""
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return min(t.get_fontsize() / 72 for t in texts) * on_screen(figure)


def scale_rows():
    value = Interval(1.0, 0.5, 1.5)
    return [
        {"data": data, "scale": scale, "estimator": name, "features": "pixels"}
        | dict.fromkeys(images.FIGURE_4, value)
        for name in (*MODELS, "posterior_sampler")
        for scale in (4, 8, 16)
        for data in ("digits", "fashion", "faces")
    ]


def toy_figure():
    names = ("robust_sine", "erratic_sine", *MODELS, "posterior_sampler")
    points = torch.rand(20, 2)
    return toy.supports_and_samples(
        names,
        dict.fromkeys(names, points),
        dict.fromkeys(names, (points, points)),
        dict.fromkeys(names, "precision 1.00\nrecall 0.99"),
        toy.draw_disk,
    )


def option_rows():
    measured = dict.fromkeys(images.OPTION_COLUMNS, Interval(0.5, 0.4, 0.6))
    options = {
        "critic_residual": ("0.1", "0.3", "1"),
        "critic_input": ("unit", "symmetric"),
        "seed_scale": ("1", "2", "4", "8"),
        "robustness_weight": ("5", "50", "500"),
        "lr": ("0.0001", "0.0004"),
    }
    recipe = ("0.3", "symmetric", "4", "50", "0.0001")
    return [
        {"estimator": name, "option": option, "value": value, "recipe": value in recipe} | measured
        for option, values in options.items()
        for name in ("robust_sto_gan", "sto_gan")
        for value in values
    ]


def inpainting(n=4):
    of = {name: torch.rand(4 if "sto" in name else 1, n, 3, 16, 16) for name in MODELS}
    known = [("input", torch.rand(1, n, 3, 16, 16)), ("image", torch.rand(1, n, 3, 16, 16))]
    posterior = [("posterior_sampler", torch.rand(4, n, 3, 16, 16))]
    return [*known, *of.items(), *posterior], of


def figure_8():
    rows = [
        {"data": "d", "network": name, "alpha": alpha, "output_rgb": 30.0, "input_rgb": 35.0}
        for name in ("edsr", "esrgan", "srflow")
        for alpha in (1.0, 32.0)
        for _ in range(2)
    ]
    return sr_robustness.figure_8(rows)


FIGURES = {
    "1": lambda: images.sample_sheets(images.figure_1(*inpainting())),
    "1, of clothes": lambda: images.sample_sheet(inpainting(8)[0][:-1]),
    "3": toy_figure,
    "4": lambda: images.over_scale(scale_rows()),
    "6": lambda: theory.figure_6(1),
    "8": figure_8,
    "options": lambda: images.over_options(option_rows()),
    "an attack": lambda: images.attack_sheet([(m, [torch.rand(3, 8, 8)] * 5) for m in MODELS]),
}


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_text_can_be_read_beside_the_chapter(make):
    style.use()
    assert smallest_text(make()) >= 9


def test_thumbnails_are_large_enough_to_be_seen():
    for figure in (FIGURES["1"](), FIGURES["1, of clothes"]()):
        pixels = on_screen(figure) / figure.dpi
        for axis in figure.findobj(Axes):
            for picture in axis.get_images():
                tile = axis.get_window_extent().width * 17 / picture.get_array().shape[1]
                assert tile * pixels >= 48


def zigzags():
    distances = np.full(3, 0.2)
    sampled = {1: SampledDistance(distances, distances / 9, distances / 9)}
    return theory.wasserstein_against_frequency([1, 2, 4], sampled, 10)


def families_rows(**varied):
    quantities = dict.fromkeys(families.AXES, Interval(0.5, 0.4, 0.6))
    return [
        {"estimator": name, "weight": weight} | quantities | varied
        for name in ("pmrf", "flow")
        for weight in (0.0, 1.0)
    ]


def with_heat():
    rows = [{"estimator": "flow", "heat": heat, "fid": 1.0} for heat in (0.5, 1.0)]
    return families.over_heat([("disk", "fid", rows), ("ring", "fid", rows)])


def bounds():
    steep = [Steepness("a", 2.0, Interval(0.1, 0.1, 0.2))]
    difficulty = Difficulty(0.1, 0.2)
    return lipschitz.price(steep, dict.fromkeys(lipschitz.LOOKS, steep), (difficulty, difficulty))


def heats():
    measured = {"image": "a", "output_rgb": 30.0, "psnr": 29.0, "spread": 0.1}
    return sr_robustness.heats([{"heat": heat} | measured for heat in (0.5, 1.0)] * 2, 1.0)


def explored():
    points = np.linspace(0.1, 1, 5)
    line = (points, points)
    square, disk = ("zigzag", "posterior"), ("X̂ (α)", "zigzag", "RobustGAN", "ErraticGAN")
    return lipschitz.exploring(dict.fromkeys(square, line), dict.fromkeys(disk, line))


def two_histories():
    history = GanHistory([1, 2], [0.1, 0.2], [0.3, 0.4], np.ones((2, 2)))
    return theory.gan_training({"free": history, "consistent": history})


def two_ranges():
    low = np.zeros((4, 2))
    ranges = {"free": (low, low + 1), "both": (low, low + 1)}
    return theory.entry_ranges(two_pixel_images(2), ranges, low)


def two_outputs():
    names = ("posterior", "MAP")
    quarter = dict.fromkeys(names, np.full(4, 0.25))
    return theory.output_distributions(two_pixel_images(2), quarter, dict.fromkeys(names, "W₂ 0"))


def sweep():
    rows = [
        {"estimator": name, "weight": weight, "fid": 1.0, "recall": 0.5}
        for name in MODELS
        for weight in (0, 1)
    ]
    return images.over_weight(rows, {"fid": "FID", "recall": "recall"})


def swept_toy():
    quantities = {"recall": 0.5, "sensitivity": 0.1}
    rows = [{"estimator": n, "weight": w} | quantities for n in MODELS for w in (0.1, 1.0)]
    return toy.weight_sweep(rows, rows, printed=1.0, chosen=0.1, ceiling=0.2, epsilon=0.1)


def costs():
    where = {"scale": 4, "estimator": "robust_gan", "bits": 90.0, "cost": 1.0}
    return images.cost_of_one_answer([{"data": "digits"} | where, {"data": "faces"} | where])


def seeds():
    return images.seed_use(
        [
            {"estimator": name, "layer": 0, "length": length, "std": 0.1}
            for name in ("sto_gan", "robust_sto_gan")
            for length in (1, 16)
        ]
    )


def one_curve():
    row = {"step": 1} | dict.fromkeys(trainings.CURVES, 0.5)
    return trainings.curves({"sto_gan": [{"history": [row]}]})


OF_PANELS = {
    "over_scale": FIGURES["4"],
    "over_options": FIGURES["options"],
    "over_weight": sweep,
    "seed_use": seeds,
    "cost_of_one_answer": costs,
    "figure_6": FIGURES["6"],
    "wasserstein_against_frequency": zigzags,
    "gan_training": two_histories,
    "entry_ranges": two_ranges,
    "output_distributions": two_outputs,
    "price": bounds,
    "exploring": explored,
    "figure_8": figure_8,
    "heats": heats,
    "weight_sweep": swept_toy,
    "price_of_robustness": lambda: families.price_of_robustness(
        [("disk", "fid", families_rows()), ("ring", "recall", families_rows())]
    ),
    "over_variants": lambda: families.over_variants(
        families_rows(source_noise=0.1) + families_rows(source_noise=1.0), "source_noise"
    ),
    "over_heat": with_heat,
    "curves": one_curve,
}
"""Figures of several panels, by the names of the functions that draw them."""

OF_ONE_KIND = {"supports_and_samples", "toy_samples"}
"""Panels that show the same place in the same frame, which the first says."""


@pytest.mark.parametrize("make", OF_PANELS.values(), ids=OF_PANELS)
def test_every_panel_names_its_measure_and_numbers_it(make):
    """Narrow screens stack the columns, so that a panel cannot rely on its neighbour."""
    figure = make()
    figure.canvas.draw()
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(shown) >= 2
    measures = [label for label, *_ in tables.QUANTITIES.values()]
    for axis in shown:
        named = axis.get_ylabel() or any(axis.get_title().startswith(m) for m in measures)
        assert named, axis.get_title()
        assert any(tick.label1.get_visible() for tick in axis.yaxis.get_major_ticks())


def test_every_figure_of_several_panels_is_among_those_whose_panels_are_looked_at():
    modules = (families, images, lipschitz, sr_robustness, theory, toy, trainings)
    drawing = {
        name: inspect.getsource(function)
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
        if inspect.signature(function).return_annotation == "Figure"
    }
    plots = {
        name
        for name, source in drawing.items()
        if "ONE_PANEL" not in source and "set_alpha(0)" not in source  # one plot; photographs
    }
    assert plots - OF_ONE_KIND - {"sample_sheet", "sample_sheets"} == set(OF_PANELS)


def test_every_panel_of_the_options_says_what_it_shows_and_where_the_recipe_is():
    figure = images.over_options(option_rows())
    assert len(figure.axes) == 5 * 4
    for axis in figure.axes:
        assert axis.get_title()
        assert axis.get_xlabel() in images.OPTION_NAMES.values()
        (ground,) = axis.patches
        middle = ground.get_x() + ground.get_width() / 2
        values = [tick.get_text() for tick in axis.get_xticklabels()]
        assert values[round(middle)] in ("0.3", "[−1, 1]", "4", "50", "10⁻⁴")
        assert len(axis.get_legend_handles_labels()[1]) == 2


def test_every_option_that_is_compared_has_a_name():
    named = {option for options in inpaint.OPTIONS.values() for option in options}
    assert images.OPTION_NAMES.keys() == named


@pytest.mark.parametrize("rows", [1, 16])
def test_the_bar_over_a_group_is_clear_of_its_title(rows):
    groups = [
        ("sto_gan", torch.rand(4, rows, 3, 8, 8)),
        ("robust_gan", torch.rand(1, rows, 3, 8, 8)),
    ]
    notes = {"sto_gan": "std 0.07 · 18 dB", "robust_gan": "std 0.00 · 25 dB"}
    figure = images.sample_sheets({"a title": groups}, notes=notes)
    figure.canvas.draw()
    for axis in figure.axes:
        title = next(t for t in (axis.title, axis._left_title) if t.get_text())
        (bar,) = axis.lines
        assert axis.bbox.y1 < bar.get_window_extent().y0
        assert bar.get_window_extent().y1 < title.get_window_extent().y0


@pytest.mark.filterwarnings("error")
def test_options_that_were_not_trained_leave_empty_panels():
    figure = images.over_options([])
    figure.canvas.draw()
    assert [axis.get_title() for axis in figure.axes][:2] == ["FID ↓", "recall ↑"]
    assert not any(axis.containers for axis in figure.axes)


def test_figure_1_is_grouped_and_has_what_is_attacked_under_each():
    groups, attacked = inpainting(2)
    sheets = images.figure_1(groups, attacked)
    assert list(sheets) == ["Stochastic", "Deterministic and true posterior"]
    names = [[name for name, _ in sheet] for sheet in sheets.values()]
    assert names == [
        ["input", "image", "sto_gan", "robust_sto_gan"],
        ["input", "image", "erratic_gan", "robust_gan", "posterior_sampler"],
    ]
    of = dict(sheets["Stochastic"])
    torch.testing.assert_close(of["sto_gan"][:, 0::2], dict(groups)["sto_gan"])
    torch.testing.assert_close(of["sto_gan"][:, 1::2], attacked["sto_gan"])
    assert of["image"][:, 1::2].isnan().all()
    drawn = images.mosaic(of["image"])
    assert (drawn[17:33, :, 3] == 0).all()  # nothing there, not black
    assert (drawn[:16, :, 3] == 1).all()


def test_rows_of_figure_4_are_the_papers_and_say_where_it_is_better():
    axes = images.over_scale(scale_rows()).axes
    labels = list(dict.fromkeys(axis.get_ylabel() for axis in axes))
    better = [label[-1] for label in labels]
    assert [label.split()[0] for label in labels] == [
        "precision",
        "recall",
        "FID",
        "per-pixel",
        "robustness,",
    ]
    assert better == ["↑", "↑", "↓", "↑", "↑"]


def test_a_table_has_the_papers_order_its_values_under_ours_and_constants_below():
    def row(name, recall):
        value = Interval(recall, recall - 0.1, recall + 0.1)
        quantities = dict.fromkeys(tables.QUANTITIES, value)
        same = {"ai_psnr": Interval.exact(32.9), "consistency": Interval.exact(float("inf"))}
        return {"estimator": name, "features": "pixels", **quantities, **same}

    rows = [row(name, 0.2) for name in (*MODELS, "posterior_sampler")]
    rows[-1] |= {"robustness": None, "ai_psnr": None}
    found = tables.comparison({"digits": rows}, {"recall": {"sto_gan": ".388"}})
    names = ("sto_gan", "robust_sto_gan", "erratic_gan", "robust_gan", "posterior_sampler")
    assert found.columns == [NAMES[name] for name in names]
    (block,) = found.blocks.values()
    assert block["recall ↑"][0] == tables.Cell("0.200", "[0.100, 0.300]", ".388")
    assert block["robustness, dB ↑"][-1].value == "–"
    assert not any("AI-PSNR" in label or "consistency" in label for label in block)
    (note,) = found.notes
    assert "AI-PSNR, dB 32.9" in note
    assert "consistency, dB ∞" in note
    page = found._repr_html_()
    assert '<small class="paper">paper .388</small>' in page
    assert "<br><small>[0.100, 0.300]</small>" in page
    controls = [
        {"features": features, "images": images_, "fid": fid, "precision": 0.5, "recall": 0.9}
        for features, fid in (("pixels", 0.25), ("other", 9.0))
        for images_ in ("real", "blurred 3×3")
    ]
    with_real = tables.comparison({"digits": [tables.real_images(controls), *rows]})
    assert with_real.columns == [*found.columns, "real images"]
    (block,) = with_real.blocks.values()
    assert block["FID ↓"][-1] == tables.Cell("0.25")
    assert block["robustness, dB ↑"][-1].value == "–"
    assert '<td class="nothing">–</td>' in with_real._repr_html_()
    assert found.notes == with_real.notes


def test_tables_have_words_and_no_names_of_the_code():
    quality = [{"network": "edsr", "image": "a", "psnr": 1.0, "psnr_y": 2.0, "ssim": 0.5}]
    checks = theory.check_table({"posterior_fails": 0, "gain": 1e-9}, "n", ".0e")
    words = [*sr_robustness.quality_table(quality).columns, *checks.index]
    assert not any("_" in word.replace("p_X", "").replace("C_Y", "") for word in words)


def test_a_measure_in_two_ways_stands_in_one_cell():
    def rows(recall):
        return [{"estimator": name, "recall": Interval.exact(recall)} for name in ("flow", "vae")]

    table = families.paired_table({"disk": (rows(0.9), rows(0.456)[1:])}, ["recall"], ("no", "yes"))
    assert table.columns == ["recall ↑"]
    assert {name: [c.value for c in row] for name, row in table.blocks["disk"].items()} == {
        "VAE": ["0.90 → 0.46"]
    }
    assert table.notes == ["no → yes"]
