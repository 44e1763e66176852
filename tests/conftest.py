"""What every test shares: Hypothesis profiles and a polite number of threads."""

import os

import hypothesis

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # before torch, BLAS and OpenMP count the cores for themselves
    os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile("default", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)
