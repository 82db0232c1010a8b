"""``python -m benchmarks [--full]``: prints a table and writes _build/bench.json.

``--device cuda`` measures trainings instead, and ``--estimate H100`` counts what they would take
there; ``--keep`` writes the record that the book's page on running shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator

from benchmarks import frechet, house, precision_recall, roofline, srflow, training_step
from benchmarks.measure import Row, machine
from stochrestore.book import speed
from stochrestore.store import write_record

BENCHMARKS: list[Callable[[], Iterator[Row]]] = [
    house.toy_notebook,
    training_step.robust_step,
    training_step.image_step,
    training_step.grid_training,
    training_step.fashion_training,
    precision_recall.against_piq,
    frechet.at_2048_dimensions,
    frechet.rank_deficient,
    srflow.attack,
    srflow.full_size,
]
FULL: list[Callable[[], Iterator[Row]]] = [
    training_step.image_memory,
    precision_recall.fifty_thousand,
    house.book,
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also what takes many minutes")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="measure trainings there")
    parser.add_argument("--preset", help="of these trainings; default: laptop, or gpu on cuda")
    parser.add_argument("--data", default="faces", help="images of the GANs")
    parser.add_argument("--estimate", choices=sorted(roofline.PEAKS), help="for a card by name")
    parser.add_argument("--keep", action="store_true", help="write the record for the book")
    options = parser.parse_args()
    if options.device or options.estimate:
        return trainings(options)
    benchmarks = BENCHMARKS + (FULL if options.full else [])
    rows = []
    for benchmark in benchmarks:
        for row in benchmark():
            rows.append(row)
            verdict = "ok" if row.ok else "MISSED"
            print(f"{row.name:<52} {row.value:>10.3g}   {row.target:<7} {verdict}", flush=True)
    print(machine())
    write(rows)


def trainings(options: argparse.Namespace) -> None:
    """Prints the record of a measurement or of an estimate, and keeps it where that is wanted."""
    if options.estimate:
        preset = options.preset or "gpu"
        record = roofline.estimate_record(options.estimate, preset, [options.data])
    else:
        preset = options.preset or ("gpu" if options.device == "cuda" else "laptop")
        record = roofline.speed_record(preset, options.device, data=options.data)
    print(speed.table(record))
    if options.keep:
        folder = house.ROOT / speed.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        write_record(folder / speed.file_name(record), record)


def write(rows: list[Row]) -> None:
    path = house.ROOT / "_build" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    listed = [
        {"name": r.name, "value": r.value, "target": r.target, "ok": r.ok, "machine": machine()}
        for r in rows
    ]
    path.write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
