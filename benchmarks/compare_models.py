"""Compare models on a COCO data set: speed, memory, boxes and masks, side by side in one run.

    python benchmarks/compare_models.py FOLDER MODEL [MODEL ...]

FOLDER holds `annotations.json` and `images/`. A model is a name (`remotesam-geo models` lists them), a folder, or a
`.pth`. Each model runs in a process of its own, one after the other.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

TASKS = {"detection": ("AP50",), "semantic": ("mIoU",)}


def measure(folder: Path, name: str) -> dict[str, float]:
    """Measure one model in this process."""
    from remotesam_geo.learning.datasets import read_coco
    from remotesam_geo.learning.evaluation import Setting, asked_as, evaluate
    from remotesam_geo.remotesam.named import named_model

    examples = list(read_coco(folder / "annotations.json", folder / "images"))
    labels = list(dict.fromkeys(thing.label for one in examples for thing in one.things))
    setting = Setting(classes=asked_as(labels))
    model = named_model(name)
    row: dict[str, float] = {}
    for task, figures in TASKS.items():
        start = time.perf_counter()
        report = evaluate(task, examples, model, setting=setting)
        row[f"seconds a picture and class ({task})"] = (time.perf_counter() - start) / (len(examples) * len(labels))
        row |= {figure: report.overall[figure] for figure in figures}
    row["peak memory in MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def main() -> None:
    """Run every model in a process of its own and print a table."""
    folder, *names = sys.argv[1:]
    if names[:1] == ["--one"]:
        print(json.dumps(measure(Path(folder), names[1])))
        return
    rows = {}
    for name in names:
        command = [sys.executable, __file__, folder, "--one", name]
        run = subprocess.run(command, check=False, capture_output=True, text=True)
        if run.returncode:
            print(f"{name}: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        rows[name] = json.loads(run.stdout.splitlines()[-1])
    if rows:
        heads = list(next(iter(rows.values())))
        print(f"| model | {' | '.join(heads)} |")
        print(f"| --- |{' ---: |' * len(heads)}")
        for name, row in rows.items():
            print(f"| `{name}` | {' | '.join(f'{row[head]:.4g}' for head in heads)} |")


if __name__ == "__main__":
    main()
