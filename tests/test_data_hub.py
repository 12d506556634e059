"""Data sets of the Hugging Face library, from disk: what it saved, or a folder of Parquet files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_data_disk import PLAIN, labels_of, root, write_image  # noqa: F401 (a fixture)

from filtersub.data import load_data, n_classes
from filtersub.errors import FiltersubError


@pytest.fixture
def rows(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    images = []
    for index in range(6):
        write_image(tmp_path / "made" / f"{index}.png", index)
        images.append({"bytes": (tmp_path / "made" / f"{index}.png").read_bytes(), "path": None})
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=["jay", "owl"])})
    return datasets.Dataset.from_dict({"picture": images, "label": [0, 1] * 3}, features=features)


def test_a_saved_hugging_face_set(root, rows):  # noqa: F811
    datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    parts = {"train": rows.select(range(4)), "test": rows.select([4, 5])}
    datasets.DatasetDict(parts).save_to_disk(root / "birds")
    split = load_data("hf:birds", **PLAIN)
    assert (labels_of(split.train), labels_of(split.judged), n_classes("hf:birds")) == ([0, 1, 0, 1], [0, 1], 2)
    with Image.open(root / "made" / "4.png") as file:
        expected = np.asarray(file.resize((8, 8), Image.Resampling.BICUBIC)).copy()
    torch.testing.assert_close(split.judged[0][0], torch.from_numpy(expected).permute(2, 0, 1) / 255)
    with pytest.raises(FiltersubError, match="has no column 'species'; it has picture, label"):
        load_data("hf:birds?label=species")


def test_a_folder_of_parquet_files(root, rows, monkeypatch):  # noqa: F811
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
    (root / "birds").mkdir()
    rows.to_parquet(root / "birds" / "train-00000-of-00001.parquet")
    split = load_data("hf:birds", **PLAIN)  # three of each class: one of them is held out
    assert (len(split.train), sorted(labels_of(split.judged))) == (4, [0, 1])


@pytest.mark.parametrize("typed", [True, False])
def test_a_row_of_a_hugging_face_set_names_no_file_outside(root, monkeypatch, typed):  # noqa: F811
    datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
    write_image(root / "secret.png", 0)
    write_image(root / "birds" / "own.png", 0)
    table = pa.table(
        {"image": [{"bytes": None, "path": name} for name in (str(root / "secret.png"), "own.png")], "label": [0, 1]},
        schema=pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()}),
    )
    if typed:  # the library then knows an image, and would open the path by itself
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        table = table.replace_schema_metadata(features.arrow_schema.metadata)
    for part in ("train", "test"):
        pq.write_table(table, root / "birds" / f"{part}.parquet")
    with pytest.raises(FiltersubError, match=r"images that cannot be decoded \(1\): train row 0"):
        load_data("hf:birds", **PLAIN)
