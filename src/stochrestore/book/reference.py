"""Runs Appendix G on benchmarks that are not shipped, and keeps the result as a page of the book.

The numbers are written as JSON; the figure and the page are made from this file alone.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from stochrestore.book import provenance
from stochrestore.data.downloads import BENCHMARKS, called
from stochrestore.errors import require
from stochrestore.experiments import srflow_robustness as experiment
from stochrestore.experiments.sr_networks import NETWORKS
from stochrestore.figures import sr_robustness as figures
from stochrestore.figures import style
from stochrestore.store import sha256, write_atomically, write_record

Record = Mapping[str, Any]
Row = experiment.Row
FOLDER = Path("book") / "reference"
_DIGITS = 4
_QUALITIES = {
    "psnr": "PSNR, dB",
    "psnr_y": "PSNR of luma, dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "sharpness": "sharpness",
}


def measure(settings: experiment.Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Measure Figure 8 and the quality of the restorations on the settings' data.

    Args:
        settings: of the chapter.
        given: the settings that replace the preset's, without the data.

    Returns:
        A record, ready for JSON.

    Raises:
        InputError: the data are a folder of images, which others do not have, or the settings ask
            for networks to be trained.
    """
    public = not settings.data.startswith("folder:")
    require(public, "reference: data", settings.data, f"{', '.join(BENCHMARKS)}, joined by +")
    require(not settings.train, "reference: train", settings.train, "False: weights on disk")
    start = time.monotonic()
    networks = experiment.load_or_train(settings)
    rows = experiment.figure_8_rows(networks, settings)
    sets = experiment.data_sets(settings)
    quality = [
        {"data": data, **row}
        for data in sets
        for row in experiment.quality_rows(networks, experiment.groups(settings, data), settings)
    ]
    seconds = time.monotonic() - start
    settings_told = settings.model_copy(update=_without_folders(settings.model_dump()))
    about = provenance.stamp(
        settings_told, given=_without_folders(given), sources={}, seconds=seconds
    )
    files = experiment.weight_files(settings).items()
    kept = ("commit", "dirty", "preset", "given", "parameters", "device", "versions", "seconds")
    return {
        **{key: about[key] for key in kept},
        "weights": {name: sha256([path.read_bytes()]) for name, path in files},
        "data": {data: experiment.pixels_digest(settings, data) for data in sets},
        "quality": _rounded(quality),
        "rows": _rounded(rows),
    }


def _without_folders(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with names of files in place of paths of this machine."""
    paths = {"weights", *(f"{name}_weights" for name in NETWORKS)}
    return {
        name: Path(value).name if name in paths else value for name, value in parameters.items()
    }


def write(record: Record, folder: Path) -> Path:
    """Write a record as JSON, figure (PNG) and page (.md) named ``srflow_<data>`` into a folder.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder cannot be written.
    """
    name = "srflow_" + record["parameters"]["data"].replace("+", "_")
    page = folder / f"{name}.md"
    write_record(folder / f"{name}.json", dict(record))
    style.use()
    figure = figures.figure_8(record["rows"])
    figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    write_atomically(page, markdown(record, name).encode())
    return page


def markdown(record: Record, name: str) -> str:
    """The page of a record.

    Args:
        name: of the JSON and PNG files beside it.
    """
    parameters = record["parameters"]
    data = parameters["data"]
    given = {"data": data, **record["given"]}
    texts = (f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in given.items())
    options = " ".join(f"-p {shlex.quote(text)}" for text in texts)
    begin = f"stochrestore reference srflow_robustness --preset {record['preset']}"
    command = f"{begin} \\\n        {options}"
    fetched = "\n".join(f"    stochrestore data fetch {label}" for label in record["data"])
    shown = " and ".join(map(called, record["data"]))
    sets = " and ".join(f"{called(d)}, {_count(record, d)} images" for d in record["data"])
    return f"""# Reference run: {shown}

One run of [the chapter's](../executed/srflow_robustness.ipynb) Figure 8 on {sets}.
Benchmarks are not shipped with the library. The numbers below were written by

{fetched}
    {command}

and are not made again when the book is built.

```{{figure}} {name}.png
:alt: Output PSNR of three networks and PSNR of the attacked input on {shown}, falling with alpha.
:name: fig-reference-{name.replace("_", "-")}

Figure 8 on {shown}: means over images, and 95 % intervals.
```

## Output PSNR under attack

Means over images, in dB; RGB, and luma in brackets. Those of outputs leave out a border of
{experiment.SHAVE} pixels.

{_attack_table(record["rows"])}

{_findings(record["rows"])}

## Restorations without an attack

{_quality_table(record["quality"])}

Sharpness is the mean difference of neighbouring pixels over that of the true image.

## Made from

{_provenance(record)}
"""


def _attack_table(rows: list[Row]) -> str:
    networks = list(dict.fromkeys(row["network"] for row in rows))
    lines = [
        "| data | α · 255 | " + " | ".join(style.NAMES[n] for n in networks) + " | input (all) |",
        "|:--|--:|" + "--:|" * (len(networks) + 1),
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        for alpha in experiment.alphas_of(rows):
            where = {"data": data, "alpha": alpha}
            outputs = (_both(rows, "output", network=n, **where) for n in networks)
            cells = [called(data), f"{alpha:g}", *outputs, _both(rows, "input", **where)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _both(rows: list[Row], what: str, **where: Any) -> str:
    rgb, luma = (
        experiment.values_of(rows, f"{what}_{kind}", **where).mean().item() for kind in ("rgb", "y")
    )
    return f"{rgb:.2f} ({luma:.2f})"


def _findings(rows: list[Row]) -> str:
    """What the chapter's claims are about, in sentences."""
    found = experiment.measured(rows)
    sentences = []
    for other, name in (("esrgan", "esrgan-least-robust"), ("edsr", "near-edsr")):
        mean = found[f"srflow.{name}"]
        sentences.append(
            f"SRFlow's output PSNR less {style.NAMES[other]}'s, a mean over α: "
            f"{mean.value:.2f} dB, 95 % interval over images [{mean.low:.2f}, {mean.high:.2f}]."
        )
    n = len(experiment.alphas_of(rows))
    count = round(found["srflow.order-kept"].value * n)
    sentences.append(f"ESRGAN's is the lowest at {count} of {n} values of α.")
    return "\n".join(f"- {sentence.replace('-', '−')}" for sentence in sentences)


def _quality_table(rows: list[Row]) -> str:
    keys = [key for key in _QUALITIES if key in rows[0]]
    lines = [
        "| network | " + " | ".join(_QUALITIES[key] for key in keys) + " |",
        "|:--|" + "--:|" * len(keys),
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        means = (experiment.values_of(rows, key, network=network).mean().item() for key in keys)
        name = style.NAMES.get(network, network)
        lines.append(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(lines)


def _provenance(record: Record) -> str:
    rows = provenance.told(record) | {
        "wall time": f"{record['seconds'] / 60:.0f} min",
        "weights, sha256": "<br>".join(
            f"{style.NAMES[name]} `{found[:16]}…`" for name, found in record["weights"].items()
        ),
        "pixels, sha256": "<br>".join(
            f"{called(name)} `{found[:16]}…`" for name, found in record["data"].items()
        ),
    }
    return provenance.table(rows)


def _count(record: Record, data: str) -> int:
    return len({row["image"] for row in record["rows"] if row["data"] == data})


def _rounded(rows: list[Row]) -> list[dict[str, Any]]:
    def rounded(value: Any) -> Any:
        return round(value, _DIGITS) if isinstance(value, float) else value

    return [{key: rounded(value) for key, value in row.items()} for row in rows]
