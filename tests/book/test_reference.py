import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from stochrestore import cli, store
from stochrestore.book import reference
from stochrestore.errors import InputError
from stochrestore.experiments import registry
from stochrestore.experiments import sr_networks as training
from stochrestore.experiments import srflow_robustness as experiment
from stochrestore.training.jobs import train_jobs

COMMITTED = sorted((Path(__file__).parents[2] / reference.FOLDER).glob("*.json"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A reference run of the smoke preset, by the command."""
    folder = tmp_path_factory.mktemp("reference")
    smoke = registry.load("srflow_robustness", "smoke")
    train_jobs(training.all_jobs(smoke).values(), folder / "weights", training.METHOD)
    options = (
        "data=photographs",
        "train=false",
        f"weights={folder / 'weights'}",
        "alphas=[2.0, 8.0]",
    )
    arguments = [text for option in options for text in ("-p", option)]
    command = ["stochrestore", "reference", "srflow_robustness", "--preset", "smoke", *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [*command, "-o", str(folder)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return folder


def test_numbers_figure_and_page_are_written(made):
    record = json.loads((made / "srflow_photographs.json").read_text())
    assert len(record["rows"]) == 3 * 2 * 3
    assert {row["network"] for row in record["quality"]} == {"bicubic", *training.NETWORKS}
    for name in training.NETWORKS:
        weights = (made / "weights" / f"{name}.safetensors").read_bytes()
        assert record["weights"][name] == store.sha256([weights])
    assert (made / "srflow_photographs.png").read_bytes().startswith(b"\x89PNG")
    page = (made / "srflow_photographs.md").read_text()
    for said in (
        "stochrestore reference srflow_robustness --preset smoke \\\n        -p data=photographs",
        "-p train=false -p weights=weights",
        record["commit"][:12],
        record["weights"]["srflow"][:16],
        "srflow_photographs.png",
        "of 2 values of α",
    ):
        assert said in page
    mean = experiment.values_of(record["rows"], "output_rgb", network="edsr", alpha=8.0).mean()
    assert f"| {mean:.2f} (" in page


def test_nothing_written_names_a_folder_of_the_machine(made):
    for ending in ("json", "md", "png"):
        content = (made / f"srflow_photographs.{ending}").read_bytes()
        assert str(made).encode() not in content


def test_the_same_record_gives_the_same_files(made, tmp_path):
    record = json.loads((made / "srflow_photographs.json").read_text())
    reference.write(record, tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (made / path.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "folder:x"}, "reference: data: got 'folder:x'; allowed: set5, set14, bsd100"),
        ({"train": True}, "reference: train: got True"),
    ],
)
def test_what_others_could_not_repeat_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        reference.measure(registry.load("srflow_robustness", "laptop", **change), {})


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_run_is_of_the_shipped_weights_and_its_page_of_its_numbers(path, tmp_path):
    record = json.loads(path.read_text("utf-8"))
    shipped = store.shipped("srflow_robustness")
    for name, digest in record["weights"].items():
        assert json.loads((shipped / f"{name}.json").read_text())["sha256"] == digest
    assert path.with_suffix(".md").read_text("utf-8") == reference.markdown(record, path.stem)
    drawn = reference.write(record, tmp_path).with_suffix(".png")
    with Image.open(drawn) as now, Image.open(path.with_suffix(".png")) as kept:
        assert now.size == kept.size
        assert (
            ImageStat.Stat(ImageChops.difference(now.convert("RGB"), kept.convert("RGB"))).mean
            < [2] * 3
        )
