"""The chapter on Appendix G with files of the reader's own, by plain papermill."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from sr_networks import STATES
from stochrestore import cli
from stochrestore.data.downloads import registry

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "srflow_robustness.ipynb"


def papermill(folder, **parameters):
    """Run the chapter from another folder, its images and weights there too."""
    given = {"preset": "smoke", "train": "False", **parameters}
    options = [text for name, value in given.items() for text in ("-p", name, str(value))]
    environment = os.environ | {"STOCHRESTORE_DATA": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), "out.ipynb", *options]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images under the names of Set5's, and weights in the published layouts."""
    folder = tmp_path_factory.mktemp("own")
    for i, path in enumerate(sorted(registry("set5"))):
        side = 40 if path.endswith("_HR.png") else 10
        levels = np.random.Philox(key=i).random_raw(side * side * 3) % 256
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels.astype(np.uint8).reshape(side, side, 3)).save(folder / path)
    for name, state in STATES.items():
        torch.save(state, folder / f"{name}.pth")
    return folder


def weights(folder):
    files = {"edsr": "edsr.pth", "esrgan": "rrdb.pth", "srflow": "srflow.pth"}
    return {f"{name}_weights": folder / file for name, file in files.items()}


def outputs(path):
    cells = nbformat.read(path, 4).cells
    return [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]


def test_a_folder_and_official_weights(folder):
    done = papermill(folder, data=f"folder:{folder / 'Set5'}", **weights(folder))
    assert done.returncode == 0, done.stderr[-2000:]
    found = outputs(folder / "out.ipynb")
    assert sum("image/png" in o.get("data", {}) for o in found) == 4
    assert any("folder:" in o.get("data", {}).get("text/plain", "") for o in found)
    assert not [o for o in found if o.get("name") == "stderr"]


def test_files_under_the_names_of_set5_are_not_taken_for_it(folder):
    done = papermill(folder, data="set5", **weights(folder))
    assert done.returncode != 0
    (error,) = [o for o in outputs(folder / "out.ipynb") if o.output_type == "error"]
    (line,) = error.traceback
    assert "10 files are not in" in line
    assert "(damaged); `stochrestore data fetch set5`" in line


def test_a_truncated_file_ends_the_chapter_in_one_line(folder, tmp_path):
    whole = (folder / "srflow.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    images = f"folder:{folder / 'Set5'}"
    done = papermill(
        folder, data=images, **weights(folder) | {"srflow_weights": folder / "cut.pth"}
    )
    assert done.returncode != 0
    (error,) = [o for o in outputs(folder / "out.ipynb") if o.output_type == "error"]
    said = re.compile("InputError: weights cut.pth cannot be read: truncated, or not a file of .*")
    (line,) = error.traceback
    assert said.fullmatch(line)


@pytest.mark.parametrize("data", ["set6", "folder", "set5+elsewhere"])
def test_unknown_data_are_refused_before_any_work(data, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["stochrestore", "run", "srflow_robustness", "-p", f"data={data}"]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stochrestore: data: got '{data}' (str); allowed: ")
