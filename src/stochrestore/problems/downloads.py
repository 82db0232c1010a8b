"""Data sets fetched on demand, each file checked against a sha256 that comes with the library."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

from tqdm import tqdm

from stochrestore.errors import InputError, require, silent
from stochrestore.problems import fashion

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


def data_folder() -> Path:
    """Where data sets are kept: ``STOCHRESTORE_DATA``, or the platform's folder for caches."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    import pooch

    return Path(pooch.os_cache("stochrestore"))


def registry(name: str) -> dict[str, str]:
    """The files of a benchmark, ×4 (path → sha256)."""
    require(name in BENCHMARKS, "data set", name, ", ".join(BENCHMARKS))
    text = resources.files("stochrestore.problems").joinpath("selfexsr_x4.json").read_text("utf-8")
    return {path: digest for path, digest in json.loads(text).items() if _set_of(path) == name}


def _set_of(path: str) -> str:
    return path.partition("/")[0].lower()


def fetch(
    name: str, *, source: str = SELFEXSR, folder: Path | None = None, progress: bool = True
) -> Path:
    """Download what is missing of a benchmark; files already there and right are kept.

    Each file is moved to its place only once it is whole and right, so that an interrupted call
    can be repeated.

    Args:
        name: one of :data:`BENCHMARKS`.
        source: address the paths of the registry are relative to.
        folder: default: :func:`data_folder`.

    Returns:
        The benchmark's folder.

    Raises:
        InputError: no network, a file that is not the published one, a folder that cannot be
            written; what arrived is kept.
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
            raise InputError(
                _line(name, path, f"cannot be downloaded ({_reason(error)})")
            ) from None
        except ValueError:
            raise InputError(
                _line(name, path, "what arrived is not the published file (sha256)")
            ) from None
        except OSError as error:
            raise InputError(f"{folder / path} cannot be written: {error.strerror}") from None
    return folder / BENCHMARKS[name]


def fetch_fashion_mnist(
    *, source: str = FASHION_MNIST, folder: Path | None = None, progress: bool = True
) -> Path:
    """Download what is missing of the four official files; those already there are kept.

    Args:
        source: address of the folder they are in.
        folder: default: ``fashion_mnist`` in :func:`data_folder`.

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
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(answer.content)
            fashion.checked(partial.read_bytes(), name, str(folder), packed=True)
            partial.replace(target)
        except requests.RequestException as error:
            what = f"cannot be downloaded ({_reason(error)})"
            raise InputError(_line("fashion_mnist", target.name, what)) from None
        except OSError as error:
            raise InputError(f"{target} cannot be written: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)
    return folder


def _line(name: str, path: str, what: str) -> str:
    return f"{path}: {what}; `stochrestore data fetch {name}` continues where it stopped"


def _reason(error: Exception) -> str:
    """A few words of what requests has to say."""
    response = getattr(error, "response", None)
    return type(error).__name__ if response is None else f"status {response.status_code}"


def local_benchmark(name: str) -> Path:
    """The folder of a benchmark that was fetched.

    Raises:
        InputError: it was not, or not all of it.
    """
    folder = data_folder()
    missing = [path for path in registry(name) if not (folder / path).is_file()]
    if missing:
        raise InputError(
            f"data={name}: {len(missing)} files are not in {folder}, the first {missing[0]}; "
            f"`stochrestore data fetch {name}` gets them"
        )
    return folder / BENCHMARKS[name]
