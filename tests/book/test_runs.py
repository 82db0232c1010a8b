import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stochrestore import config
from stochrestore.book import claims, notebook, provenance, runs
from stochrestore.book.runs import Run
from stochrestore.cli import app
from stochrestore.errors import InputError
from stochrestore.metrics.interval import Interval

MARK = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "preset": "smoke",
    "given": {},
    "parameters": {"train": True},
    "seed": 0,
    "device": "CPU, 2 cores",
    "versions": {"torch": "2.13.0"},
    "seconds": 40.0,
    "cpu_seconds": 55.0,
    "memory": 512 * 2**20,
    "sources": {"notebooks/toy_tradeoff.ipynb": "0" * 64},
}
WEIGHTS = {
    path.relative_to(provenance.checkout()).as_posix(): "0" * 64
    for path in sorted((provenance.checkout() / "src/stochrestore/weights").glob("*/*.safetensors"))
}
EVERY = [c for c in claims.registry().values() if not c.fact]
TESTED = [c for c in EVERY if c.expected.get("smoke") != "not tested"]


def page(folder, mark, *measured):
    """An executed notebook, with a stamp and with what it measured."""
    outputs = [{"data": {claims.MIME_TYPE: list(measured)}}]
    cell = {"cell_type": "code", "metadata": {}, "outputs": outputs, "source": ""}
    metadata = {notebook.STAMP: mark} if mark else {}
    path = folder / "executed.ipynb"
    notebook.write(path, {"cells": [cell], "metadata": metadata, "nbformat": 4})
    return path


def row(claim, preset="smoke"):
    measured = {claim.id: Interval(0.25, 0.2, 0.3)}
    return claims.record(
        claim, claims.Evidence(claim.notebook, preset, measured, {claim.id: "images"})
    )


def test_what_a_run_took_and_measured_comes_back_from_its_record(tmp_path):
    executed = page(tmp_path, MARK, row(TESTED[0]))
    kept = runs.keep(executed, tmp_path / "runs")
    assert kept.name == "toy_tradeoff-smoke.json"
    (run,) = runs.kept(kept.parent)
    assert run == runs.of_page(executed)
    assert (run.seconds, run.cpu_seconds, run.memory) == (40.0, 55.0, 512 * 2**20)
    assert run.written == executed.stat().st_size
    assert run.measured == {TESTED[0].id: (0.25, 0.2, 0.3)}
    assert run.over == {TESTED[0].id: "images"}
    assert str(tmp_path) not in kept.read_text("utf-8")


def test_weights_count_where_they_are_loaded(tmp_path):
    sources = MARK["sources"] | WEIGHTS
    loaded = MARK | {"parameters": {"train": False, "weights": ""}, "sources": sources}
    size = sum((provenance.checkout() / path).stat().st_size for path in WEIGHTS)
    assert size > 0
    assert runs.of_page(page(tmp_path, loaded)).weights == size
    for parameters in ({"train": True}, {"train": False, "weights": "elsewhere"}):
        mark = loaded | {"parameters": parameters}
        assert runs.of_page(page(tmp_path, mark)).weights == 0


@pytest.mark.parametrize("mark", [None, MARK | {"given": {"seed": 3}}])
def test_only_runs_of_a_preset_as_it_is_are_kept(tmp_path, mark):
    with pytest.raises(InputError, match=r"keep: got .*executed\.ipynb'; allowed: .*without -p"):
        runs.keep(page(tmp_path, mark), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_command_keeps_what_it_is_given(tmp_path):
    executed = page(tmp_path, MARK)
    said = CliRunner().invoke(app, ["keep", str(executed), "--folder", str(tmp_path / "runs")])
    assert said.exit_code == 0
    assert said.output.split() == [str(tmp_path / "runs" / "toy_tradeoff-smoke.json")]
    assert len(runs.kept(tmp_path / "runs")) == 1


def test_what_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(InputError, match="keep: got"):
        runs.keep(tmp_path / "missing.ipynb", tmp_path)


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"notebook": "toy_tradeoff", "preset": "huge"}')
    with pytest.raises(InputError, match="preset"):
        runs.kept(tmp_path)


def run_of(preset="smoke", device="CPU, 2 cores", **changes):
    given = {"notebook": "toy_tradeoff", "commit": "0" * 40, "dirty": False, "versions": {}}
    return Run(**given | {"preset": preset, "device": device, "seconds": 1.0} | changes)


PRESETS = st.sampled_from(config.PRESETS)
DEVICES = st.sampled_from(["CPU, 2 cores", "CPU, 4 cores", "cpu", "NVIDIA H100", "cuda"])
RUNS = st.lists(st.builds(run_of, PRESETS, DEVICES), max_size=6)


@given(RUNS, RUNS)
def test_beyond_is_what_this_build_does_not_repeat(here, others):
    more = runs.beyond(here, others)
    kinds = {(run.preset, run.on_gpu) for run in here}
    assert all(run in others for run in more)
    assert {(r.preset, r.on_gpu) for r in others} - kinds == {(r.preset, r.on_gpu) for r in more}


def test_a_run_on_a_gpu_has_a_record_of_its_own():
    assert run_of().file == "toy_tradeoff-smoke.json"
    assert run_of(device="NVIDIA H100").file == "toy_tradeoff-smoke-gpu.json"


def test_a_verdict_is_that_of_the_claim_as_it_stands():
    claim = next(c for c in TESTED if c.relation.startswith(">"))
    bound = float(claim.relation.lstrip(">= "))
    for value, verdict in ((bound + 1, "reproduced"), (bound - 1, "not reproduced")):
        found = {"measured": {claim.id: (value, value, value)}, "over": {claim.id: "exact"}}
        run = run_of(notebook=claim.notebook, **found)
        ((found, row),) = runs.rows([run], claim.id)
        assert (found, row["verdict"], row["value"]) == (run, verdict, value)


def test_claims_that_a_preset_cannot_tell_are_not_shown():
    claim = next(c for c in EVERY if c not in TESTED)
    found = {"measured": {claim.id: (0.0, 0.0, 0.0)}, "over": {claim.id: "images"}}
    run = run_of(notebook=claim.notebook, **found)
    assert list(runs.rows([run], claim.id)) == []
    assert list(runs.rows([run_of()], claim.id)) == []


KEPT = sorted((provenance.checkout() / runs.FOLDER).glob("*.json"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_committed_record_is_of_a_run_of_the_preset(path):
    run = config.validated(Run, json.loads(path.read_text("utf-8")))
    assert path.name == run.file
    assert run.given == {}
    assert run.notebook in provenance.notebooks()
    assert run.over.keys() == run.measured.keys()
    assert run.measured.keys() <= claims.registry().keys()
    assert min(run.seconds, run.cpu_seconds, run.memory, run.written) > 0
