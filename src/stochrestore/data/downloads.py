"""Data sets that are downloaded on demand; the library knows the sha256 of each file."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

from tqdm import tqdm

from stochrestore.data import fashion
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


def fetch(
    name: str, *, source: str = SELFEXSR, folder: Path | None = None, progress: bool = True
) -> Path:
    """Download the files of a benchmark that are missing or damaged; the others are kept.

    A file is moved to its place only after it has been checked, so that an interrupted call can
    be repeated.

    Args:
        name: one of :data:`BENCHMARKS`.
        source: the address that the paths in the registry are relative to.
        folder: where to put the files; :func:`data_folder` where it is not given.
        progress: whether to show a progress bar.

    Returns:
        The benchmark's folder.

    Raises:
        InputError: there is no network, a downloaded file is not the published one, or the folder
            cannot be written. Files that had arrived are kept.
    """
    files = registry(name)
    try:
        import pooch
        import requests
    except ImportError:
        raise InputError("data: needs pooch; pip install 'stochrestore[notebooks]'") from None
    folder = folder or data_folder()
    downloader = pooch.HTTPDownloader(timeout=30)
    pooch.get_logger().setLevel("ERROR")
    keeper = pooch.create(folder, source, registry=files)
    for path in tqdm(files, name, disable=silent(progress)):
        try:
            keeper.fetch(path, downloader=downloader)
        except requests.RequestException as error:
            raise _stopped(name, path, f"cannot be downloaded ({_reason(error)})") from None
        except ValueError:
            raise _stopped(name, path, "is not the published file (sha256)") from None
        except OSError as error:
            raise InputError(f"{folder / path} cannot be written: {error.strerror}") from None
    return folder / BENCHMARKS[name]


def fetch_fashion_mnist(
    *, source: str = FASHION_MNIST, folder: Path | None = None, progress: bool = True
) -> Path:
    """Download the four official files that are missing; those that are there are kept.

    Args:
        source: the address of the folder they are in.
        folder: where to put them; ``fashion_mnist`` in :func:`data_folder` where it is not given.
        progress: whether to show a progress bar.

    Returns:
        The folder, for ``data=fashion_mnist:PATH``.

    Raises:
        InputError: as :func:`fetch`.
    """
    try:
        import requests
    except ImportError:
        raise InputError("data: needs requests; pip install 'stochrestore[notebooks]'") from None
    folder = folder or data_folder() / "fashion_mnist"
    for name in tqdm(fashion.SHA256, "fashion_mnist", disable=silent(progress)):
        target = folder / f"{name}.gz"
        if target.exists():
            continue
        partial = target.with_name(f"{target.name}.partial{os.getpid()}")
        try:
            answer = requests.get(f"{source}{target.name}", timeout=30)
            answer.raise_for_status()
            fashion.checked(answer.content, name, str(folder), packed=True)
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(answer.content)
            partial.replace(target)
        except requests.RequestException as error:
            why = f"cannot be downloaded ({_reason(error)})"
            raise _stopped("fashion_mnist", target.name, why) from None
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)
    return folder


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
