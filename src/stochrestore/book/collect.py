"""Takes what another machine trained and executed into this checkout, after checking it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stochrestore import config, store
from stochrestore.book import notebook, provenance, runs
from stochrestore.data.images import BUILT_IN
from stochrestore.errors import InputError, require
from stochrestore.experiments import registry
from stochrestore.training.jobs import Job, Method, differing, load, read_record


def collect(folder: Path, *, replace: bool = False) -> list[Path]:
    """Take trainings among the shipped weights, and executed notebooks among the kept records.

    All of it is checked before anything is written.

    - A training is taken if its record has the settings of a preset's training of its name, the
      built-in images have the record's sha256, and so have the weights, which fit the network.
    - An executed notebook is taken if the notebook and the library here are those that it was
      made from, and no parameters were given; its record goes to the pages "Running" and
      "Results".

    Args:
        folder: holds what ``stochrestore train -o`` and ``stochrestore run -o`` wrote.
        replace: replace what is here already and differs.

    Returns:
        The files that were written; what is here already, byte for byte, is left alone.

    Raises:
        InputError: a file is foreign, damaged or of a training that has not ended, or is here
            already and differs. Nothing was taken.
    """
    require(folder.is_dir(), "collect", str(folder), "a folder of weights or executed notebooks")
    ready: dict[Path, bytes] = {}
    for path in sorted(folder.rglob("*")):
        match path.suffix:
            case ".pt" | ".partial":
                raise InputError(f"collect: {path} is of a training that has not ended")
            case ".safetensors" if not path.with_suffix(".json").exists():
                raise InputError(f"collect: {path} has no record beside it")
            case ".json" if "checkpoints" not in path.parts:
                ready |= _training(path)
            case ".ipynb":
                run = _run(path)
                ready[_root() / runs.FOLDER / run.file] = store.record_bytes(
                    run.model_dump(mode="json")
                )
    require(bool(ready), "collect", str(folder), "a folder that holds trainings or notebooks")
    new = {path: data for path, data in ready.items() if _content(path) != data}
    here = [str(path.relative_to(_root())) for path in new if path.exists()]
    if here and not replace:
        raise InputError(f"collect: {here[0]} is here already and differs; allowed with --replace")
    store.write_all(new)
    return list(new)


def _root() -> Path:
    return provenance.checkout()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _training(path: Path) -> dict[Path, bytes]:
    """The files of a finished training by where they go: the weights, then their record."""
    record = store.read_record(path)
    name, settings = str(record.get("job")), record.get("settings") or {}
    known = bool(settings) and path.with_suffix("").as_posix().endswith(f"/{name}")
    require(known, "collect", str(path), "the record of a training, named as its job")
    folder = path.parents[len(Path(name).parts) - 1]
    found = (
        each
        for each in _jobs(name, str(settings.get("data", "")), record.get("seed"))
        if not differing(each[2], read_record(each[2], folder))
    )
    experiment, method, job = next(found, (None, None, None))
    if experiment is None or method is None or job is None:
        raise InputError(f"collect: {path} has the settings of no preset's training {name}")
    if method.data and job.settings.data in BUILT_IN:
        then, now = record.get("data_sha256"), method.data(job.settings)
        require(then == now, f"collect: {path}: images", then, now)
    files = {}
    if job.keep_weights:
        load(job, folder, method)
        files[".safetensors"] = job.path(folder).read_bytes()
    files[".json"] = path.read_bytes()
    return {store.shipped(experiment) / f"{name}{kind}": data for kind, data in files.items()}


def _jobs(name: str, data: str, seed: Any) -> Iterator[tuple[str, Method, Job]]:
    """The trainings of a name, at every preset, with the seed and the data of a record."""
    for experiment in registry.TRAINED:
        for preset in config.PRESETS:
            job = _jobs_of(experiment, preset, data).get(name)
            if job is not None and job.seed == seed:
                yield experiment, registry.trained(experiment).METHOD, job


@cache
def _jobs_of(experiment: str, preset: str, data: str) -> dict[str, Job]:
    module = registry.trained(experiment)
    changes = {"data": data} if data and "data" in module.Settings.model_fields else {}
    try:
        return module.all_jobs(module.Settings.load(preset, **changes, device="cpu"))
    except InputError:  # data that this experiment does not know
        return {}


def _run(page: Path) -> runs.Run:
    """The run that made an executed notebook from the sources that are here."""
    run, mark = runs.to_keep(page), notebook.stamp(page) or {}
    if reason := provenance.damage(page):
        raise InputError(f"collect: {page}: {reason}")
    now = provenance.sources(run.notebook, run.preset)
    text = {
        p
        for p in now.keys() | mark["sources"].keys()
        if p.endswith((".py", ".ipynb", run.notebook))
    }
    changed = sorted(p for p in text if now.get(p) != mark["sources"].get(p))
    require(not changed, f"collect: {page}: made from other sources", changed[:3], "those here")
    return run


def _of_machine(source: str) -> bool:
    """Whether a source may differ between machines that run the same checkout."""
    return source == "installed versions" or "/weights/" in source
