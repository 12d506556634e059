"""One file is the same picture through every door: training, checks, distances, latents, prompts and figures."""

import io
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_disk import PLAIN, root, write_image  # noqa: F401 (a fixture)

from filtersub import image_reading
from filtersub.data import check_data, load_data
from filtersub.errors import FiltersubError
from filtersub.generation.captions import captioned_images
from filtersub.generation.pipeline import _pixels as latent_pixels
from filtersub.image_reading import UnreadableImage, decoded_image, image_paths, read_image
from filtersub.metrics import image_folder
from filtersub.plots.generation import _pixels as figure_pixels

COLOUR = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
ALPHA = np.where(np.arange(64).reshape(8, 8) % 3 == 0, 0, 255).astype(np.uint8)
DEEP = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)


def over_white(pixels, alpha):
    """Compositing by its formula (Porter and Duff, 1984): alpha * pixel + (1 - alpha) * white."""
    share = alpha[..., None] / 255
    return np.rint(share * pixels + (1 - share) * 255)


def three(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def scaled(values, full):
    return three(np.floor(values.astype(np.float64) * 255 / full + 0.5))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff_of(values, *, bits=16, white_is_zero=False, sample_format=1):
    """A TIFF written out by hand: one strip of little-endian pixels."""
    data = values.tobytes()
    height, width = values.shape
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, sample_format)]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + struct.pack("<I", 0)


def packed_12_bits(values):
    """Pairs of 12-bit pixels in three bytes each, most significant bits first."""
    pairs = values.reshape(values.shape[0], -1, 2).astype(np.uint32)
    joined = (pairs[..., 0] << 12) | pairs[..., 1]
    return (
        np.stack([joined >> 16, (joined >> 8) & 255, joined & 255], axis=-1).astype(np.uint8).reshape(len(values), -1)
    )


def tiff_of_12_bits(values):
    whole = tiff_of(packed_12_bits(values), bits=12)
    return whole.replace(struct.pack("<HHII", 256, 4, 1, 12), struct.pack("<HHII", 256, 4, 1, 8))


def png_of_16_bit_colour(values):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def plain_pgm(values, largest):
    numbers = "\n".join(" ".join(map(str, row)) for row in values)
    return f"P2\n{values.shape[1]} {values.shape[0]}\n{largest}\n{numbers}\n".encode()


TWELVE = np.linspace(0, 4095, 64).round().astype(np.uint16).reshape(8, 8)
INDEXED = Image.new("P", (8, 8))
INDEXED.putdata((GREY.astype(int) // 4 % 3).reshape(-1).tolist())
INDEXED.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
INDEXED_RGB = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]])[GREY.astype(int) // 4 % 3]
INDEX_ALPHA = np.where(GREY.astype(int) // 4 % 3 == 1, 0, 255)

READ_RIGHT = {
    "8-bit colour": (encoded(Image.fromarray(COLOUR), "PNG"), COLOUR),
    "8-bit grey": (encoded(Image.fromarray(GREY), "BMP"), three(GREY)),
    "1 bit": (encoded(Image.fromarray(GREY > 99), "PNG"), three((GREY > 99) * 255)),
    "16-bit grey PNG": (encoded(Image.fromarray(DEEP), "PNG"), scaled(DEEP, 65535)),
    "16-bit grey TIFF": (tiff_of(DEEP), scaled(DEEP, 65535)),
    "16-bit TIFF, white is zero": (tiff_of(DEEP, white_is_zero=True), scaled(65535 - DEEP, 65535)),
    "16-bit TIFF, big-endian": (encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF"), scaled(DEEP, 65535)),
    "16-bit PGM": (encoded(Image.fromarray(DEEP), "PPM"), scaled(DEEP, 65535)),
    "12-bit PGM": (plain_pgm(TWELVE, 4095), scaled(TWELVE, 4095)),
    "12-bit TIFF": (tiff_of_12_bits(TWELVE), scaled(TWELVE, 4095)),
    "16-bit colour PNG": (png_of_16_bit_colour(three(DEEP)), three(DEEP >> 8)),
    "16-bit grey, one tone transparent": (
        encoded(Image.fromarray(DEEP), "PNG", transparency=int(DEEP[0, 3])),
        scaled(np.where(DEEP[0, 3] == DEEP, 65535, DEEP), 65535),
    ),
    "colour with alpha": (
        encoded(Image.fromarray(np.dstack([COLOUR, ALPHA])), "PNG"),
        over_white(COLOUR, ALPHA),
    ),
    "half transparent": (
        encoded(Image.fromarray(np.dstack([COLOUR, GREY])), "TIFF"),
        over_white(COLOUR, GREY),
    ),
    "grey with alpha": (encoded(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), over_white(three(GREY), ALPHA)),
    "one colour transparent": (
        encoded(Image.fromarray(COLOUR), "PNG", transparency=tuple(map(int, COLOUR[2, 2]))),
        np.where((COLOUR[2, 2] == COLOUR).all(-1, keepdims=True), 255, COLOUR),
    ),
    "palette": (encoded(INDEXED, "GIF"), INDEXED_RGB),
    "palette, one entry transparent": (
        encoded(INDEXED, "PNG", transparency=1),
        over_white(INDEXED_RGB, INDEX_ALPHA),
    ),
    "CMYK": (
        encoded(Image.fromarray(np.dstack([255 - COLOUR, np.zeros((8, 8), np.uint8)]), "CMYK"), "TIFF"),
        COLOUR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ_RIGHT)
def test_modes_and_depths_become_8_bit_colour_by_the_rules(kind):
    file, expected = READ_RIGHT[kind]
    image = decoded_image(file)
    assert image.mode == "RGB"
    # a premultiplied or rounded composite may differ by one step of 255
    assert np.abs(np.asarray(image).astype(float) - expected).max() <= (1 if "transparent" in kind else 0)


REFUSED = {
    "float TIFF": (
        tiff_of(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), bits=32, sample_format=3),
        "floating-point",
    ),
    "32-bit TIFF": (tiff_of(np.arange(64, dtype=np.uint32).reshape(8, 8), bits=32), "32-bit or signed"),
    "signed 16-bit TIFF": (tiff_of(np.arange(64, dtype=np.int16).reshape(8, 8), sample_format=2), "32-bit or signed"),
    "truncated PNG": (encoded(Image.fromarray(COLOUR), "PNG")[:120], "truncated"),
    "truncated JPEG": (encoded(Image.fromarray(np.tile(COLOUR, (8, 8, 1))), "JPEG")[:-900], "truncated"),
    "a page of a login": (b"<html>please log in</html>", "no image"),
    "nothing": (b"", "the file is empty"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_without_guessing_is_refused(kind, tmp_path):
    file, reason = REFUSED[kind]
    with pytest.raises(UnreadableImage, match=reason):
        decoded_image(file)
    (tmp_path / "a.png").write_bytes(file)
    with pytest.raises(FiltersubError, match=rf"a\.png cannot be read as an image: .*{reason}") as refused:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(refused.value)


def test_too_many_pixels_are_refused_by_their_number(monkeypatch):
    monkeypatch.setattr(image_reading, "MOST_PIXELS", 63)
    with pytest.raises(UnreadableImage, match="8 x 8 pixels are more than the 63"):
        decoded_image(READ_RIGHT["palette"][0])
    huge = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    huge[18:26] = struct.pack("<ii", 60_000, 60_000)  # what the header claims
    with pytest.raises(UnreadableImage, match="pixels that are read; make it smaller"):
        decoded_image(bytes(huge))


# how a viewer turns what is stored (Exif 2.3, tag 274), as array operations
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})])
@pytest.mark.parametrize("depth", [8, 16])
def test_photographs_stand_upright(orientation, kind, options, depth):
    stored = COLOUR[:, :6] if depth == 8 else DEEP[:, :6]
    exif = Image.Exif()
    exif[274] = orientation
    file = encoded(Image.fromarray(stored), kind, exif=exif, **options)
    upright = TURNS[orientation](stored if depth == 8 else scaled(stored, 65535))
    assert np.array_equal(np.asarray(decoded_image(file)), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("damage", ["bytes", "orientation 9"])
def test_damaged_exif_data_leaves_a_photograph_as_it_is(damage):
    exif = Image.Exif()
    exif[274] = 9  # the standard has 1 to 8
    written = b"Exif\0\0MM\0*damaged beyond repair" if damage == "bytes" else exif
    file = encoded(Image.fromarray(COLOUR), "PNG", exif=written)
    assert np.array_equal(np.asarray(decoded_image(file)), COLOUR)


LEFT_BEHIND = (
    ".ipynb_checkpoints/1-checkpoint.png",
    "._1.png",
    ".DS_Store",
    "__MACOSX/._1.png",
    "@eaDir/1.png/THUMB.jpg",
)


@pytest.fixture
def littered(root):  # noqa: F811
    """Two classes of ten images, with what desktops and notebooks leave between and inside the classes."""
    folder = root / "pets"
    for number in range(20):
        write_image(folder / "ab"[number % 2] / f"{number:02d}.{('png', 'PNG', 'tif', 'bmp')[number % 4]}", number)
    for place in (folder, folder / "a", folder / "b"):
        for name in LEFT_BEHIND:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "a" / "00.png", place / name)
    return folder


def test_hidden_files_are_no_images_and_no_classes_through_any_door(littered, monkeypatch):
    (littered / "b" / "notes.txt").write_text("hand-held")
    split = load_data(f"folder:{littered}", **PLAIN)
    assert (split.n_classes, len(split.train), len(split.judged), split.duplicates) == (2, 16, 4, ())
    report = check_data(f"folder:{littered}")
    assert (report.complete, report.images, report.classes) == (True, {"train": 20}, 2)
    assert [(found.what, found.examples) for found in report.problems] == [("other file", ("b/notes.txt",))]
    assert len(image_folder(littered)) == len(image_paths(littered)) == 20
    described = captioned_images(littered)
    assert (len(described), described.distinct) == (20, ["a photo of a a", "a photo of a b"])


def test_a_folder_that_is_hidden_itself_holds_images(root):  # noqa: F811
    write_image(root / ".cache" / "a" / "0.png", 1)
    assert len(image_folder(root / ".cache")) == 1


@pytest.mark.parametrize("kind", ["16-bit grey PNG", "grey with alpha", "palette, one entry transparent", "turned"])
def test_every_door_sees_the_same_picture(kind, root):  # noqa: F811
    datasets = pytest.importorskip("datasets")
    if kind == "turned":
        exif = Image.Exif()
        exif[274] = 6
        file, expected = encoded(Image.fromarray(COLOUR), "PNG", exif=exif), np.rot90(COLOUR, -1)
    else:
        file = READ_RIGHT[kind][0]
        expected = np.asarray(decoded_image(file))
    for name in ("a", "b"):
        for index in range(10):
            (root / "set" / name).mkdir(parents=True, exist_ok=True)
            (root / "set" / name / f"{index}.png").write_bytes(file)
    path = root / "set" / "a" / "0.png"
    (root / "list.csv").write_text("path,label\n" + "".join(f"set/{n}/{i}.png,{n}\n" for n in "ab" for i in range(10)))
    rows = {"image": [{"bytes": file, "path": None}] * 20, "label": ["a", "b"] * 10}
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(root / "hub"))
    seen = [np.asarray(load_data(f"{name}", **PLAIN).train[3][0] * 255).round() for name in
            (f"folder:{root / 'set'}", f"csv:{root / 'list.csv'}", f"hf:{root / 'hub'}")]  # fmt: skip
    seen += [next(image_folder(root / "set").batches())[0].numpy(), figure_pixels(path).transpose(2, 0, 1)]
    seen += [np.asarray((latent_pixels(path, 8) + 1) * 127.5).round()]
    for pixels in seen:
        assert np.array_equal(pixels.transpose(1, 2, 0), expected)


def test_photographs_come_through_the_same_door(monkeypatch):
    from filtersub import photographs

    opened = []
    monkeypatch.setattr(photographs, "read_image", lambda path: opened.append(path) or read_image(path))
    for name in photographs.PHOTOGRAPHS:
        assert photographs.load_photograph(name).shape[0] == 3
    assert [path.stem for path in opened] == list(photographs.PHOTOGRAPHS)


def test_a_float_image_stops_loading_with_its_reason_and_its_name(root):  # noqa: F811
    for number in range(20):
        write_image(root / "set" / "ab"[number % 2] / f"{number:02d}.tif", number)
    (root / "set" / "b" / "07.tif").write_bytes(REFUSED["float TIFF"][0])
    with pytest.raises(FiltersubError, match=r"cannot be decoded \(1\): b/07\.tif \(the first: .*floating-point"):
        load_data(f"folder:{root / 'set'}", **PLAIN)
    report = check_data(f"folder:{root / 'set'}")
    assert not report.complete
    assert "floating-point" in report.problems[0].message


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_images_that_train_and_are_judged_on_are_named_by_their_content(root, suffix):  # noqa: F811
    """Whatever the file's format and name; each is there twice, and most held-out ones have a twin in training."""
    for number in range(20):
        write_image(root / "set" / "ab"[number % 2] / f"{number:02d}.png", number)
        write_image(root / "set" / "ab"[number % 2] / f"{number:02d}-copy.{suffix}", number)
    split = load_data(f"folder:{root / 'set'}", **PLAIN)
    names = {part: [images.images.name(i) for i in range(len(images))] for part, images in
             (("train", split.train), ("judged", split.judged))}  # fmt: skip
    twins = {name.replace("-copy", "").rpartition(".")[0] for name in names["train"]}
    expected = [name for name in names["judged"] if name.replace("-copy", "").rpartition(".")[0] in twins]
    assert [found.split(" = ")[0] for found in split.duplicates] == expected
    assert len(expected) >= 4
    assert f"images that are among the training images too ({len(expected)})" in split.duplicates_note
    (repeated,) = [found for found in check_data(f"folder:{root / 'set'}").problems if found.what == "duplicate"]
    assert (repeated.count, repeated.part, repeated.fatal) == (20, "train", False)
    assert "the test images held out of them may repeat training images" in repeated.message


def test_the_record_of_a_run_names_what_is_odd_about_the_images(root):  # noqa: F811
    from filtersub.experiment import TuneSettings, tune

    for number in range(20):
        write_image(root / "set" / "ab"[number % 2] / f"{number:02d}.png", number // 2)
    (root / "set" / "c").mkdir()
    settings = TuneSettings(
        model="test_resnet", pretrained=False, data=f"folder:{root / 'set'}", image_size=32, epochs=1, method="linear"
    )
    record = tune(settings, root / "run", quiet=True)
    assert record.notes["duplicate images"].startswith("test: images that are among the training images too (4): ")
    assert record.notes["data set"].startswith("train: classes without an image (1): c; test: classes without an image")
    assert record.layers_passed_over == {}


def test_cached_statistics_of_images_are_named_by_the_rules_of_reading(root, monkeypatch):  # noqa: F811
    write_image(root / "a.png", 1)
    before = image_folder(root).digest()
    monkeypatch.setattr("filtersub.metrics.images.READING_RULES", 3)
    assert image_folder(root).digest() != before
    assert torch.equal(next(image_folder(root).batches()), next(image_folder(root).batches()))
