"""Nothing wrong gets in: a bad file is one ValueError that names it, soon and in little memory."""

import io
import pickle
import shutil
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.weights import naming, npz, safetensors

KERNEL = "MixerBlock_0/token_mixing/Dense_0/kernel"


@pytest.fixture
def refused(tmp_path):
    """Loads a file of these bytes, expecting a ValueError that names the file and matches."""

    load = mlp_mixer.load  # its module is imported now, and not on the clock

    def check(content: bytes, match: str, name: str = "bad.npz") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        tracemalloc.start()
        begin = time.perf_counter()
        with pytest.raises(ValueError, match=match) as caught:
            load(path)
        seconds, (_, peak) = time.perf_counter() - begin, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert name in str(caught.value)
        assert seconds < 2
        assert peak < 20e6
        return str(caught.value)

    return check


def archive(arrays, **options) -> bytes:
    """An .npz file; arrays may be bytes, which go in as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as file:
        for name, array in arrays.items():
            member = io.BytesIO()
            if isinstance(array, bytes):
                member.write(array)
            else:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=True)
            file.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def header(shape, dtype="<f4") -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
        (b"hello, world", "begins with b'hello, world'"),
        (pickle.dumps({"stem/kernel": [1.0]}), "is a PyTorch pickle.*weights_only=True"),
        (b"\x93NUMPY\x01\x00" + bytes(60), "a single .npy array"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "its end is missing; was it cut off"),
    ],
)
def test_other_kinds_of_file_are_named(content, match, refused):
    refused(content, match)


def test_truncated_files_are_refused_at_every_length(file, refused):
    content = file.read_bytes()
    for length in range(100, len(content) - 1, 997):
        refused(content[:length], "was it cut off|is not where it should be")


def test_one_flipped_bit_in_the_numbers_is_found_with_its_array(file, refused):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as members:
        member = members.getinfo(f"{KERNEL}.npy")
    content[member.header_offset + 300] ^= 1
    refused(bytes(content), f"cannot read {KERNEL}")


def test_pickled_object_arrays_are_never_unpickled(flat, refused):
    class Bomb:
        def __reduce__(self):
            return pytest.exit, ("a pickle was executed",)

    objects = np.array([Bomb()], dtype=object)
    refused(archive(flat | {"head/bias": objects}), "head/bias .*holds Python objects")


@pytest.mark.parametrize("member", ["archive/data.pkl", "readme.txt"])
def test_zip_archives_of_other_things_are_named(member, refused):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(member, b"x")
    refused(buffer.getvalue(), "PyTorch pickle" if "pkl" in member else "a zip archive with readme")


def test_zip_bombs_are_refused_before_they_grow(flat, refused):
    huge = flat | {"head/kernel": np.zeros((8, 4_000_000), np.float32)}  # 128 MB of zeros
    refused(archive(huge, compression=zipfile.ZIP_DEFLATED), "zip bomb")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(compression, flat, refused):
    refused(archive(flat, compression=compression), "numpy does not write")


def test_headers_cannot_promise_more_than_their_member_holds(flat, refused):
    for shape in ((8, 10**9), (10**30, 8), (8, -3), (2**63, 2**63, 0)):
        lying = flat | {"head/kernel": header(shape) + bytes(96)}
        refused(archive(lying), "cannot read head/kernel")
    refused(archive(flat | {"head/kernel": header((8, 3))}), "needs .* bytes, it has")
    refused(archive(flat | {"head/kernel": b"not an array"}), "cannot read head/kernel")


def test_endless_tables_of_contents_are_refused(refused, monkeypatch):
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as file:
        for i in range(14_000):
            file.writestr(f"MixerBlock_{i}/LayerNorm_0/scale.npy", b"")
    refused(many.getvalue(), "more than any Mixer needs")
    monkeypatch.setattr(safetensors, "HEADER_LIMIT", 1 << 20)
    table = b"{" + b" " * (2 << 20)
    refused(struct.pack("<Q", len(table)) + table, "a table of", "bad.safetensors")


def test_entries_missing_from_the_table_of_contents_are_noticed(file, refused):
    content = bytearray(file.read_bytes())
    entry = content.rfind(b"PK\x01\x02", 0, content.rfind(b"PK\x01\x02"))
    length = content.rfind(b"PK\x05\x06") - content.rfind(b"PK\x01\x02")
    content[entry + 32 : entry + 34] = struct.pack("<H", length)  # a comment as long as the next
    refused(bytes(content), "entries, but should have")


def test_missing_extra_and_misshapen_arrays_are_all_named(flat, refused):
    wrong = {name: array for name, array in flat.items() if name != "stem/bias"}
    wrong |= {"pos_embed": np.zeros(3, np.float32), "head/bias": np.zeros(4, np.float32)}
    message = refused(archive(wrong), "is not a whole Mixer")
    assert "stem/bias: has nothing, wanted (8,)" in message
    assert "pos_embed: has (3,), wanted nothing" in message
    assert "head/bias: has (4,), wanted (3,)" in message


def test_arrays_that_appear_twice_or_under_two_names_are_refused(flat, refused):
    with pytest.warns(UserWarning, match="Duplicate"):
        content = archive(flat)
        buffer = io.BytesIO(content)
        with zipfile.ZipFile(buffer, "a") as file:
            file.writestr("stem/bias.npy", b"")
    refused(buffer.getvalue(), "more than once")
    old = naming.to_layout(flat, "pre-linen")
    refused(archive(old | {"stem/bias": flat["stem/bias"]}), "are both stem/bias")


def test_integers_are_no_weights(flat, refused):
    refused(archive(flat | {"stem/bias": np.arange(8)}), "stem/bias holds int64")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_and_counted(value, flat, refused):
    flat["head/bias"][1:] = value
    flat[KERNEL][0, 0] = value
    message = refused(archive(flat), "NaN or infinite")
    assert "head/bias: 2 of 3 numbers" in message
    assert f"{KERNEL}: 1 of 24 numbers" in message
    refused(archive({n: a.astype("f8") * 1e300 for n, a in flat.items()}), "NaN or infinite")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Transformer/encoderblock_0/LayerNorm_0/scale", "Vision Transformer"),
        ("resnet/root_block/standardized_conv2d/kernel", "Big Transfer"),
        ("blocks.0.attn.qkv.weight", "PyTorch Vision Transformer"),
        ("layer1.0.conv1.weight", "a ResNet"),
        ("weird/name", "it has weird/name"),
    ],
)
def test_other_models_are_named(name, what, refused):
    refused(archive({name: np.zeros(3, np.float32)}), f"is not a Mixer.*{what}")


def test_a_wrong_variant_or_head_for_a_given_module_is_refused(file, module):
    assert mlp_mixer.load(file, like=module)[0] == module
    with pytest.raises(ValueError, match=r"small.npz does not fit[^$]*head/kernel: has \(8, 3\)"):
        mlp_mixer.load(file, like=module.clone(num_classes=10))
    with pytest.raises(ValueError, match=r"small.npz does not fit[^$]*MixerBlock_2"):
        mlp_mixer.load(file, like=module.clone(num_blocks=3))


def test_safetensors_tables_are_checked(flat, refused, tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.write(path, naming.to_layout(flat, "timm"))
    content, name = path.read_bytes(), "bad.safetensors"
    refused(content[:-1], "was it cut off", name)
    refused(content[: len(content) // 3], "a table of .* bytes in a file of", name)
    refused(content + b"x", "do not fill", name)
    flipped = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    refused(flipped, "checksum of", name)
    refused(content.replace(b'"dtype": "F32"', b'"dtype": "F31"', 1), "the dtype 'F31'", name)
    for entry in ({"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}, [], {}, 7):
        table = repr({"stem.proj.weight": entry}).replace("'", '"').encode()
        refused(struct.pack("<Q", len(table)) + table + bytes(4), "damaged", name)


def test_damaged_settings_are_noticed(module, params, refused, tmp_path):
    mlp_mixer.save(tmp_path / "x.npz", module.clone(image_size=(2, 8)), params)
    content = (tmp_path / "x.npz").read_bytes()
    refused(content.replace(b"[2, 8]", b"[8, 2]"), "does not fit its checksum")


def test_crc_of_a_stored_array_is_that_of_zlib(file):
    reader = npz.Reader(file)
    with zipfile.ZipFile(file) as members:
        data = members.read(f"{KERNEL}.npy")
    assert zlib.crc32(data) == members.getinfo(f"{KERNEL}.npy").CRC
    np.testing.assert_array_equal(reader.read(KERNEL).tobytes(), data[-4 * 24 :])
    reader.close()


def test_a_folder_or_a_missing_file_says_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match="neither the workdir of a training run"):
        mlp_mixer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="imagenet21k/Mixer-B_16"):
        mlp_mixer.load(tmp_path / "nothing.npz")


def test_the_folder_of_a_sweep_points_to_its_last_run(tmp_path):
    run = tmp_path / "sweep" / "lr_0.01"
    run.mkdir(parents=True)
    with pytest.raises(ValueError, match="neither the workdir of a training run"):
        mlp_mixer.load(run.parent)  # not a run's folder yet
    (run / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"sweep/full, .*once the sweep has come to it$"):
        mlp_mixer.load(run.parent)
    shutil.rmtree(run)
    (tmp_path / "sweep" / "full").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is the folder of a sweep.*sweep/full, .* images$"):
        mlp_mixer.load(tmp_path / "sweep")


def test_command_line_gives_one_line_and_no_traceback(file, command):
    file.write_bytes(file.read_bytes()[:-300])
    told = command("inspect", file)
    assert told.status == 1 and not told.out
    assert f"error: {file} is damaged" in told.err and "Traceback" not in told.err


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed, safetensors.write])
def test_weights_are_not_damaged_for_want_of_memory(write, flat, tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    if write is safetensors.write:
        path = tmp_path / "x.safetensors"
        write(path, naming.to_layout(flat, "timm"))
        reader, name = safetensors.Reader(path), "head.bias"
    else:
        path = tmp_path / "x.npz"
        write(path, **flat)
        reader, name = npz.Reader(path), "head/bias"
    monkeypatch.setattr(np, "empty", full)
    monkeypatch.setattr(np.lib.format, "read_array", full)
    with pytest.raises(OSError, match=rf"not enough memory for {name} of .*{path.name}"):
        reader.read(name)
    reader.close()
