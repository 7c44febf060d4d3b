"""Downloads, against a server on loopback that cuts, lies and fails."""

import http.server
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.weights import download, hub, naming, released, safetensors


class Server:
    """Answers each request with the next of `answers`, the last one for ever."""

    def __init__(self):
        self.answers, self.ranges = [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.ranges.append(self.headers.get("Range"))
                answer = server.answers[min(len(server.ranges), len(server.answers)) - 1]
                answer(self)

            do_HEAD = do_GET  # the hub's client asks for the headers first

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE", 0.0)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def body(file):
    return file.read_bytes()


def whole(body, tag='"v1"', cut=None, promised=None, more=None):
    """An answer that honours ranges; sends `cut` bytes and then closes the connection."""

    def answer(request):
        wanted, match = request.headers.get("Range"), request.headers.get("If-Range")
        start = int(wanted[6:-1]) if wanted and match == tag else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(promised or len(body) - start))
        for name, value in (({"ETag": tag} if tag else {}) | (more or {})).items():
            request.send_header(name, value)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body[start:cut])

    return answer


def status(code):
    return lambda request: request.send_error(code)


def absent(request):
    request.send_response(404)
    request.send_header("X-Error-Code", "EntryNotFound")  # by which the hub says what is missing
    request.send_header("Content-Length", "0")
    request.end_headers()


def page(request):
    text = b"<!DOCTYPE html><html>Please sign in to this network</html>"
    request.send_response(200)
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    request.wfile.write(text)


def cached(tmp_path):
    """The names in the cache, without the digests of their addresses."""
    files = (p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())
    return [name.partition("-")[2] for name in files if ".lock" not in name]


def test_second_load_needs_no_server(server, body, flat, equal):
    server.answers = [whole(body)]
    for _ in range(2):
        equal(mlp_mixer.load(f"{server.url}/a/small.npz")[1], flat)
    assert len(server.ranges) == 1


def test_cut_connection_is_resumed_where_it_stopped(server, body, flat, equal):
    server.answers = [whole(body, cut=1000), whole(body, cut=3000), whole(body)]
    equal(mlp_mixer.load(f"{server.url}/small.npz")[1], flat)
    assert server.ranges == [None, "bytes=1000-", "bytes=3000-"]


def test_stopped_download_is_resumed_by_the_next_call(server, body, flat, equal, tmp_path):
    server.answers = [whole(body, cut=1000), status(503)]
    with pytest.raises(ConnectionError, match="1000 bytes of it are kept"):
        mlp_mixer.load(f"{server.url}/small.npz")
    assert "small.npz" not in cached(tmp_path)
    server.answers.append(whole(body))
    server.ranges[3:] = []
    equal(mlp_mixer.load(f"{server.url}/small.npz")[1], flat)
    assert server.ranges[-1] == "bytes=1000-"
    assert cached(tmp_path) == ["small.npz"]


@pytest.mark.parametrize("tag", ['"v2"', None])
def test_a_changed_file_is_never_joined_to_the_old_beginning(tag, server, body, flat, equal):
    other = io.BytesIO()
    np.savez(other, **{name: array + 1 for name, array in flat.items()})
    server.answers = [whole(body, tag and '"v1"', cut=1000), whole(other.getvalue(), tag)]
    equal(mlp_mixer.load(f"{server.url}/small.npz")[1], {n: a + 1 for n, a in flat.items()})


def test_server_that_promises_more_than_it_sends_is_refused(server, body, tmp_path):
    server.answers = [whole(body, promised=len(body) + 5, tag=None)]
    with pytest.raises(ConnectionError, match=f"cut at {len(body)} of {len(body) + 5} bytes"):
        mlp_mixer.load(f"{server.url}/small.npz")
    assert "small.npz" not in cached(tmp_path)


@pytest.mark.parametrize("damage", ["short", "flipped", "page"])
def test_unusable_answer_is_an_error_and_is_not_kept(damage, server, body, tmp_path):
    flipped = bytearray(body)
    flipped[len(body) // 3] ^= 4
    server.answers = [
        {"short": whole(body[:-100]), "flipped": whole(bytes(flipped)), "page": page}[damage]
    ]
    with pytest.raises(ValueError, match=f"{server.url}/small.npz does not give usable weights"):
        mlp_mixer.load(f"{server.url}/small.npz")
    assert cached(tmp_path) == []


def test_missing_forbidden_and_busy_servers_say_so(server, body, flat, equal):
    server.answers = [status(404), status(403), status(400), status(503), whole(body)]
    with pytest.raises(FileNotFoundError, match=r"small.npz \(404\)"):
        mlp_mixer.load(f"{server.url}/small.npz")
    with pytest.raises(PermissionError, match="403"):
        mlp_mixer.load(f"{server.url}/small.npz")
    with pytest.raises(OSError, match="400"):
        mlp_mixer.load(f"{server.url}/small.npz")
    equal(mlp_mixer.load(f"{server.url}/small.npz")[1], flat)  # tried again after the 503


def test_two_loads_at_once_download_once(server, body):
    server.answers = [whole(body)]
    threads = [
        threading.Thread(target=mlp_mixer.load, args=(f"{server.url}/small.npz",)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.ranges) == 1


def test_public_gs_objects_are_read_through_https(server, body, flat, equal, monkeypatch):
    monkeypatch.setattr(download, "GCS_ADDRESS", server.url)
    server.answers = [whole(body)]
    equal(mlp_mixer.load("gs://bucket/folder/small.npz")[1], flat)


def test_short_name_gives_the_released_file(server, body, module, monkeypatch):
    monkeypatch.setattr(released, "ADDRESS", server.url)
    name = "sam/Mixer-B_16"
    expected = released.Released(None, module.num_classes, len(body))
    monkeypatch.setitem(released.RELEASED, name, expected)
    server.answers = [whole(body)]
    assert mlp_mixer.load(name)[0] == module
    monkeypatch.setitem(released.RELEASED, name, expected._replace(variant="B/16"))
    with pytest.raises(ValueError, match="is a None with 3 classes, not a B/16 with 3"):
        mlp_mixer.load(name)


def test_short_name_with_a_file_of_another_size_is_refused(server, body, monkeypatch, tmp_path):
    monkeypatch.setattr(released, "ADDRESS", server.url)
    server.answers = [whole(body)]
    with pytest.raises(ValueError, match=r"has .* bytes, but the released file has 239564448"):
        mlp_mixer.load("imagenet1k/Mixer-B_16")
    assert cached(tmp_path) == []


def test_sizes_of_released_files_add_up_to_the_buckets_listing():
    # 6 bytes are those of an empty folder's marker.
    assert sum(r.size for r in released.RELEASED.values()) + 6 == 3_489_219_014


def test_pickles_are_refused_before_they_are_downloaded(server):
    with pytest.raises(ValueError, match="weights_only=True"):
        mlp_mixer.load(f"{server.url}/mixer.pth?download=true")
    assert server.ranges == []


def test_no_two_addresses_have_the_same_place_in_the_cache():
    urls = [
        "https://host/x.npz", "http://host/x.npz", "gs://host/x.npz", "https://HOST/x.npz",
        "https://host/X.npz", "https://host:80/x.npz", "https://host_80/x.npz",
        "https://host/x.npz?v=1", "https://host/x.npz?v=2", "https://host/x.npz?V=1",
        "https://host/x%20y.npz", "https://host/x_20y.npz", "https://host/x+y.npz",
        "https://host/a/../x.npz", "https://host/a/x.npz", "https://host//x.npz", "https://host/a",
        "https://host/x.npz/", "https://host/" + "x" * 300 + "1.npz",
        "https://host/" + "x" * 300 + "2.npz",
    ]  # fmt: skip
    places = [download._cached(url) for url in urls]
    assert len({str(place).lower() for place in places}) == len(urls)
    assert len({place.parent for place in places} & set(places)) == 0  # no file where a folder is
    assert all(len(place.name) < 200 for place in places)


def test_what_differs_in_one_character_is_downloaded_by_itself(server, body, params, tmp_path):
    other = io.BytesIO(body)
    arrays = {name: array + 1 for name, array in np.load(other).items()}
    np.savez(other := io.BytesIO(), **arrays)
    server.answers = [whole(body), whole(other.getvalue())]
    bias = params["stem"]["bias"]
    for _ in range(2):  # the second time from the cache
        for name, want in (("m+v.npz", bias), ("m_v.npz", bias + 1)):
            loaded = mlp_mixer.load(f"{server.url}/{name}")[1]
            np.testing.assert_array_equal(loaded["stem"]["bias"], want)
    assert len(server.ranges) == 2


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://example.org/a/small.npz", "example.org/a/small.npz"),
        ("gs://bucket/small.npz", "bucket/small.npz"),
        (released.address("sam/B"), "storage.googleapis.com/mixer_models/sam/B.npz"),
        ("https://example.org/a_b.npz", None),  # where a+b.npz may have been, too
        ("http://example.org/a/small.npz", None),
        ("https://example.org/a/../small.npz", None),
        ("https://example.org/small.npz?v=1", None),
    ],
)  # fmt: skip
def test_files_kept_by_e108a84_are_found_where_unambiguous(url, place, server, tmp_path):
    before = download._cached_before(url)
    assert before == (place and tmp_path / "cache" / place)
    if place:
        before.parent.mkdir(parents=True)
        before.write_bytes(b"as it was")
        assert download.fetch(url, check=None) == before


def test_addresses_cannot_leave_the_cache_folder(server, tmp_path):
    for url in ("https://host/../../../x.npz", "https://../x.npz", "https://h/%2e%2e/x.npz?a/../b"):
        assert Path(tmp_path / "cache") in download._cached(url).resolve().parents


def test_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="pip install huggingface_hub"):
        mlp_mixer.load("hf:timm/mixer_b16_224.goog_in21k")


@pytest.mark.parametrize(("tag", "gelu"), [("goog_in21k", "tanh"), ("miil_in21k", "exact")])
def test_hub_models_get_the_gelu_they_were_trained_with(tag, gelu, flat, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    safetensors.write(path, naming.to_layout(flat, "timm"))
    monkeypatch.setattr(hub, "fetch", lambda repository: path)
    assert mlp_mixer.load(f"hf:timm/mixer_b16_224.{tag}")[0].gelu == gelu


@pytest.mark.slow
def test_hub_models_are_read_by_name_through_huggingface_hub(server, flat, tmp_path):
    pytest.importorskip("huggingface_hub")
    path = tmp_path / "model.safetensors"
    safetensors.write(path, naming.to_layout(flat, "timm"))
    found = whole(path.read_bytes(), more={"X-Repo-Commit": "0" * 40})
    server.answers = [lambda request: (absent if "nothing" in request.path else found)(request)]
    script = """if True:
        import mlp_mixer
        print(mlp_mixer.load('hf:timm/mixer_b16_224.goog_in21k')[0].gelu, flush=True)
        mlp_mixer.load('hf:timm/nothing')
    """
    environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "tanh\n", result.stderr
    assert "FileNotFoundError: hf:timm/nothing has no model.safetensors" in result.stderr
