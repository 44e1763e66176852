"""Speed of other networks through the whole pipeline, against the bare network, on the CPU.

    python benchmarks/bench_predictors.py [ROUNDS]

The networks have the sizes of the released ones and random weights. `segment` runs over a scene of nine windows, the
bare network over the same nine images, in turn; the ratio is of the medians.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rasterio.transform import Affine

SIDE, PROMPTS = 3, {"a": "ship", "b": "tree"}


def scene_of(size: int) -> xr.Dataset:
    """Noise under nine windows that do not overlap."""
    place = GeoBox((SIDE * size, SIDE * size), Affine(0.5, 0, 500000, 0, -0.5, 5000000), "EPSG:32633")
    values = np.random.default_rng(0).integers(1, 256, (3, *place.shape), np.uint8)
    bands = {name: (("y", "x"), band) for name, band in zip(("red", "green", "blue"), values, strict=True)}
    return xr.Dataset(bands, coords=xr_coords(place))


def clipseg(folder: Path) -> object:
    """CLIPSeg as released: CLIP ViT-B/16, 352 pixels."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    from remotesam_geo.predictors.clipseg import ClipSeg
    from tests.predictors.networks import WORDS, _write_clip_tokenizer

    config = CLIPSegConfig(text_config={"vocab_size": 49408, "eos_token_id": len(WORDS) - 1}, reduce_dim=64)
    config.vision_config.patch_size, config.use_complex_transposed_convolution = 16, True
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    _write_clip_tokenizer(folder)
    return ClipSeg.open([folder], device="cpu", precision="float32")


def boxed(folder: Path) -> object:
    """SAM 2.1 tiny as released, 1,024 pixels, on four boxes; the detector is left out."""
    from transformers import AutoTokenizer, Owlv2ImageProcessorPil, Sam2Config, Sam2Model

    from remotesam_geo.predictors.grounded_sam import OwlSam
    from tests.predictors.networks import write_owlv2

    class FourBoxes(OwlSam):
        def _boxes(self, *_: object) -> list:
            return [(0, 0.9, (x, x, x + 90.0, x + 60.0)) for x in (10.0, 200.0, 400.0, 800.0)]

    write_owlv2(folder)
    from transformers import Owlv2ForObjectDetection

    return FourBoxes(
        Owlv2ForObjectDetection.from_pretrained(folder), Owlv2ImageProcessorPil.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder), Sam2Model(Sam2Config()), image_size=1024, device="cpu",
        precision="float32",
    )  # fmt: skip


def compare(name: str, predictor: object, rounds: int) -> None:
    """Print a row: seconds of both, and the rate through the pipeline as a share of the bare one."""
    from remotesam_geo import RemoteSAM

    model, size = RemoteSAM(predictor), predictor.image_size
    scene = scene_of(size)
    pixels = np.stack([scene[band].values for band in ("red", "green", "blue")], -1)
    images = [
        np.ascontiguousarray(pixels[row * size : (row + 1) * size, column * size : (column + 1) * size][None])
        for row in range(SIDE)
        for column in range(SIDE)
    ]

    def bare() -> None:
        for image in images:
            predictor.predict(image, list(PROMPTS.values()))

    def whole() -> None:
        model.segment(scene, PROMPTS, overlap=0, seam="paste", resolution="native", threshold=0.999, progress=False)

    seconds: dict[Callable[[], None], list[float]] = {bare: [], whole: []}
    for run in (bare, whole):
        run()
    for _ in range(rounds):
        for run, taken in seconds.items():
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    alone, through = (statistics.median(taken) for taken in seconds.values())
    print(f"| {name} | {alone:.2f} | {through:.2f} | {alone / through:.2f} |")


def main() -> None:
    """Print the table."""
    import warnings

    warnings.simplefilter("ignore")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{torch.get_num_threads()} threads, medians of {rounds}")
    print("| network | bare, s | through segment, s | share of the bare rate |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        compare("CLIPSeg, 352 px, float32, 2 expressions", clipseg(Path(folder)), rounds)
        compare("SAM 2.1 tiny, 1,024 px, float32, 2 expressions of 4 boxes", boxed(Path(other)), rounds)


if __name__ == "__main__":
    main()
