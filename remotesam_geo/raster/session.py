"""Opened rasters, wherever they lie: one session a process and policy, headers read once."""

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path
from weakref import WeakValueDictionary

from remotesam_geo.net.client import Transport, in_turn
from remotesam_geo.net.policy import ReadPolicy
from remotesam_geo.net.ranges import ChangedError, RemoteFile, SharedConnections
from remotesam_geo.net.trust import (
    DamagedError,
    RefusedError,
    check_href,
    file_driver,
    is_remote,
    local_path,
    remote_driver,
)

from .formats import FetchedWhole, GdalRaster, LocalPath, LocalTiff, TiffRaster
from .handles import Handles
from .info import Raster, RasterInfo
from .readahead import on_cluster

__all__ = ["Raster", "RasterInfo", "Session", "deadline", "session"]

KEPT_RASTERS = 512
KEPT_SESSIONS = 16
SAMPLE, SAMPLES = 1 << 15, 8
"""Bytes of a sample of a local file, and how many are taken, besides one at its end."""


class Session:
    """What the reads of one process under one policy share.

    Args:
        policy: Patience, trust, limits, signers.
    """

    def __init__(self, policy: ReadPolicy) -> None:
        self.policy = policy
        transport = Transport(policy.patience, policy.trust)
        self._network = SharedConnections(
            transport, policy.signers, policy.limits, policy.cache_bytes, policy.disk_bytes
        )
        self._ahead = 0 if on_cluster() else min(policy.ahead_bytes, policy.cache_bytes // 4)
        self._rasters: OrderedDict[str, Raster] = OrderedDict()
        self._opening: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._handles = Handles()
        self._lock = threading.Lock()

    def raster(self, href: str, origin: str | None, deadline: float, *, fresh: bool = False) -> Raster:
        """An opened raster, whose header is read once.

        Args:
            href: URL or path.
            origin: The URL of the item that names it; None where the user does.
            deadline: When `time.monotonic()` says that this read is over.
            fresh: Whether a file that changed since it was opened is simply opened anew.

        Raises:
            ChangedError: The file changed; the next call opens it anew.
        """
        check_href(href, origin=origin, trust=self.policy.trust)
        remote = is_remote(href)
        key = href if remote else _session_local_key(href, by_user=origin is None)
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with in_turn(opening, deadline):
            with self._lock:
                raster = self._rasters.pop(key, None)
            if raster is not None and raster.changed:
                raster.forget()
                if not fresh:
                    raise ChangedError(f"{raster.info.href} changed since it was opened")
                raster = None
            if raster is None:
                raster = self._remote(href, deadline) if remote else self._local(href, origin, deadline)
            with self._lock:
                self._rasters[key] = raster
                while len(self._rasters) > KEPT_RASTERS:
                    self._rasters.popitem(last=False)
        return raster

    def forget(self, href: str) -> None:
        """Open it anew next time."""
        with self._lock:
            for key in (href, _session_local_key(href, by_user=True), _session_local_key(href, by_user=False)):
                self._rasters.pop(key, None)
        if not is_remote(href):
            self._handles.close(local_path(href))

    def discard(self, raster: Raster) -> None:
        """Keep nothing of a raster: the next read opens it anew and fetches every byte again."""
        with self._lock:
            for key in [key for key, kept in self._rasters.items() if kept is raster]:
                del self._rasters[key]
        raster.forget()

    def sample(self, href: str, deadline: float) -> tuple[int | None, bytes | None]:
        """The size of a file and some of its bytes, read anew; None where it is no plain file.

        Args:
            href: URL or path.
            deadline: When `time.monotonic()` says that this read is over.
        """
        if is_remote(href):
            file = RemoteFile(href, self._network, deadline)
            return file.size, file.read(0, SAMPLE, deadline)
        path = Path(local_path(href))
        if not path.is_file():  # a folder, or something that GDAL alone understands
            return None, None
        size = path.stat().st_size
        places = [size * part // SAMPLES for part in range(SAMPLES)]
        with path.open("rb") as file_here:
            parts = [file_here.read(SAMPLE)]
            for place in (*places[1:], max(0, size - SAMPLE)):
                file_here.seek(place)
                parts.append(file_here.read(SAMPLE))
        return size, b"".join(parts)

    def _remote(self, href: str, deadline: float) -> Raster:
        file = RemoteFile(href, self._network, deadline)
        try:
            return self._understood(file, deadline)
        except (DamagedError, RefusedError) as error:  # fetched wrong, or stored so?
            file.forget()
            again = RemoteFile(href, self._network, deadline)
            try:
                return self._understood(again, deadline)
            except (DamagedError, RefusedError) as still:
                raise still from error

    def _understood(self, file: RemoteFile, deadline: float) -> Raster:
        limits, driver = self.policy.limits, remote_driver(file.start)
        if driver == "GTiff":
            return TiffRaster(file, limits, self._ahead, deadline)
        source = FetchedWhole(file=file, driver=driver)
        return GdalRaster(source, file.href, limits, deadline)

    def _local(self, href: str, origin: str | None, deadline: float) -> Raster:
        path = local_path(href)
        driver = None if origin is None else file_driver(path)
        here = LocalPath(path, driver, self.policy.patience, self._handles)
        kind = LocalTiff if _is_tiff(path) else GdalRaster
        return kind(here, href, self.policy.limits, deadline)


def _is_tiff(path: str) -> bool:
    """Whether it is a plain file that begins as a TIFF does."""
    try:
        with Path(path).open("rb") as file:
            return remote_driver(file.read(16)) == "GTiff"
    except (OSError, ValueError):  # no file, or none of those formats: GDAL may know what it is
        return False


def _session_local_key(href: str, *, by_user: bool) -> str:
    return f"{local_path(href)}|{by_user}"


_SESSIONS: OrderedDict[tuple[int, ReadPolicy], Session] = OrderedDict()
_SESSIONS_LOCK = threading.Lock()


def session(policy: ReadPolicy) -> Session:
    """This process's session for a policy; a forked process makes its own."""
    key = (os.getpid(), policy)
    with _SESSIONS_LOCK:
        found = _SESSIONS.pop(key, None) or Session(policy)
        _SESSIONS[key] = found
        while len(_SESSIONS) > KEPT_SESSIONS:
            _SESSIONS.popitem(last=False)
        return found


def deadline(policy: ReadPolicy) -> float:
    """When a read that begins now is over, as `time.monotonic()` counts."""
    return time.monotonic() + policy.patience.total
