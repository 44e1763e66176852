"""Time: which things stand where at which acquisition."""

from dataclasses import dataclass

import numpy as np

from remotesam_geo.errors import InputError

from .camera import SENSORS, Sensor
from .chance import mix
from .kinds import CLASSES, COLOURS
from .site import SiteThing

__all__ = ["MOBILE", "Acquisition", "at_time"]

MOBILE = ("airplane", "ship", "vehicle")
"""Classes that come and go; the others are built, taken down, repainted or extended once at most."""

_WHOLE = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One picture of the world.

    Attributes:
        time: ISO date, or date and time, of UTC.
        shift: Metres east and north that its pixels lie off the ground they show; the truth stays in place.
        clouds: Share of the plane under clouds.
        sensor: One of `SENSORS`, or a sensor.
    """

    time: str = "2025-06-01"
    shift: tuple[float, float] = (0.0, 0.0)
    clouds: float = 0.0
    sensor: str | Sensor = "standard"

    def __post_init__(self) -> None:
        try:
            np.datetime64(self.time, "ns")
        except ValueError as error:
            raise InputError(f"time must be an ISO date, not {self.time!r}") from error
        if not 0 <= self.clouds <= 1:
            raise InputError(f"clouds must be a share from 0 to 1, not {self.clouds}")
        if isinstance(self.sensor, str) and self.sensor not in SENSORS:
            raise InputError(f"sensor {self.sensor!r} is not known; there are {', '.join(SENSORS)}")


def at_time(thing: SiteThing, *, seed: int, index: int, count: int, rate: float) -> SiteThing | None:
    """The thing as it is at one of `count` acquisitions, None where it is not there.

    Things that move are away from any acquisition with probability `rate`. Of the others a share of `rate` has one
    event in its life: it is built, taken down, and buildings also get another colour or an extension.
    """
    if count == 1 or thing.kind not in CLASSES:
        return thing
    if thing.kind in MOBILE:
        away = mix(seed, thing.ident, 31, index) < rate * _WHOLE
        return None if away else thing
    luck = mix(seed, thing.ident, 32)
    if luck >= rate * _WHOLE:
        return thing
    before = index < 1 + luck % (count - 1)
    events = ("built", "gone", "repainted", "extended") if thing.kind == "building" else ("built", "gone")
    event = events[mix(seed, thing.ident, 33) % len(events)]
    if event == "built":
        return None if before else thing
    if event == "gone":
        return thing if before else None
    if not before:
        return thing
    if event == "extended":
        return thing._replace(length=thing.length * 0.6)
    others = [c for c in CLASSES[thing.kind].colour_names if c != thing.colour]
    colour = others[mix(seed, thing.ident, 34) % len(others)]
    return thing._replace(colour=colour, rgb=COLOURS[colour])
