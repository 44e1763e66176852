"""How a picture is taken: the sensor and the light."""

import math
from dataclasses import dataclass

from .chance import chance

__all__ = ["SENSORS", "Light", "Sensor"]

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Ranges that the properties of a picture are drawn from.

    Attributes:
        name: What it is asked for by.
        resolution: Metres a pixel.
        blur: Standard deviation of the point spread, in pixels.
        noise: Standard deviation of the noise, in grey levels.
        haze: Share of the light that is haze.
        gain: Brightness of the whole picture.
        cast: How far red and blue may drift from green.
        gamma: Exponent of the response.
        training: Whether pictures of it may be trained on.
    """

    name: str
    resolution: Span = (0.18, 0.25)
    blur: Span = (0.35, 0.75)
    noise: Span = (1.0, 4.0)
    haze: Span = (0.0, 0.15)
    gain: Span = (0.85, 1.1)
    cast: float = 0.06
    gamma: Span = (0.9, 1.12)
    training: bool = True


SENSORS: dict[str, Sensor] = {
    "standard": Sensor(name="standard"),
    "heldout": Sensor(
        name="heldout",
        resolution=(0.32, 0.40),
        blur=(0.95, 1.25),
        noise=(6.0, 8.0),
        haze=(0.1, 0.3),
        training=False,
    ),
}
"""The sensor of all training, and one that is reserved for testing what another sensor does."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """One draw of a sensor and the sun."""

    sun: float  # radians, the way the light comes from
    slant: float  # metres of shadow a metre of height
    shade: float  # brightness in the shadow
    blur: float
    noise: float
    haze: float
    gains: tuple[float, float, float]
    gamma: float
    clouds: float = 0.0  # share of the plane
    cloud_key: int = 0

    @classmethod
    def draw(cls, sensor: Sensor, *keys: int) -> "Light":
        """The light for the keys: the same for the same ones."""
        dice = chance(*keys)
        gain = dice.uniform(*sensor.gain)
        return cls(
            sun=dice.uniform(0, 2 * math.pi),
            slant=dice.uniform(0.3, 0.8),
            shade=dice.uniform(0.48, 0.68),
            blur=dice.uniform(*sensor.blur),
            noise=dice.uniform(*sensor.noise),
            haze=dice.uniform(*sensor.haze),
            gains=(
                gain * (1 + dice.uniform(-sensor.cast, sensor.cast)),
                gain,
                gain * (1 + dice.uniform(-sensor.cast, sensor.cast)),
            ),
            gamma=dice.uniform(*sensor.gamma),
        )
