"""How much of the machine's rate of products the network reaches, and what memory it needs.

    python benchmarks/bench_model.py [--rounds 5]

The rate is nominal: 1.368 TFLOP a pair of picture and expression at 896 x 896, whatever is saved on
the way. It is held against the faster of `torch.mm` and a channels-last 1x1 convolution in the same
precision. Products and answers take turns, and the best of each counts, so that what else the machine
does meets both alike. Every expression is new: its text is encoded within the time. Each row is a process
of its own, which loads the weights (drawn at random: 1 GB on disk, removed afterwards) as a user would.

With a CUDA device: bfloat16 at several batches, latency of one, memory, and how far the answers are from
those of the CPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel, RemoteSAMPredictor, RemoteSAMProcessor

FLOP = 1.368e12  # a pair at 896 x 896
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYERS = ((3136, 512, 2048), (12544, 512, 1536), (12544, 1024, 1024))  # rows, inputs, outputs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(DTYPES), help="one precision on the CPU")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measured(**json.loads(options.row))))
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        RemoteSAMModel(RemoteSAMConfig()).save_pretrained(folder)
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        print("| precision | expressions | s a pair | GFLOP/s | product, GFLOP/s | ratio | peak MB |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for precision in [options.only] if options.only else DTYPES:
            for expressions in (1, 8):
                row = {
                    "folder": folder,
                    "precision": precision,
                    "expressions": expressions,
                    "rounds": options.rounds,
                }
                found = in_a_process(row)
                rate = FLOP / found["seconds"] / 1e9
                print(
                    f"| {precision} | {expressions} | {found['seconds']:.2f} | {rate:.0f} "
                    f"| {found['product'] / 1e9:.0f} | {rate / found['product'] * 1e9:.2f} "
                    f"| {found['peak'] / 1e6:.0f} |",
                    flush=True,
                )
        if torch.cuda.is_available():
            on_gpu(folder, options.rounds)


def in_a_process(row: dict[str, object]) -> dict[str, float]:
    command = [sys.executable, __file__, "--row", json.dumps(row)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(folder: str, precision: str, expressions: int, rounds: int) -> dict[str, float]:
    """Best seconds a pair, best rate of products, and the peak of this process before those."""
    predictor = opened(folder, device="cpu", precision=precision)
    images = np.random.default_rng(0).integers(0, 256, (1, 896, 896, 3), np.uint8)
    predictor.predict(images, questions(-1, expressions))
    peak = peak_memory()
    product, seconds = 0.0, float("inf")
    for number in range(rounds):
        product = max(product, product_rate(torch.device("cpu"), DTYPES[precision]))
        start = time.perf_counter()
        predictor.predict(images, questions(number, expressions))
        seconds = min(seconds, (time.perf_counter() - start) / expressions)
    product = max(product, product_rate(torch.device("cpu"), DTYPES[precision]))
    return {"seconds": seconds, "product": product, "peak": peak}


def opened(folder: str, **options: object) -> RemoteSAMPredictor:
    model = RemoteSAMModel.from_pretrained(folder)
    return RemoteSAMPredictor(model, RemoteSAMProcessor(model.config), **options)


def questions(number: int, count: int) -> list[str]:
    return [f"the {number} storage tanks beside road {i} in the image" for i in range(count)]


def peak_memory() -> int:
    """Of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def product_rate(device: torch.device, dtype: torch.dtype, size: int = 3072) -> float:
    """Floating-point operations a second of the fastest product here."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = fastest(lambda: a @ b, 2 * size**3)
    for rows, inputs, outputs in LAYERS:
        x = torch.randn(1, rows, 1, inputs, device=device).to(dtype).permute(0, 3, 1, 2)
        weight = torch.randn(outputs, inputs, 1, 1, device=device).to(dtype)
        best = max(
            best,
            fastest(lambda x=x, w=weight: functional.conv2d(x, w), 2 * rows * inputs * outputs),
        )
    return best


def fastest(product, flop: float, times: int = 4) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        product()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return flop / best


def on_gpu(folder: str, rounds: int) -> None:
    name, bfloat16 = torch.cuda.get_device_name(), torch.bfloat16
    images = np.random.default_rng(0).integers(0, 256, (4, 896, 896, 3), np.uint8)
    here = opened(folder, device="cpu", precision="float32").probabilities(images[:1], questions(0, 2))
    product = product_rate(torch.device("cuda"), bfloat16, 8192)
    print(f"\n{name}: products in bfloat16 at {product / 1e12:.0f} TFLOP/s\n")
    print("| batch | compiled | pairs a second | ratio | latency of one, ms | peak GB | far |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for compiled in (False, True):
        for batch in (1, 2, 4, 8, 16):
            options = {"precision": "bfloat16", "batch": batch, "compiled": compiled}
            predictor = opened(folder, device="cuda", **options)
            asked = questions(0, 16)
            far = np.abs(predictor.probabilities(images[:1], questions(0, 2)) - here).max()
            predictor.predict(images, asked)
            torch.cuda.reset_peak_memory_stats()
            every, one = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                predictor.predict(images, asked)
                every.append(time.perf_counter() - start)
                start = time.perf_counter()
                predictor.predict(images[:1], asked[:1])
                one.append(time.perf_counter() - start)
            rate = len(images) * len(asked) / min(every)
            peak = torch.cuda.max_memory_allocated() / 1e9
            print(
                f"| {batch} | {'yes' if compiled else 'no'} | {rate:.0f} | {rate * FLOP / product:.2f} "
                f"| {min(one) * 1e3:.1f} | {peak:.1f} | {far:.4f} |",
                flush=True,
            )
            del predictor
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
