"""The families' trainings and measurements: what is trained, kept, and how it is measured."""

import math

import pytest
import torch

from stochrestore import config
from stochrestore.errors import InputError
from stochrestore.estimators.base import AtHeat, SecondCoordinate, WithSeed, restore
from stochrestore.estimators.closed_form import PosteriorMean, PosteriorSampler
from stochrestore.experiments import families, family_networks, registry
from stochrestore.experiments.family_networks import FAMILIES, IMAGES, PROBLEMS, SHOWN
from stochrestore.experiments.toy_tradeoff import posterior_sensitivity
from stochrestore.metrics.intervals import student_interval
from stochrestore.metrics.sensitivity import scalar_sensitivity
from stochrestore.problems.toy import Disk, Ring
from stochrestore.training.jobs import check_settings, finished, train_jobs

F64 = torch.empty(0, dtype=torch.float64)
MEASURES = {
    *("precision", "recall", "posterior_distance", "std", "sensitivity", "w2_sensitivity"),
}


def load(problem="disk", preset="smoke", **changes):
    return registry.load("families", preset, problem=problem, device="cpu", **changes)


def job_of(name="disk/flow-weight0-seed0", **changes):
    return families.all_jobs(load(name.split("/")[0], **changes))[name]


# --- Settings and trainings ----------------------------------------------------------------------


@pytest.mark.parametrize("problem", ["all", *PROBLEMS])
@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_is_valid_for_every_problem(preset, problem):
    assert load(problem, preset).problem == problem


@pytest.mark.parametrize("problem", IMAGES)
@pytest.mark.parametrize("preset", config.PRESETS)
def test_every_preset_has_images_to_train_on(preset, problem):
    data = family_networks.training_data(load(problem, preset), 0)
    assert len(data) >= 64
    assert data.shape[1:] == family_networks.image_settings(preset, problem, "cpu").shape


@pytest.mark.parametrize("problem", IMAGES)
@pytest.mark.parametrize("preset", [name for name in config.PRESETS if name != "smoke"])
def test_training_attacks_as_hard_as_what_measures_does(preset, problem):
    compared = family_networks.image_settings(preset, problem, "cpu")
    assert load(problem, preset).epsilon == pytest.approx(compared.epsilon, rel=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "square"}, r"problem: got 'square' \(str\); allowed: all, disk, ring, digits"),
        ({"family": "flow"}, "family: got 'flow'; allowed: no value: each training of the grid"),
        ({"robustness_weight": 1.0}, "robustness_weight: got 1.0; allowed: no value"),
        ({"evaluations": 7}, "evaluations: got 7"),
        ({"couplings": 1}, "couplings: got 1"),
        ({"robustness_start": 1.0}, "robustness_start: got 1.0"),
        ({"robustness_weights": []}, "robustness_weights"),
        ({"robustness_weights": [-1.0]}, "robustness_weights"),
        ({"source_noises": [0.0]}, "source_noises"),
        ({"heats": [-0.5]}, "heats"),
        ({"decoder_noise": 0.0}, "decoder_noise: got 0.0"),
    ],
)
def test_bad_settings_end_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        registry.load("families", "smoke", **change)
    assert "\n" not in str(caught.value)


def test_all_problems_are_those_of_the_preset_with_what_was_given():
    found = families.problems(load("all", runs=4, seed=3))
    assert [each.problem for each in found] == list(SHOWN)
    assert {(each.runs, each.seed) for each in found} == {(4, 3)}
    for each in found:
        expected = load(each.problem, runs=4, seed=3).model_dump(exclude={"device"})
        assert each.model_dump(exclude={"device"}) == expected
    assert families.problems(load("ring")) == [load("ring")]


@pytest.mark.parametrize("preset", config.PRESETS)
def test_names_of_trainings_are_unique_and_say_what_they_are(preset):
    settings = load("all", preset)
    jobs = families.all_jobs(settings)
    listed = [job.name for each in families.problems(settings) for job in families.jobs_of(each)]
    assert len(listed) == len(set(listed)) == len(jobs)
    for name, job in jobs.items():
        s = job.settings
        variants = ("", f"{s.source_noise:g}", f"_mean{s.mean_steps}") if s.family == "pmrf" else ""
        assert job.key in {f"{s.family}{variant}" for variant in (*variants, "")}
        assert s.family in FAMILIES
        run = job.seed - settings.seed
        assert name == f"{s.problem}/{job.key}-weight{s.robustness_weight:g}-seed{run}"


@pytest.mark.parametrize("preset", ["smoke", "laptop"])
def test_weights_are_kept_of_each_family_s_first_run_without_l_r(preset):
    for settings in families.problems(load("all", preset)):
        kept = [job for job in families.jobs_of(settings) if job.keep_weights]
        pictured = settings.problem in family_networks.PICTURED
        assert [job.key for job in kept] == (list(FAMILIES) if pictured else [])
        assert all(job.settings.robustness_weight == 0 for job in kept)
        assert all(job.seed == settings.seed for job in kept)


def test_heats_are_measured_without_l_r_and_not_of_other_source_noises():
    settings = load("disk", source_noises=[0.3, 1.0])
    for job in families.jobs_of(settings):
        measured = job.settings.robustness_weight == 0 and job.key in FAMILIES
        assert job.settings.heats == (settings.heats if measured else ())
    noises = {job.key: job.settings.source_noise for job in families.jobs_of(settings)}
    assert (noises["pmrf"], noises["pmrf0.3"], noises["pmrf1"]) == (0.1, 0.3, 1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_job_builds_is_decided_by_its_seed(family):
    first, again = (
        family_networks.build_trainer(job_of(f"disk/{family}-weight0-seed1")) for _ in "ab"
    )
    for trainer in (first, again):
        for _ in range(3):
            trainer.advance()
    assert torch.equal(first.data, again.data)
    states = (first.network.state_dict(), again.network.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
    other = family_networks.build_trainer(job_of(f"disk/{family}-weight0-seed0"))
    assert not torch.equal(other.data, first.data)
    built = (
        family_networks.build_trainer(job_of(f"disk/{family}-weight0-seed{i}")) for i in (0, 1)
    )
    weights = [next(trainer.network.parameters()) for trainer in built]
    assert not torch.equal(*weights)


def test_building_draws_nothing_from_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    family_networks.build_trainer(job_of())
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(("problem", "support"), [("disk", Disk()), ("ring", Ring())])
def test_toy_data_are_in_the_support_and_u_is_of_size_one(problem, support):
    settings = load(problem, training_samples=4000)
    x = family_networks.training_data(settings, 0)
    assert support.contains(x).all()
    assert x.dtype == torch.float32
    u = family_networks.fibre_of(settings).split(x)[1]
    assert u.std() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(("problem", "known"), [("digits", 16), ("digits_x4", 4)])
def test_image_problems_have_the_degradation_and_data_of_their_chapters(problem, known):
    settings = load(problem)
    fibre, x = family_networks.fibre_of(settings), family_networks.training_data(settings, 0)
    assert (fibre.known, fibre.open) == (known, 64 - known)
    assert x.shape[1:] == fibre.shape == (1, 8, 8)
    assert x.min() >= 0
    assert x.max() == 1
    assert fibre.split(x)[1].std() == pytest.approx(1, abs=0.3)
    assert len(family_networks.data_digest(settings)) == 64
    assert family_networks.data_digest(load("disk")) == ""


# --- L_R in the training -------------------------------------------------------------------------


def steps_with_robustness(monkeypatch, **changes):
    """The steps at which L_R is computed, and its arguments there."""
    weight = changes.get("robustness_weights", [0.0, 1.0])[-1]
    job = job_of(f"disk/flow-weight{weight:g}-seed0", **changes)
    trainer = family_networks.build_trainer(job)
    calls = []

    def counted(network, y, z, attack, **options):
        calls.append((trainer.step, y, z, attack, options))
        return sum(p.sum() for p in network.parameters()) * 0

    monkeypatch.setattr(family_networks, "robustness_loss", counted)
    while trainer.step < trainer.steps:
        trainer.advance()
    return calls


@pytest.mark.parametrize(
    ("start", "every", "expected"),
    [
        (0.6, 2, [6, 8]),
        (0.6, 1, [6, 7, 8, 9]),
        (0.55, 1, [6, 7, 8, 9]),
        (0.0, 4, [0, 4, 8]),
        (0.9, 4, []),
    ],
)
def test_l_r_enters_after_its_start_and_every_nth_step(monkeypatch, start, every, expected):
    changes = {"steps": 10, "robustness_start": start, "robustness_every": every}
    calls = steps_with_robustness(monkeypatch, **changes)
    assert [step for step, *_ in calls] == expected


def test_without_a_weight_there_is_no_l_r(monkeypatch):
    assert not steps_with_robustness(monkeypatch, steps=10, robustness_weights=[0.0])


def test_l_r_has_the_settings_inputs_seeds_and_attack(monkeypatch):
    sizes = {"robustness_batch": 5, "robustness_seeds": 3}
    attack = {"epsilon": 0.02, "attack_steps": 2, "attack_lr": 0.01}
    _, y, z, used, options = steps_with_robustness(monkeypatch, steps=10, **sizes, **attack)[0]
    assert (y.shape, z.shape) == ((5, 1), (3, 5, 1))
    assert (used.radius, used.steps, used.lr) == (0.02, 2, 0.01)
    assert options["scale"] == "slope"


def test_l_r_is_added_with_its_weight(monkeypatch):
    """The same draws before it, so the difference of the losses is it alone."""
    losses = {}
    monkeypatch.setattr(family_networks, "robustness_loss", lambda *_, **__: torch.tensor(2.0))
    for weight in (0.0, 3.0):
        changes = {"steps": 10, "robustness_start": 0.0, "robustness_weights": [0.0, 3.0]}
        trainer = family_networks.build_trainer(
            job_of(f"disk/vae-weight{weight:g}-seed0", **changes)
        )
        losses[weight] = trainer.loss().item()
    assert losses[3.0] - losses[0.0] == pytest.approx(6, abs=1e-4)


def test_l_r_makes_a_network_flatter():
    """Forty updates of almost nothing else."""
    found = {}
    for weight in (0.0, 100.0):
        changes = {"steps": 40, "robustness_start": 0.0, "robustness_every": 1, "lr": 1e-2}
        grid = {"robustness_weights": [0.0, 100.0]}
        trainer = family_networks.build_trainer(
            job_of(f"disk/vae-weight{weight:g}-seed0", **changes, **grid)
        )
        while trainer.step < trainer.steps:
            trainer.advance()
        y = torch.linspace(-0.8, 0.8, 50)[:, None]
        z = trainer.network.seed(y, 8, generator=torch.Generator().manual_seed(0))
        measured = scalar_sensitivity(SecondCoordinate(trainer.network), y, z, 1e-2)
        found[weight] = measured.shared_seed
    assert found[100.0] < 0.3 * found[0.0]


# --- Measures of the exact posterior -------------------------------------------------------------


@pytest.fixture(scope="module")
def exact():
    settings = load(
        "disk", samples=600, y_points=3000, z_points=64, attacked_seeds=64, epsilon=0.02
    )
    return families.toy_measures(PosteriorSampler(), settings, F64, seed=0)


def test_the_exact_sampler_has_perfect_quality_up_to_sampling(exact):
    assert exact.keys() == MEASURES
    assert exact["precision"] > 0.97
    assert exact["recall"] > 0.97


def test_the_exact_sampler_has_the_posterior_s_width_and_sensitivity(exact):
    """E 2·half-chord/√12 = 8/(3π)/√3; inputs are drawn, and those near the edge weigh most."""
    assert exact["std"] == pytest.approx(8 / (3 * math.pi) / math.sqrt(3), rel=0.02)
    known = math.sqrt(posterior_sensitivity(0.02)) / 0.02
    assert exact["sensitivity"] == pytest.approx(known, rel=0.1)
    assert exact["w2_sensitivity"] == pytest.approx(exact["sensitivity"], rel=1e-6)


@pytest.mark.parametrize(("problem", "fall"), [("disk", 2), ("ring", 2**0.5)])
def test_the_distance_of_the_exact_sampler_falls_as_its_samples_grow(problem, fall):
    """As 1/√n: E W₂² of n uniform numbers on [−a, a] is about a²·(2/3)/n.

    On the ring it falls more slowly, as n^(−1/4): of n samples, n/2 ± √n/2 are above the hole, and
    each too many has to cross it.
    """
    sampler = PosteriorSampler(families.TOYS[problem])
    distances = []
    for n in (50, 200, 800):
        settings = load(problem, y_points=200, z_points=n, attacked_seeds=2)
        measured = families.toy_measures(sampler, settings, F64, seed=0)
        distances.append(measured["posterior_distance"])
    assert distances[0] / distances[1] == pytest.approx(fall, rel=0.15)
    assert distances[1] / distances[2] == pytest.approx(fall, rel=0.15)
    if problem == "disk":
        expected = math.sqrt(0.75 * (2 / 3) / 800)  # E a² = 3/4
        assert distances[2] == pytest.approx(expected, rel=0.1)


def test_the_distance_of_the_posterior_mean_is_the_posterior_s_own_width():
    settings = load("disk", y_points=3000, z_points=64)
    measured = families.toy_measures(PosteriorMean(), settings, F64, seed=0)
    assert measured["posterior_distance"] == pytest.approx(0.5, rel=0.02)  # √E a²/3
    assert measured["std"] == measured["sensitivity"] == measured["w2_sensitivity"] == 0


def test_all_estimators_are_measured_on_the_same_inputs_and_again_on_the_same():
    settings = load("disk")
    first, again, other = (
        families.toy_measures(PosteriorSampler(), settings, F64, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


# --- Controls ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    """Steeper in y and z than an untrained one."""
    built = family_networks.build_trainer(job_of("disk/coupling-weight0-seed0", width=16)).network
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(1.8)
    return built.requires_grad_(False)


def test_the_seed_is_frozen_heated_or_drawn(network):
    settings = load("disk", frozen_seeds=3, heats=[0.0, 1.0])
    found = families.controls(network, settings, seed=0)
    assert found["drawn"]["std"] > 0
    assert found["frozen"]["std"] == 0
    assert found["frozen"]["sensitivity"] == pytest.approx(found["frozen"]["w2_sensitivity"])
    cold, warm = found["heats"]
    assert (cold.pop("heat"), cold["std"]) == (0, 0)
    assert cold["sensitivity"] == pytest.approx(cold["w2_sensitivity"])
    assert warm.pop("heat") == 1
    assert warm == found["drawn"]
    for row in (found["frozen"], cold):
        assert row.keys() == found["drawn"].keys() == MEASURES


def test_the_frozen_numbers_are_means_over_the_seed_s_values(network):
    settings = load("disk", frozen_seeds=3)
    draws = torch.Generator().manual_seed(20_004)
    z = network.seed(torch.zeros(1, 1), 3, generator=draws)[:, 0]
    rows = [
        families.toy_measures(WithSeed(network, each), settings, torch.empty(0), seed=4)
        for each in z
    ]
    frozen = families.controls(network, settings, seed=4)["frozen"]
    for name in MEASURES:
        assert frozen[name] == pytest.approx(sum(row[name] for row in rows) / 3)
    assert len({row["sensitivity"] for row in rows}) == 3


def test_a_frozen_seed_is_the_same_for_every_input_and_moves_with_it(network):
    y = torch.linspace(-0.5, 0.5, 5)[:, None]
    z = torch.tensor([0.3, -1.0])
    frozen = WithSeed(network, z.double())
    drawn = frozen.seed(y, 3, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 5, 1)
    assert not drawn.any()
    expected = network(y, z.expand(5, 2))
    assert torch.equal(frozen(y, drawn[0]), expected)
    assert torch.equal(restore(frozen, y, drawn), expected.expand(3, 5, 2))


def test_with_the_same_seeds_freezing_them_is_no_less_sensitive(network):
    """Jensen: the worst δ for each seed is worse than the worst δ for all of them."""
    y = torch.linspace(-0.9, 0.9, 40)[:, None]
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(1, 40, 1)
    for epsilon in (1e-3, 0.1, 0.5):
        drawn = scalar_sensitivity(
            SecondCoordinate(network), y, z[:, None].expand(-1, 40, -1), epsilon
        )
        frozen = [
            scalar_sensitivity(SecondCoordinate(WithSeed(network, each)), y, zero, epsilon)
            for each in z
        ]
        mean = sum(each.shared_seed for each in frozen) / len(frozen)
        assert mean >= drawn.shared_seed * (1 - 1e-6)
        assert drawn.wasserstein <= drawn.shared_seed * (1 + 1e-6)
    assert mean > 1.01 * drawn.shared_seed


def test_a_heat_multiplies_the_seed_alone(network):
    y = torch.linspace(-0.5, 0.5, 5)[:, None]
    whole, half = (
        AtHeat(network, heat).seed(y, 4, generator=torch.Generator().manual_seed(0))
        for heat in (1.0, 0.5)
    )
    assert torch.equal(half, whole / 2)
    assert torch.equal(AtHeat(network, 0.5)(y, half[0]), network(y, half[0]))


def test_images_are_measured_the_same_way():
    """The frozen and the cold estimator have no std; all are consistent."""
    settings = load("digits")
    network = family_networks.build_trainer(job_of("digits/flow-weight0-seed0")).network
    found = families.controls(network, settings, seed=0)
    assert found["drawn"]["std"] > 0
    assert found["frozen"]["std"] == found["heats"][0]["std"] == 0
    rows = [found["drawn"], found["frozen"], *found["heats"]]
    assert all(row["consistency"] > 90 for row in rows)
    for row in rows:  # Eq. 9 is −10 log₁₀ of the mean square, which √R̃/ε is of, too
        assert math.isfinite(row["robustness"])
        assert row["sensitivity"] > 0


# --- Rows of many networks -----------------------------------------------------------------------


def row(run, value, weight=0.0, estimator="flow", **more):
    drawn = {"recall": value, "precision": 1 - value, "sensitivity": 2 * value}
    keys = {"problem": "disk", "estimator": estimator, "weight": weight, "run": run}
    return {**keys, "drawn": drawn, **more}


ROWS = [
    *(row(run, value) for run, value in enumerate([0.1, 0.2, 0.4])),
    *(row(run, value, 1.0) for run, value in enumerate([0.5, 0.5, 0.9])),
    row(0, 0.3, estimator="vae", frozen={"recall": 0.05}),
]


def test_rows_over_runs_have_student_s_interval_and_one_run_stands_alone():
    flow, robust, vae = families.over_runs(ROWS)
    keys = [(r["estimator"], r["weight"], r["runs"]) for r in (flow, robust, vae)]
    assert keys == [("flow", 0, 3), ("flow", 1, 3), ("vae", 0, 1)]
    expected = student_interval([0.1, 0.2, 0.4], within=(0, 1))
    assert flow["recall"] == expected
    assert flow["sensitivity"].value == pytest.approx(2 * expected.value)
    assert vae["recall"].low == vae["recall"].value == vae["recall"].high == 0.3
    (frozen,) = families.over_runs(ROWS, "frozen")
    assert (frozen["estimator"], frozen["recall"].value) == ("vae", 0.05)


def test_a_change_is_paired_by_run_whatever_the_order():
    change = families._change(ROWS, "recall", "flow", 1.0)
    assert change == student_interval([0.4, 0.3, 0.5])
    assert families._change(ROWS[::-1], "recall", "flow", 1.0).value == pytest.approx(0.4)


def test_variants_of_pmrf_stand_in_their_own_table():
    merged = families.over_runs([*ROWS, row(0, 0.7, estimator="pmrf0.3")])
    assert [r["estimator"] for r in families.at_weight(merged, 0)] == ["flow", "vae"]


def test_the_worst_of_intervals_is_by_value():
    a, b = (student_interval(v) for v in ([0.1, 0.3], [0.2, 0.9]))
    assert families._least([b, a]) == a
    assert families._most([a, b]) == b


# --- From trainings to evidence ------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every training of the disk, as small as can be."""
    folder = tmp_path_factory.mktemp("weights")
    small = {
        "samples": 20,
        "k": 2,
        "y_points": 4,
        "z_points": 4,
        "steps": 2,
        "source_noises": [1.0],
        "mean_lengths": [1],
    }
    return families.load_or_train(load("disk", weights=str(folder), **small))


def test_every_training_leaves_a_record_and_first_ones_a_network(trained):
    s = trained.settings
    assert list(trained.networks) == list(FAMILIES)
    assert len(trained.records) == (len(FAMILIES) + 2) * len(s.robustness_weights) * s.runs
    for record in trained.records:
        assert record["drawn"].keys() == record["frozen"].keys() == MEASURES
        plain = record["weight"] == 0 and record["estimator"] in FAMILIES
        assert [heat["heat"] for heat in record["heats"]] == (list(s.heats) if plain else [])
        assert all(heat["std"] == 0 for heat in record["heats"])


def test_loading_again_gives_what_was_trained_and_trains_nothing(trained, monkeypatch):
    again = trained.settings.model_copy(update={"train": False})
    monkeypatch.setattr(family_networks, "FamilyTrainer", None)
    loaded = families.load_or_train(again)
    assert loaded.records == trained.records
    for name, network in loaded.networks.items():
        state = trained.networks[name].state_dict()
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
        assert not network.training


def test_other_settings_are_refused_and_other_measurements_trained_again(trained):
    """What is measured is kept in the record, so it is part of what must agree."""
    s = trained.settings
    folder = s.weights_folder()
    for change in ({"width": 9}, {"samples": 21}, {"frozen_seeds": 1}):
        jobs = list(families.jobs_of(s.model_copy(update=change)))
        assert not any(finished(job, folder) for job in jobs)
        with pytest.raises(InputError, match=f"{next(iter(change))} "):
            check_settings(jobs, folder, s)


def test_settings_of_l_r_are_those_of_trainings_with_it_alone(trained):
    s = trained.settings
    for change in ({"robustness_every": 3}, {"robustness_seeds": 3}, {"attack_lr": 0.5}):
        jobs = families.jobs_of(s.model_copy(update=change))
        found = {
            (job.settings.robustness_weight == 0, finished(job, s.weights_folder())) for job in jobs
        }
        assert found == {(True, True), (False, False)}


def test_finished_trainings_are_not_begun_again(trained, monkeypatch):
    monkeypatch.setattr(family_networks, "FamilyTrainer", None)
    jobs = families.jobs_of(trained.settings)
    train_jobs(jobs, trained.settings.weights_folder(), families.METHOD)


def test_pmrf_has_a_row_for_each_variant_and_weight(trained):
    for by, values in (("source_noise", (0.1, 1.0)), ("mean_steps", (1, trained.settings.steps))):
        rows = families.variant_rows(trained, by)
        found = {(row[by], row["weight"], row["runs"]) for row in rows}
        assert found == {(value, weight, 2) for value in values for weight in (0.0, 1.0)}
        assert all(row["mean_sensitivity"].value > 0 for row in rows)


def test_a_mean_that_has_learned_enough_stays_as_it_is():
    trainer = family_networks.build_trainer(
        job_of("disk/pmrf_mean2-weight0-seed0", mean_lengths=[2])
    )
    means, flows = [], []
    for _ in range(4):
        trainer.advance()
        means.append(trainer.network.mean[0].weight.detach().clone())
        flows.append(trainer.network.velocity.net[0].weight.detach().clone())
    assert not torch.equal(means[0], means[1])
    assert torch.equal(means[1], means[3])
    assert not torch.equal(flows[1], flows[3])


def test_the_heats_of_a_network_end_at_its_own(trained):
    rows = families.heat_rows(trained)
    assert len(rows) == len(FAMILIES) * trained.settings.runs * 2
    for record in trained.records:
        if record["heats"]:
            (own,) = (
                r
                for r in rows
                if (r["estimator"], r["run"], r["heat"]) == (record["estimator"], record["run"], 1)
            )
            assert {name: own[name] for name in MEASURES} == record["drawn"]


def test_evidence_of_the_disk_is_over_trainings(trained):
    measured, over = families.evidence({"disk": trained})
    assert measured.keys() == over.keys()
    assert set(over.values()) == {"trainings"}
    plain = {r["estimator"]: r for r in families.over_runs(trained.records) if r["weight"] == 0}
    least = min(plain[name]["recall"].value for name in families.CONDITIONAL)
    assert measured["families.cover"].value == least
    assert "ddrm" not in families.CONDITIONAL


def of_two_runs(problem, pmrf, weights=(0.0,)):
    """Recall 0, .1, … .5 of the families but PMRF, all of them halved where there is L_R."""
    values = {name: 0.1 * i for i, name in enumerate(FAMILIES)} | {"pmrf": pmrf}
    rows = [
        row(run, value / (2 if weight else 1), weight, estimator=name)
        for name, value in values.items()
        for weight in weights
        for run in range(2)
    ]
    return families.Trained(load(problem, robustness_weights=list(weights)), {}, rows)


def test_evidence_of_other_images_is_the_least_gap_to_the_steepest_family():
    more = {n: of_two_runs(n, pmrf) for n, pmrf in (("digits_x4", 2.0), ("fashion", 0.9))}
    measured, _ = families.evidence(more)
    assert list(measured) == ["families.little-noise-erratic-elsewhere"]
    gap = measured["families.little-noise-erratic-elsewhere"].value
    assert gap == pytest.approx(2 * (0.9 - 0.1 * FAMILIES.index("coupling")))


def test_evidence_of_what_robustness_costs_is_measured_at_the_largest_weight_where_there_is_one():
    weights = (0.0, 1.0, 3.0)
    more = {
        "fashion": of_two_runs("fashion", -0.4, weights),
        "digits_x4": of_two_runs("fashion", 0),
    }
    measured, _ = families.evidence(more)
    assert measured["families.little-noise-pays-elsewhere"].value == pytest.approx(0.2)
    measured, _ = families.evidence({"ring": of_two_runs("ring", 0.6, weights)})
    assert measured["families.ring-costs-precision"].value == pytest.approx(0.3)  # of PMRF
    assert families.evidence({"ring": of_two_runs("ring", 0.6)}) == ({}, {})


def test_samples_are_shown_of_the_same_inputs(trained):
    shown = dict(families.toy_samples(trained))
    assert list(shown) == [*FAMILIES, "posterior_sampler"]
    inputs = [x[:, 0].float() for x in shown.values()]
    assert all(torch.equal(x, inputs[0]) for x in inputs)


def test_costs_are_those_of_one_restoration(trained):
    rows = {row["estimator"]: row for row in families.cost(trained.settings, inputs=4)}
    assert list(rows) == list(FAMILIES)
    assert all(row["ms"] > 0 for row in rows.values())
    assert {name: row["evaluations"] for name, row in rows.items()} == {
        **dict.fromkeys(("flow", "ddim", "ancestral", "ddrm"), 4),
        **{"vae": 1, "coupling": 2, "pmrf": 5},
    }
    sizes = [p.numel() for p in trained.networks["pmrf"].parameters()]
    assert rows["pmrf"]["numbers"] == sum(sizes)
