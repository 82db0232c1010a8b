"""What trainings reach on a GPU, for the page on running: from records of ``benchmarks``.

``python -m benchmarks --device cuda --keep`` measures, and ``--estimate CARD --keep`` counts
operations and bytes where no card is at hand. Both write records that are kept in the repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stochrestore.errors import require
from stochrestore.store import read_record

FOLDER = Path("book") / "reference" / "speed"
"""Where records are kept, from the checkout's root."""
_KINDS = {"measured": {"images_s", "most_images_s"}, "estimate": {"seconds", "least_seconds"}}
_TEXT = """\
`make gpu` does on a machine with a GPU, in this order: the tests that need one; the reference run
of inpainting at preset `gpu` (`stochrestore reference inpaint --preset gpu`); the measurement below
(`python -m benchmarks --device cuda --keep`); Figure 8 at preset `gpu`. Each part is left out when
it was done at the same commit, and an interrupted training continues from its checkpoint.

What is repeated to the bit: on one GPU, two runs of the same commit with the same versions draw the
same numbers, because every draw is made on the processor. Their arithmetic is the same only with
`stochrestore train … -p deterministic=true`. It calls `torch.use_deterministic_algorithms`, turns
`cudnn.benchmark` off and sets `CUBLAS_WORKSPACE_CONFIG=:4096:8` unless the variable is set.
Without it, gradients of convolutions and of interpolation are summed in an order that changes.
Another kind of GPU, another version, or the processor agree up to rounding, which the
training magnifies. TF32 and bf16 hold for trainings only, and are set back after them;
networks are measured in float32. A processor that is not faster in bf16 (of Intel's those without
AMX, of AMD's those without AVX-512's instructions for bf16) trains in float32 where settings ask
for bf16; the record says in what a network was trained.

No step of a training makes the processor wait for the GPU, but for the one in a hundred where
losses are read, and those where curves are measured. The shapes of a step depend on no data. Seeds
and batches are drawn on the processor and sent, and R1 and L_R enter every n-th step: a CUDA graph
could hold the arithmetic of the steps of one kind, not the draws."""


def page(root: Path) -> str:
    """The section about GPUs: how to use one, what was measured, else what is estimated."""
    records = kept(root / FOLDER)
    measured = [record for record in records if record["kind"] == "measured"]
    parts = ["## On a GPU", _TEXT, *(_titled(record) for record in measured)]
    if not measured:
        parts.append("No training on a GPU was measured.")
        parts += [_titled(record) for record in records]
    return "\n\n".join(parts)


def kept(folder: Path) -> list[dict[str, Any]]:
    """All records of a folder.

    Raises:
        InputError: one of the files is no record of speed.
    """
    return [_checked(path) for path in sorted(folder.glob("*.json"))]


def _checked(path: Path) -> dict[str, Any]:
    record = read_record(path)
    needed = _KINDS.get(record.get("kind", ""), set())
    rows = record.get("rows") or [{}]
    whole = needed and {"device", "preset", "commit"} <= record.keys()
    good = whole and all({"training", *needed} <= row.keys() for row in rows)
    require(
        bool(good), f"record {path}", record.get("kind"), "one of `python -m benchmarks --keep`"
    )
    return record


def file_name(record: Mapping[str, Any]) -> str:
    """Of a record: kind, device and preset."""
    words = f"{record['kind']}-{record['device']}-{record['preset']}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") + ".json"


def _titled(record: Mapping[str, Any]) -> str:
    at = f"at {record['commit'][:7]}{', changed' if record['dirty'] else ''}"
    if record["kind"] == "measured":
        title = f"Trainings at preset `{record['preset']}` on {record['device']}, {at}. *Most* is "
        title += "what operations and bytes of each step allow."
    else:
        total, least = (_minutes(record["rows"], name) for name in ("seconds", "least_seconds"))
        title = (
            f"**An estimate**, not a measurement: the trainings of preset `{record['preset']}` on "
            f"one {record['device']} take {total:.0f} minutes together, counted {at} from the "
            f"operations and bytes of each step and the card's data sheet, with "
            f"{1e6 * record['launch']:.0f} µs for each operation to start. Without that time it "
            f"were {least:.0f} minutes."
        )
    return f"{title}\n\n{table(record)}"


def _minutes(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(row[name] for row in rows) / 60


def table(record: Mapping[str, Any]) -> str:
    """The rows of a record, as Markdown."""
    if record["kind"] == "measured":
        head = "| training | images/s | most | share |\n|:--|--:|--:|--:|"
        lines = [
            f"| {row['training']} | {row['images_s']:.0f} | {row['most_images_s']:.0f} "
            f"| {row['images_s'] / row['most_images_s']:.0%} |"
            for row in record["rows"]
        ]
    else:
        head = (
            "| training | steps | batch | GFLOP a step | GB a step | calls a step | minutes |\n"
            "|:--|--:|--:|--:|--:|--:|--:|"
        )
        lines = [
            f"| {row['training']} | {row['steps']} | {row['batch_size']} "
            f"| {row['operations'] / 1e9:.0f} | {row['bytes'] / 1e9:.1f} | {row['calls']:.0f} "
            f"| {row['seconds'] / 60:.1f} |"
            for row in record["rows"]
        ]
    return "\n".join([head, *lines])
