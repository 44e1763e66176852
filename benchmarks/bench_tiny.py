"""The built-in model on the CPU: time a pixel and expression, one expression and eight at once.

    python benchmarks/bench_tiny.py [FOLDER]

Plain network and inference engine are timed in turn, so that a busy machine slows all alike; the
least of many runs is what an idle machine needs. Then: how many pixels of the map change with the batch
shape, for which the plan of a map fixes one.
"""

import platform
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from remotesam_geo.learning.synthetic import CLASSES, scene
from remotesam_geo.model import RemoteSAMModel, RemoteSAMPredictor, RemoteSAMProcessor
from remotesam_geo.model.inference import Arrangement, InferenceEngine
from remotesam_geo.model.weights import locate

ROUNDS = 15


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else "tiny"
    model = RemoteSAMModel.from_pretrained(source).float().eval()
    folder = locate(source).folder
    assert folder is not None
    processor = RemoteSAMProcessor.from_pretrained(folder)
    picture = torch.from_numpy(scene(3_000_000).rgb[None])
    texts = [f"{name} in the image" for name in list(CLASSES)[:8]]
    tokens = processor.tokenize(texts)
    pixels = processor.pixel_values(picture)
    size = model.config.image_size

    def engine(dtype: torch.dtype, count: int) -> Callable[[], object]:
        arranged = InferenceEngine(model, Arrangement.choose(torch.device("cpu"), dtype))
        ids, mask = tokens.input_ids[:count], tokens.attention_mask[:count]

        def run() -> object:
            text = arranged.encode(ids, mask)
            seen = arranged.look(picture)
            # One expression at a time: on the CPU a batch of them brings nothing.
            return [arranged.ask(seen, text[i : i + 1], mask[i : i + 1]) for i in range(len(text))]

        return run

    @torch.no_grad()
    def plain() -> object:
        return model(pixels, tokens.input_ids[:1], tokens.attention_mask[:1]).logits

    cases: dict[str, tuple[int, Callable[[], object]]] = {
        "plain network, float32, 1 expression": (1, plain),
        "engine, float32, 1 expression": (1, engine(torch.float32, 1)),
        "engine, float32, 8 expressions": (8, engine(torch.float32, 8)),
        "engine, bfloat16, 8 expressions": (8, engine(torch.bfloat16, 8)),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(ROUNDS + 3):
        for name, (count, run) in cases.items():
            begin = time.perf_counter()
            run()
            if round_ >= 3:
                times[name].append((time.perf_counter() - begin) / count)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads\n")
    print("| | ms an expression (least / median) | microseconds a pixel and expression (least) |")
    print("| --- | --- | --- |")
    for name, found in times.items():
        found.sort()
        least, median = found[0], found[len(found) // 2]
        print(f"| {name} | {least * 1e3:.1f} / {median * 1e3:.1f} | {least * 1e6 / size**2:.2f} |")
    batch_shapes(model, processor, texts)


def batch_shapes(model: RemoteSAMModel, processor: RemoteSAMProcessor, texts: list[str]) -> None:
    """The share of bytes and of answers at 0.5 that differ from those of pairs computed one by one."""
    pictures = np.stack([scene(3_000_100 + k).rgb for k in range(6)])
    print("\n| precision | pairs computed together | bytes that differ | pixels that change sides of 0.5 |")
    print("| --- | --- | --- | --- |")
    for precision in ("float32", "bfloat16"):
        answers = {
            batch: RemoteSAMPredictor(model, processor, device="cpu", precision=precision, batch=batch).predict(
                pictures, texts
            )
            for batch in (1, 2, 4, 8)
        }
        for batch in (2, 4, 8):
            differ = (answers[batch] != answers[1]).mean()
            sides = ((answers[batch] > 100) != (answers[1] > 100)).mean()
            print(f"| {precision} | {batch} | {differ:.2%} | {sides:.4%} |")


if __name__ == "__main__":
    main()
