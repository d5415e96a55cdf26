"""Corpora with a name that are fetched: from whom, into which folder, and what is said where that fails."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import DATA, corpus
from elman.cli import main
from elman.errors import InputError
from elman.text.corpora import DOWNLOADS
from elman.text.sources import open_again, open_corpus, open_text

CONTENT = "First Citizen:\nBefore we proceed any further, hear me speak.\n" * 20
SHA256 = hashlib.sha256(CONTENT.encode()).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers each request with ``status`` and ``body``, and counts them."""

    status, body, requests = 200, CONTENT.encode(), 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(CONTENT.encode())))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


def give(monkeypatch, url: str) -> None:
    """Let tiny-shakespeare be CONTENT, and fetched from this address."""
    corpus = dataclasses.replace(DOWNLOADS["tiny-shakespeare"], url=url, sha256=SHA256)
    monkeypatch.setitem(DOWNLOADS, "tiny-shakespeare", corpus)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The cache folder, which is not there yet."""
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ELMAN_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        give(monkeypatch, f"http://127.0.0.1:{server.server_port}/data/input.txt")
        yield server
        server.shutdown()


@pytest.fixture
def offline(monkeypatch) -> str:
    """The corpus is to be fetched from a port where nobody answers -> its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/data/input.txt"
    give(monkeypatch, url)
    return url


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """The folder of ELMAN_DATA_DIR, empty."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ELMAN_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def refusal(name: str = "tiny-shakespeare") -> str:
    with pytest.raises(InputError) as caught:
        open_text([name])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def held(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_corpus_is_fetched_once_and_kept(server, cache, capfd):
    text = open_text(["tiny-shakespeare"], encoding="utf-16-le")
    assert (text.read(), text.name, text.origin) == (CONTENT, "tiny-shakespeare", ("tiny-shakespeare",))
    assert (text.sha256, text.notes, text.encodings) == (SHA256, (), ("utf-8",))
    assert held(cache) == ["tiny-shakespeare.txt"]
    server.status = 404
    assert open_corpus("tiny-shakespeare").sha256 == open_again(text.origin).sha256 == SHA256
    assert server.requests == 1 and capfd.readouterr() == ("", "")


def test_a_kept_file_that_was_damaged_is_fetched_again(server, cache):
    cache.mkdir()
    (cache / "tiny-shakespeare.txt").write_text("damaged")
    assert open_corpus("tiny-shakespeare").read() == CONTENT and server.requests == 1


def test_a_download_with_a_wrong_digest_is_refused_and_not_kept(server, cache, tmp_path, capsys):
    server.body = CONTENT.upper().encode()
    url = DOWNLOADS["tiny-shakespeare"].url
    said = (
        f"cannot fetch the corpus tiny-shakespeare from {url}: what came has another SHA-256 than {SHA256}; "
        f"get input.txt from there by other means and put it in {cache} as tiny-shakespeare.txt "
        "(or in a folder that you name with ELMAN_DATA_DIR)"
    )
    assert refusal() == said and held(cache) == []
    assert main(["train", "tiny-shakespeare", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr() == ("", f"elman: error: {said}\n")
    assert held(cache) == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("status", "body", "reason"), [(404, CONTENT, "HTTP status 404"), (200, "", "no connection")])
def test_a_server_that_fails_is_named_with_what_to_do(server, cache, status, body, reason):
    server.status, server.body = status, body.encode()
    message = refusal()
    assert message.startswith(f"cannot fetch the corpus tiny-shakespeare from {DOWNLOADS['tiny-shakespeare'].url}: ")
    assert f": {reason}; get input.txt from there" in message and held(cache) == []


def test_offline_the_error_says_which_file_to_put_where(offline, cache, tmp_path, monkeypatch, capsys):
    said = (
        f"cannot fetch the corpus tiny-shakespeare from {offline}: no connection; get input.txt from there by other "
        f"means and put it in {cache} as tiny-shakespeare.txt "
        "(or in a folder that you name with ELMAN_DATA_DIR)"
    )
    assert refusal() == said and held(cache) == []
    assert main(["train", "tiny-shakespeare"]) == 2
    assert capsys.readouterr() == ("", f"elman: error: {said}\n")
    monkeypatch.setenv("ELMAN_DATA_DIR", str(tmp_path / "mine"))
    assert refusal().endswith(f"put it in {tmp_path / 'mine'} as tiny-shakespeare.txt")
    (cache / "tiny-shakespeare.txt").write_text(CONTENT)
    assert open_corpus("tiny-shakespeare").read() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(server, cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ELMAN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    message = refusal()
    assert message.startswith(f"cannot keep the corpus tiny-shakespeare in {tmp_path / 'file' / 'cache'}: ")
    assert message.endswith("; name a folder that can be written with ELMAN_CACHE_DIR")


@pytest.mark.parametrize("name", ["tiny-shakespeare.txt", "tinyshakespeare.txt", "input.txt"])
def test_the_data_folder_is_looked_in_first(offline, data, cache, name):
    (data / name).write_text(CONTENT)
    assert open_corpus("tiny-shakespeare").read() == CONTENT and not cache.exists()


@pytest.mark.parametrize("name", ["tiny-shakespeare.txt", "tinyshakespeare.txt"])
def test_another_file_of_that_name_in_the_data_folder_is_refused(server, data, cache, name, capsys):
    (data / name).write_text("mine")
    found = hashlib.sha256(b"mine").hexdigest()
    said = (
        f"{data / name} is not the corpus tiny-shakespeare: its SHA-256 is {found} instead of {SHA256}; "
        f"put the file from {DOWNLOADS['tiny-shakespeare'].url} there, or remove it"
    )
    assert refusal() == said and server.requests == 0 and not cache.exists()
    assert main(["train", "tiny-shakespeare"]) == 2
    assert capsys.readouterr() == ("", f"elman: error: {said}\n")


def test_a_file_that_only_happens_to_have_the_name_of_the_address_is_passed_over(server, data):
    (data / "input.txt").write_text("mine")
    assert open_corpus("tiny-shakespeare").read() == CONTENT and server.requests == 1


@pytest.mark.parametrize(
    ("name", "file", "characters"),
    [("tiny-shakespeare", "tinyshakespeare.txt", 1_115_394), ("names", "names.txt", 228_145)],
)
def test_the_digests_are_those_of_the_files(monkeypatch, name, file, characters):
    corpus(file)
    monkeypatch.setenv("ELMAN_DATA_DIR", str(DATA))
    text = open_corpus(name)
    assert (text.characters, text.sha256) == (characters, DOWNLOADS[name].sha256)
