"""Networks of others: a small one that the test makes, run from ONNX, and evaluated beside model and baseline."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from small_city import SmallCity, build, use_exact_index
from tinytown import Town, make_town

from streetrecall import cli, tables
from streetrecall.errors import UserError
from streetrecall.params import schema
from streetrecall.params.schema import NetworkFile, Params
from streetrecall.pictures.shards import ShardReader
from streetrecall.retrieval.others import OtherNetwork
from streetrecall.review.summary import summary
from streetrecall.stages import networks

MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def write_network(path: Path, size: int = 32, colours_first: bool = True, batch: int | str = "n") -> np.ndarray:
    """A network that averages the picture in 4 x 4 fields and multiplies them by a matrix, which is returned."""
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3 * 16, 24)).astype(np.float32)
    shape = [batch, 3, size, size] if colours_first else [batch, size, size, 3]
    nodes = [] if colours_first else [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
    side = size // 4
    nodes += [
        helper.make_node(
            "AveragePool", ["x" if colours_first else "t"], ["p"], kernel_shape=[side, side], strides=[side, side]
        ),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 24])], [numpy_helper.from_array(matrix, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return matrix


def settings(name: str = "small", file: str = "small.onnx", size: int = 32) -> NetworkFile:
    return NetworkFile(name=name, file=file, size=size, mean=MEAN, deviation=DEVIATION)


def describe(params: Params, city: SmallCity, town: Town, files: Path) -> None:
    networks.run(params.baseline.networks, files, 1, city.crops, town.views, town.photos, city.networks)


def test_without_networks_no_picture_is_read_and_the_result_is_empty(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    (tmp_path / "out/of-an-earlier-run").mkdir(parents=True)
    networks.run([], nowhere, 1, nowhere, nowhere, nowhere, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [networks.FACTS]
    assert json.loads((tmp_path / "out" / networks.FACTS).read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize("colours_first", [True, False])
@pytest.mark.parametrize("batch", ["n", 1])
def test_descriptors_are_those_of_the_network(tmp_path: Path, colours_first: bool, batch: int | str) -> None:
    matrix = write_network(tmp_path / "small.onnx", colours_first=colours_first, batch=batch)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    found = OtherNetwork(settings(), tmp_path, 1).describe(pictures)
    normal = (pictures / 255.0 - MEAN) / DEVIATION
    fields = normal.reshape(5, 4, 8, 4, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(5, -1)
    wanted = fields @ matrix
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_it_is_one_more_system_of_the_evaluation(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_exact_index(monkeypatch)
    city = build(tmp_path, places=12)
    write_network(tmp_path / "networks/small.onnx")
    quick = params.evaluate.model_copy(update={"bootstrap_draws": 100})
    beside = params.baseline.model_copy(update={"networks": [settings()]})
    mine = params.model_copy(update={"baseline": beside, "evaluate": quick})
    town = make_town(tmp_path / "town")
    describe(mine, city, town, tmp_path / "networks")
    folder = city.networks / "small"
    described = np.load(folder / "descriptors.npy")
    rows = tables.read(tables.DESCRIPTORS, folder / "rows.parquet")
    assert described.shape == (len(rows), 24) and rows["image_id"].tolist() == city.rows()["image_id"].tolist()
    # The pictures of a place and direction are of one colour, which this network sees: it finds nearly all.
    for system in (*city.systems.values(), folder):
        tables.write(tables.DESCRIPTORS, rows, system / "rows.parquet")
    metrics = city.evaluate(mine)
    assert set(metrics) == {"model", "baseline", "sift_vlad", "small", "index"}
    section, model = metrics["small"]["test"]["newest_vs_older"], metrics["model"]["test"]["newest_vs_older"]
    assert (section["queries"], section["gallery"]) == (model["queries"], model["gallery"])
    assert section["recall_at_1_25m"] > 0.9 and "recall_at_1_25m_ci_low" in section
    assert "small (baseline.networks), R@1 of test: newest against older" in summary(metrics, tmp_path)
    results = str(tmp_path / "data/results/queries.parquet")
    project_params = str(Path(__file__).parents[2] / "params.yaml")
    command = ["compare", "--params", project_params, "--results", results, "--against"]
    assert cli.main([*command, "small", "--system", "small"]) == 0
    assert "no difference" in capsys.readouterr().out
    assert cli.main([*command, "small"]) == 0
    said = capsys.readouterr().out
    assert "model is" in said and "newest_vs_older" in said
    assert cli.main([*command, "other"]) == 2
    assert "there are baseline, model, sift_vlad, small" in capsys.readouterr().err


def test_it_answers_photos_as_the_model_does(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is given the network's own descriptors, so both have the same numbers."""
    use_exact_index(monkeypatch)
    city, town = build(tmp_path, places=6), make_town(tmp_path / "town")
    write_network(tmp_path / "networks/small.onnx")
    asking = params.evaluate.photos
    asking = asking.model_copy(update={"rerank": asking.rerank.model_copy(update={"places": 0})})
    mine = params.model_copy(
        update={
            "baseline": params.baseline.model_copy(update={"networks": [settings()]}),
            "evaluate": params.evaluate.model_copy(update={"bootstrap_draws": 100, "photos": asking}),
        }
    )
    describe(mine, city, town, tmp_path / "networks")
    folder = city.networks / "small"
    tables.write(tables.DESCRIPTORS, city.rows(), folder / "rows.parquet")
    facts = json.loads((city.networks / networks.FACTS).read_text(encoding="utf-8"))
    assert facts == {"small": {"pictures": 96, "views": 12 * 2 * 12, "photos": 12, "dimensions": 24}}
    photos, found = tables.read(tables.PHOTOS, folder / "photos.parquet"), np.load(folder / "photos.npy")
    assert len(photos) == len(found) > 0
    with ShardReader(town.photos) as reader:
        picture = Image.open(
            io.BytesIO(reader.read(photos["shard"][0], int(photos["offset"][0]), int(photos["size"][0])))
        )
    side, (width, height) = min(picture.size), picture.size
    middle = picture.crop(((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    pixels = np.asarray(middle.resize((32, 32), Image.Resampling.BICUBIC))
    wanted = OtherNetwork(settings(), tmp_path / "networks", 1).describe(pixels[None])[0]
    assert found[0] @ wanted > 0.999
    for name in ("photos", "views"):
        for suffix in ("parquet", "npy"):
            for system in (city.index, city.sift_vlad):
                shutil.copyfile(folder / f"{name}.{suffix}", system / f"{name}.{suffix}")
    np.save(city.index / "photos.npy", found[::-1])
    other = city.evaluate(mine)
    assert other["small"]["test"]["photos"] != other["model"]["test"]["photos"]
    np.save(city.index / "photos.npy", found)
    metrics = city.evaluate(mine)
    assert metrics["small"] == other["small"], "the model's descriptors do not count"
    for split in ("validation", "test"):
        for protocol in ("photos", "photos_three"):
            assert metrics["small"][split][protocol] == metrics["model"][split][protocol]
        counted = metrics["small"][split]["photos"]
        assert (counted["queries"], counted["gallery"]) == (6, 12 * 2 * 12)
    headline = json.loads((tmp_path / "metrics/headline.json").read_text(encoding="utf-8"))
    assert headline["small"]["test_photos_r1"] == headline["model"]["test_photos_r1"]
    assert "photos" in summary(metrics, tmp_path).partition("small (baseline.networks)")[2].partition("\n")[0]

    tables.write(tables.PHOTOS, photos.iloc[1:], folder / "photos.parquet")
    np.save(folder / "photos.npy", found[1:])
    with pytest.raises(UserError, match="describe different photos; run the stages networks and index again"):
        city.evaluate(mine)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("none.onnx", None, "there is no such file"),
        ("a.onnx", b"no network", "not a network that can be read"),
        ("a.pt", b"", "neither .onnx nor .tflite"),
    ],
)
def test_a_file_that_is_no_network_is_an_error(file: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        OtherNetwork(settings(file=file), tmp_path, 1)


def test_a_network_of_another_size_says_so(tmp_path: Path) -> None:
    write_network(tmp_path / "small.onnx", size=32)
    network = OtherNetwork(settings(size=40), tmp_path, 1)
    with pytest.raises(UserError, match="cannot describe pictures of 40 pixels"):
        network.describe(np.zeros((1, 40, 40, 3), np.uint8))


def test_names_and_numbers_of_networks_are_checked(params: Params) -> None:
    raw = params.model_dump(mode="json")
    one = {"name": "small", "file": "a.onnx", "size": 32, "mean": MEAN, "deviation": DEVIATION}
    for change, message in (
        ([one, one], "two networks have the same name"),
        ([one | {"name": "model"}], "take another name"),
        ([one | {"deviation": [0.0, 1.0, 1.0]}], "larger than 0"),
        ([one | {"file": "../a.onnx"}], "file"),
    ):
        with pytest.raises(UserError, match=message):
            schema.parse(raw | {"baseline": raw["baseline"] | {"networks": change}})
