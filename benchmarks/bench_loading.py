"""Peak memory and time of loading weights of the released size, each in a process of its own.

    python benchmarks/bench_loading.py

The checkpoint is made here: the network's tensors, AdamW's two moments for each parameter, and the
other entries a training script leaves behind (2.9 GB on disk; removed afterwards).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel

CHILD = """
import sys, time
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) << 10
import torch
from remotesam_geo.model import RemoteSAMModel, convert
before, start = peak(), time.perf_counter()
{work}
print(before, peak(), time.perf_counter() - start)
"""
WORK = {
    "`from_pretrained` of the .pth": "RemoteSAMModel.from_pretrained(sys.argv[1])",
    "`convert` to a folder": "convert(sys.argv[1], sys.argv[2])",
    "`from_pretrained` of the folder": "RemoteSAMModel.from_pretrained(sys.argv[2])",
    "`torch.load` of all of it, then `load_state_dict`": (
        "from remotesam_geo.model import RemoteSAMConfig\n"
        "import argparse\n"
        "with torch.serialization.safe_globals([argparse.Namespace]):\n"
        "    state = torch.load(sys.argv[1], weights_only=True)['model']\n"
        "RemoteSAMModel(RemoteSAMConfig()).load_state_dict(state)"
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "published.pth"
        weights = write(path)
        print(f"Weights {weights / 1e6:.0f} MB, file {path.stat().st_size / 1e6:.0f} MB, torch {torch.__version__}\n")
        print("| what | peak of the process, MB | over the weights | of it before, MB | s |")
        print("| --- | --- | --- | --- | --- |")
        for name, work in WORK.items():
            before, after, seconds = measure(work, path, Path(folder) / "converted")
            print(f"| {name} | {after / 1e6:.0f} | {after / weights:.2f} | {before / 1e6:.0f} | {seconds:.1f} |")


def write(path: Path) -> int:
    """A checkpoint as a training script leaves it; gives the bytes of its weights."""
    torch.manual_seed(0)
    model = RemoteSAMModel(RemoteSAMConfig())
    moments = {
        index: {
            "step": torch.tensor(1.0),
            "exp_avg": torch.randn_like(parameter),
            "exp_avg_sq": torch.rand_like(parameter),
        }
        for index, parameter in enumerate(model.parameters())
    }
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": {"state": moments, "param_groups": [{"params": list(moments)}]},
        "lr_scheduler": {"last_epoch": 40},
        "epoch": 39,
        "args": argparse.Namespace(lr=3e-5),
    }
    torch.save(checkpoint, path)
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def measure(work: str, path: Path, converted: Path) -> tuple[float, ...]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(work=work), str(path), str(converted)],
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(float(number) for number in done.stdout.split())


if __name__ == "__main__":
    main()
