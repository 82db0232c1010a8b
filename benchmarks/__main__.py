"""``python -m benchmarks [--full]``: prints a table and writes _build/bench.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator

from benchmarks import frechet, house, precision_recall, srflow, training_step
from benchmarks.measure import Row, machine

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
    benchmarks = BENCHMARKS + (FULL if parser.parse_args().full else [])
    rows = []
    for benchmark in benchmarks:
        for row in benchmark():
            rows.append(row)
            verdict = "ok" if row.ok else "MISSED"
            print(f"{row.name:<52} {row.value:>10.3g}   {row.target:<7} {verdict}", flush=True)
    print(machine())
    write(rows)


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
