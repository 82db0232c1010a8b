"""Data sets that are downloaded on demand; the library knows the sha256 of each file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from tqdm import tqdm

from stochrestore.errors import InputError, require, silent
from stochrestore.store import sha256

FOLDER_VARIABLE = "STOCHRESTORE_DATA"
SELFEXSR = (
    "https://raw.githubusercontent.com/jbhuang0604/SelfExSR/"
    "8f6dd8c1d20cb7e8792a7177b4f6fd677633f598/data/"
)
"""The benchmarks of super-resolution as Huang et al. (2015) published them."""
FASHION_MNIST = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
)
"""The official files of Fashion-MNIST; their contents are checked, whatever the branch holds."""
BENCHMARKS = {"set5": "Set5", "set14": "Set14", "bsd100": "BSD100"}
"""The names of the benchmarks and of their folders."""
CLOTHES = "fashion_mnist"


def called(data: str) -> str:
    """What data sets are called in a sentence: ``set5+set14`` is Set5 and Set14."""
    return " and ".join(BENCHMARKS.get(name, name) for name in data.split("+"))


def data_folder() -> Path:
    """Where data sets are kept: in ``STOCHRESTORE_DATA``, else in the user's folder for caches."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    import pooch

    return Path(pooch.os_cache("stochrestore"))


def registry(name: str) -> dict[str, str]:
    """The sha256 of each file of a benchmark at ×4, by the file's path."""
    require(name in BENCHMARKS, "data set", name, ", ".join(BENCHMARKS))
    text = resources.files("stochrestore.data").joinpath("selfexsr_x4.json").read_text("utf-8")
    files = json.loads(text).items()
    return {path: digest for path, digest in files if path.startswith(f"{BENCHMARKS[name]}/")}


def fetch(name: str, *, source: str | None = None, progress: bool = True) -> Path:
    """Download the files of a data set that are missing or damaged; the others are kept.

    A file is moved to its place only after it has been checked, so that an interrupted call can
    be repeated. Files of Fashion-MNIST are checked as they arrive, and again when they are read.

    Args:
        name: one of :data:`BENCHMARKS`, or ``fashion_mnist``.
        source: the address that the files' paths are relative to; the publisher's unless given.
        progress: whether to show a progress bar.

    Returns:
        The data set's folder.

    Raises:
        InputError: there is no network, a downloaded file is not the published one, or the folder
            cannot be written. Files that had arrived are kept.
    """
    known = (*BENCHMARKS, CLOTHES)
    require(name in known, "data set", name, ", ".join(known))
    try:
        import pooch
        import requests
    except ImportError:
        raise InputError("data: needs pooch; pip install 'stochrestore[notebooks]'") from None
    from stochrestore.data import fashion  # imports torch, which those who only ask a name need not

    download = pooch.HTTPDownloader(timeout=30)
    pooch.get_logger().setLevel("ERROR")

    def checked(url: str, output: str, keeper: pooch.Pooch) -> None:
        download(url, output, keeper)
        fashion.checked(Path(output).read_bytes(), Path(url).stem, url, packed=True)

    files: Mapping[str, str | None]
    if name == CLOTHES:
        folder, home, downloader = data_folder() / CLOTHES, FASHION_MNIST, checked
        files = dict.fromkeys(f"{file}.gz" for file in fashion.SHA256)  # known is what they hold
    else:
        folder, home, downloader, files = data_folder(), SELFEXSR, download, registry(name)
    keeper = pooch.create(folder, source or home, registry=files)
    for path in tqdm(files, name, disable=silent(progress)):
        try:
            keeper.fetch(path, downloader=downloader)
        except requests.RequestException as error:
            raise _stopped(name, path, f"cannot be downloaded ({_reason(error)})") from None
        except ValueError:
            raise _stopped(name, path, "is not the published file (sha256)") from None
        except OSError as error:
            raise InputError(f"{folder / path} cannot be written: {error.strerror}") from None
    return folder / BENCHMARKS.get(name, "")


def _stopped(name: str, path: str, why: str) -> InputError:
    return InputError(f"{path}: {why}; `stochrestore data fetch {name}` continues from here")


def _reason(error: Exception) -> str:
    """The server's status where it answered, else the kind of error."""
    response = getattr(error, "response", None)
    return type(error).__name__ if response is None else f"status {response.status_code}"


def wrong_files(name: str) -> dict[str, str]:
    """The files of a benchmark that are not as published, each ``missing`` or ``damaged``."""
    found = {path: _state(data_folder() / path, digest) for path, digest in registry(name).items()}
    return {path: state for path, state in found.items() if state}


def _state(path: Path, digest: str) -> str:
    try:
        return "" if sha256([path.read_bytes()]) == digest else "damaged"
    except OSError:
        return "missing"


def local_benchmark(name: str) -> Path:
    """The folder of a benchmark that has been fetched.

    Raises:
        InputError: some of its files are missing or damaged.
    """
    folder, wrong = data_folder(), wrong_files(name)
    if wrong:
        path, state = next(iter(wrong.items()))
        raise InputError(
            f"data={name}: {len(wrong)} files are not in {folder} as published, the first {path} "
            f"({state}); `stochrestore data fetch {name}` gets them"
        )
    return folder / BENCHMARKS[name]
