"""For large areas: a job that keeps what was answered, and goes on after anything.

    python examples/large_area.py [--real] [--workers N] [--out FOLDER]

Run it again to go on. Offline it maps a procedural place with the built-in tiny model; with --real, NAIP with the
released weights. With --workers, blocks go to a dask cluster; any `distributed.Client` will do.
"""

import argparse
from pathlib import Path

from remotesam_geo import Job, load, search
from remotesam_geo.demo import write_catalogue

parser = argparse.ArgumentParser()
parser.add_argument("--real", action="store_true", help="a real catalogue and the released weights")
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("large-output"))
options = parser.parse_args()


def main() -> None:
    if options.real:
        items = search("planetary-computer", "naip", bbox=(-88.0, 41.9, -87.8, 42.1), datetime="2021")
        scene = load(items, resolution=0.6, mosaic="latest")
        model, prompts = "1e12Leon/RemoteSAM", ["storage tank"]
    else:
        catalogue, _, _ = write_catalogue(options.out / "catalogue")
        scene = load(search(catalogue, "procedural"), mosaic="first")
        model, prompts = "tiny", ["building"]

    job = Job.create(options.out / "job", scene, prompts, model)
    print(job.estimate(measure=False))
    if options.workers:
        from distributed import Client

        with Client(n_workers=options.workers, threads_per_worker=1) as client:
            print(job.run(client))
    else:
        print(job.run())

    for threshold in (0.3, 0.5, 0.7):  # from what was kept; the model is not asked again
        print(f"threshold {threshold}: {len(job.answer('detect', threshold=threshold))} found")
    job.answer("detect").to_parquet(options.out / "found.parquet")
    print("written:", options.out / "found.parquet")


if __name__ == "__main__":  # workers import this file
    main()
