"""The environment of every test: the same on each machine, and a hostile one to try the suite and the package in.

`settle` removes every variable that is not known to be harmless, so nothing that a user or a machine has set changes a
test: tokens, proxies, offline modes, options of GDAL, locale, time zone, width of the terminal. The processes that
tests start inherit it. `HOSTILE` sets the same variables to odd values; `make hostile` runs a part of the suite in it.
"""

import atexit
import os
import shutil
import tempfile
import time

KEPT = {
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_PRELOAD", "TMPDIR", "TEMP", "TMP", "USER", "LOGNAME", "SHELL",
    "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "HYPOTHESIS_PROFILE",
    # Windows does not start programs without these
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
}  # fmt: skip
KEPT_PREFIXES = (
    "PYTEST_", "COV_", "COVERAGE_", "REMOTESAM_GEO_",
    # make one processor calculate like another: tests must pass under any value
    "OPENBLAS_", "ONEDNN_", "ATEN_", "MKL_", "NPY_", "CUDA_",
)  # fmt: skip
HOME = "REMOTESAM_GEO_TEST_HOME"

_ODD = "odd"
_NOWHERE = "/dev/null/nowhere"  # below a file: root cannot write there either
_DEAD = "http://127.0.0.1:9"

HOSTILE = {
    "HOME": _NOWHERE, "XDG_CACHE_HOME": _NOWHERE, "XDG_CONFIG_HOME": _NOWHERE, "XDG_DATA_HOME": _NOWHERE,
    "XDG_RUNTIME_DIR": _NOWHERE, "MPLCONFIGDIR": _NOWHERE, "IPYTHONDIR": _NOWHERE, "JUPYTER_CONFIG_DIR": _NOWHERE,
    "HF_HOME": _NOWHERE, "HF_HUB_CACHE": _NOWHERE, "HF_HUB_OFFLINE": "1", "HF_TOKEN": _ODD, "HF_ENDPOINT": _DEAD,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_CACHE": _NOWHERE,
    "TRANSFORMERS_VERBOSITY": "debug",
    "http_proxy": _DEAD, "https_proxy": _DEAD, "all_proxy": _DEAD, "no_proxy": "example.com",
    "HTTP_PROXY": _DEAD, "HTTPS_PROXY": _DEAD, "ALL_PROXY": _DEAD, "NO_PROXY": "example.com",
    "SSL_CERT_FILE": _NOWHERE, "REQUESTS_CA_BUNDLE": _NOWHERE, "CURL_CA_BUNDLE": _NOWHERE,
    "AWS_ACCESS_KEY_ID": _ODD, "AWS_SECRET_ACCESS_KEY": _ODD, "AWS_SESSION_TOKEN": _ODD, "AWS_PROFILE": _ODD,
    "AWS_REGION": "mars-1", "AWS_DEFAULT_REGION": "mars-1", "AWS_SHARED_CREDENTIALS_FILE": _NOWHERE,
    "AWS_NO_SIGN_REQUEST": "YES", "AWS_REQUEST_PAYER": "requester", "AWS_S3_ENDPOINT": "127.0.0.1:9",
    "PC_SDK_SUBSCRIPTION_KEY": _ODD, "PC_SDK_SAS_URL": _DEAD,
    "GDAL_DATA": _NOWHERE, "GDAL_CACHEMAX": "1", "GDAL_NUM_THREADS": "ALL_CPUS", "GDAL_SKIP": "GTiff",
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE", "GDAL_HTTP_MAX_RETRY": "9", "GDAL_HTTP_PROXY": "127.0.0.1:9",
    "GDAL_TIFF_INTERNAL_MASK": "NO", "GDAL_PAM_ENABLED": "NO", "GTIFF_POINT_GEO_IGNORE": "TRUE",
    "GTIFF_SRS_SOURCE": "GEOKEYS", "OGR_GEOJSON_MAX_OBJ_SIZE": "1",
    "OSR_DEFAULT_AXIS_MAPPING_STRATEGY": "AUTHORITY_COMPLIANT",
    "CPL_DEBUG": "ON", "CPL_TMPDIR": _NOWHERE, "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".odd", "VSI_CACHE": "TRUE",
    "PROJ_LIB": _NOWHERE, "PROJ_DATA": _NOWHERE, "PROJ_NETWORK": "ON", "PROJ_DEBUG": "3",
    "TZ": "Pacific/Chatham", "LC_ALL": "C", "LANG": "de_DE.ISO-8859-1", "LANGUAGE": "de",
    "COLUMNS": "40", "LINES": "5", "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1", "PY_COLORS": "1",
    "CLICOLOR_FORCE": "1", "TTY_COMPATIBLE": "1", "GITHUB_ACTIONS": "true", "CI": "true",
    "OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE", "MKL_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3",
    "MPLBACKEND": "QtAgg", "TQDM_DISABLE": "1", "DASK_SCHEDULER": "synchronous", "DASK_ARRAY__CHUNK_SIZE": "1KiB",
    "ZARR_DEFAULT_ZARR_FORMAT": "2", "CUDA_VISIBLE_DEVICES": _ODD, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
    "PYTHONWARNINGS": "ignore", "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0",
    "PYTHONUNBUFFERED": "1", "PYTHONDEVMODE": "",
}  # fmt: skip
"""Odd values of every variable that libraries of this package are known to read."""


def settle() -> None:
    """Make the environment of this process the one that all tests share. Called before libraries are imported."""
    home = os.environ.get(HOME)
    for name in list(os.environ):
        if name.upper() not in KEPT and not name.upper().startswith(KEPT_PREFIXES):
            del os.environ[name]
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.pop(name, None)
    if home is None:  # the workers of xdist share the home of the process that starts them
        home = tempfile.mkdtemp(prefix="remotesam-geo-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {
        HOME: home,
        "HOME": home,
        "USERPROFILE": home,
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",  # else sums are made in as many parts as there are cores
    }
    if hasattr(time, "tzset"):
        time.tzset()


def hide_gpus(markers: str) -> None:
    """Hide graphics cards, unless the expression of `-m` asks for the tests that need one."""
    if "gpu" not in markers.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
