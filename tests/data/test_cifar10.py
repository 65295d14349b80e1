"""CIFAR-10 whose files are missing or damaged: one sentence, soon, with or without a network.

Reading the real files is not tested here: torchvision accepts nothing but the 170 MB original.
The tests send every request to a closed or silent port of this machine, so none leaves it.
"""

from __future__ import annotations

import socket
import time

import pytest

from tinynas.data.cifar10 import ARCHIVE, FOLDER, URL, _unreachable, open_cifar10
from tinynas.errors import DataError

FILES = ["batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))]


def send_requests_to(monkeypatch, port):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")


@pytest.fixture
def no_network(monkeypatch):
    with socket.socket() as bound_but_not_listening:
        bound_but_not_listening.bind(("127.0.0.1", 0))
        send_requests_to(monkeypatch, bound_but_not_listening.getsockname()[1])
        yield


def test_missing_files_without_a_network_are_one_sentence(no_network, tmp_path):
    folder = tmp_path / "cifar"
    with pytest.raises(DataError) as error:
        open_cifar10(folder, None)
    message = str(error.value)
    assert message.startswith(f"CIFAR-10 is not in {folder} and could not be downloaded ([Errno")
    assert message.endswith(
        f"Connection refused): put {ARCHIVE} from {URL} there, or the folder {FOLDER} unpacked "
        "from it"
    )
    assert not folder.exists()


def test_a_broken_archive_without_a_network_is_one_sentence(no_network, tmp_path):
    (tmp_path / ARCHIVE).write_bytes(b"half of it")
    limit_before = socket.getdefaulttimeout()
    with pytest.raises(DataError, match="could not be downloaded .*refused.*: put cifar-10"):
        open_cifar10(tmp_path, None)
    assert socket.getdefaulttimeout() == limit_before


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        send_requests_to(monkeypatch, silent.getsockname()[1])
        start = time.monotonic()
        assert _unreachable(URL, 0.2) is not None
        assert time.monotonic() - start < 5


def test_damaged_files_are_one_sentence(tmp_path):
    (tmp_path / FOLDER).mkdir()
    for name in FILES:
        (tmp_path / FOLDER / name).write_bytes(b"not the original")
    source = open_cifar10(tmp_path, None)
    with pytest.raises(DataError, match=r"are damaged or cannot be read .*: delete that folder"):
        source.load(32)


def test_what_is_known_before_reading(tmp_path):
    (tmp_path / FOLDER).mkdir()
    for name in FILES:
        (tmp_path / FOLDER / name).touch()
    info = open_cifar10(tmp_path / FOLDER, None).info
    assert (info.train_count, info.val_count, info.test_count) == (40_000, 10_000, 10_000)
    assert (len(info.labels), info.channels, info.native_size) == (10, 3, 32)
