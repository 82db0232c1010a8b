"""notebooks/ → book/executed/ → _build/html, and the proof: one rule a step (see `make help`)."""

import logging
import os
import sys
from pathlib import Path

from snakemake.logging import get_event, logger
from snakemake_interface_logger_plugins.common import LogEvent

from stochrestore.book import build, cluster, notebook, pages, provenance
from stochrestore.errors import InputError


def is_error(record):
    """Whether a record is to be shown; a job says itself why it failed."""
    return record.levelno >= logging.ERROR and get_event(record) != LogEvent.JOB_ERROR


for handler in logger.handlers:  # the profile's `quiet: all` hides errors too
    quiet = list(handler.filters)
    handler.filters[:] = [lambda record: is_error(record) or all(f.filter(record) for f in quiet)]

PRESET = config.get("preset", "laptop")
NOTEBOOKS = provenance.notebooks()
PAGES = expand("book/executed/{name}.ipynb", name=NOTEBOOKS)
GENERATED_PAGES = [
    *expand("book/executed/{name}.md", name=("equations", "results", "environment", "running")),
    *expand("book/executed/figures/{name}.webp", name=list(pages.FRONT_FIGURES)),
    "book/executed/figures/neighbours.html",
]
THREADS = max(1, workflow.cores // max(1, len(NOTEBOOKS)))
LIBRARY = [str(p) for p in Path("src").rglob("*.py")]
INDEX = "_build/html/index.html"
GENERATED = {"executed", "__pycache__"}
RUNS = [str(p) for p in Path("book/reference").glob("*/*.json")]  # runs, plans, speed
PROSE = [str(p) for p in Path("book").rglob("*.*") if p.is_file() and p.parent.name not in GENERATED]
EXERCISES = [str(p) for p in notebook.sources(Path("notebooks/exercises"))]  # a page's downloads

os.environ["CI"] = "true"  # no progress bars: they would mix
os.environ["OMP_NUM_THREADS"] = str(THREADS)  # notebooks run side by side
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["PYTHONUTF8"] = "1"  # pages are UTF-8 whatever the terminal is
shell.executable("bash")
shell.prefix("set -euo pipefail; ")


def refuse(error):
    """End in one line: Snakemake would show an error of this file."""
    print(f"stochrestore: {error}", file=sys.stderr, flush=True)
    os._exit(2)


if workflow.is_main_process:
    try:
        LOCK = build.alone(provenance.checkout())  # Snakemake's own outlives a process that is killed
    except InputError as error:
        refuse(error)
    build.end_with_the_command()
    for name in NOTEBOOKS:
        if reason := provenance.damage(page := Path(f"book/executed/{name}.ipynb")):
            print(f"{page} is made again: {reason}", flush=True)
            page.unlink()
        if not page.exists():  # what was made of it earlier would count as up to date
            for made in ("book/executed/claims.md", INDEX):
                Path(made).unlink(missing_ok=True)


wildcard_constraints:
    name="[a-z0-9_]+",


rule book:
    input:
        INDEX,


# What a notebook depends on enters as a fingerprint of contents, taken from the graph of imports:
# dates, which a clone or a checkout sets at will, do not count.
rule execute:
    input:
        "notebooks/{name}.ipynb",
    output:
        "book/executed/{name}.ipynb",
    params:
        sources=lambda wildcards: provenance.fingerprint(wildcards.name, PRESET),
    threads: THREADS
    shell:
        "echo 'Executing {wildcards.name} ({PRESET})'; "
        "stochrestore run {wildcards.name} --preset {PRESET} --output {output}"


rule claims:
    input:
        PAGES,
        "src/stochrestore/book/claims.yaml",
    output:
        "book/executed/claims.md",
    shell:
        "stochrestore claims --markdown > {output}"


rule pages:
    input:
        PAGES,
        LIBRARY,
        "src/stochrestore/book/claims.yaml",
        "src/stochrestore/book/equations.yaml",
        "_config.yml",  # the address that sources are linked to
        RUNS,
        EXERCISES,
    output:
        GENERATED_PAGES,
        expand("book/executed/exercises/{name}.ipynb", name=[Path(e).stem for e in EXERCISES]),
    shell:
        "stochrestore pages book/executed > /dev/null"


# From nothing each time (seconds): Sphinx does not repeat the warnings of pages it has already read.
rule html:
    input:
        PAGES,
        PROSE,
        EXERCISES,
        LIBRARY,
        "book/executed/claims.md",
        GENERATED_PAGES,
        "_config.yml",
        "_toc.yml",
    output:
        INDEX,
    threads: workflow.cores
    shell:
        """
        echo 'Building the pages'
        stochrestore doctor --preset {PRESET} --pages
        rm -rf _build/html _build/.doctrees
        jupyter-book build --quiet --warningiserror --nitpick --keep-going .
        stochrestore doctor --html _build/html
        """


# The trainings of Fig. 4 and of Fig. 1 and Table 1, `snakemake sr_grid inpaint_grid --cores 2`, or
# as jobs of a cluster (profiles/README.md). What `--config` gives besides the preset are settings,
# such as data=digits. A training that was interrupted continues from its checkpoint.
SETTINGS = {name: value for name, value in config.items() if name != "preset"}
WEIGHTS = Path("_build/weights")


def grid(experiment):
    """The marks of an experiment's trainings, once it is known that these can begin."""

    def marks(_):
        resources = workflow.resource_settings.default_resources or {}
        sent = not workflow.local_exec and "slurm_partition" in resources
        try:
            partition = str(resources["slurm_partition"].raw) if sent else ""
            found = cluster.records(experiment, PRESET, SETTINGS, partition)
        except InputError as error:
            refuse(error)
        (WEIGHTS / experiment / PRESET / "shared").touch()
        return cluster.marks(found, WEIGHTS / experiment / PRESET)

    return marks


def need(name):
    """A resource of a training."""
    return lambda wildcards: cluster.needs(wildcards.experiment, PRESET, wildcards.job)[name]


rule sr_grid:
    input:
        grid("sr_scaling"),


rule inpaint_grid:
    input:
        grid("inpaint"),


rule train:
    output:
        touch(WEIGHTS / "{experiment}" / PRESET / "done" / "{job}"),
    log:
        WEIGHTS / "{experiment}" / PRESET / "logs/{job}.log",
    wildcard_constraints:
        experiment="sr_scaling|inpaint",
        job=".+-seed[0-9]+",
    params:
        folder=lambda wildcards: WEIGHTS / wildcards.experiment / PRESET,
        settings=[f"{name}={value}" for name, value in SETTINGS.items()],
    threads: 1
    resources:
        runtime=need("runtime"),
        mem_mb=need("mem_mb"),
        gpu=need("gpu"),
    shell:
        """
        echo 'Training {wildcards.experiment} {wildcards.job}'
        test -e {params.folder}/shared || {{
            echo "stochrestore: $(hostname) does not see {params.folder}: it must be shared" >&2
            exit 2
        }}
        options=()
        for setting in {params.settings:q}; do options+=(-p "$setting"); done
        OMP_NUM_THREADS=1 TQDM_MININTERVAL=60 stochrestore train {wildcards.experiment} \
            --preset {PRESET} "${{options[@]}}" --only {wildcards.job} -o {params.folder} 2>> {log}
        """
