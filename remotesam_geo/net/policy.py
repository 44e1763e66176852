"""How reads behave: time-outs, trust, limits, credentials, and caches."""

from dataclasses import dataclass, field

from .auth import S3, PlanetaryComputer, Signer
from .sockets import Patience
from .trust import Limits, Trust

__all__ = ["ReadPolicy"]


@dataclass(frozen=True, kw_only=True)
class ReadPolicy:
    """How patient, how trusting and how large reads may be.

    Args:
        patience: Time-outs and repetitions.
        trust: What is allowed beyond public hosts.
        limits: The largest raster that is opened.
        signers: Who makes requests; the first that covers an href does.
        cache_bytes: Most bytes, compressed as they came, that a process keeps.
        disk_bytes: Most bytes of files that can only be fetched whole, kept as temporary files.
        ahead_bytes: Most bytes fetched beyond what is asked for, once a scene is read row by row.

    Examples:
        >>> ReadPolicy(patience=Patience(total=60), trust=Trust(hosts=("127.0.0.1",))).cache_bytes
        134217728
    """

    patience: Patience = field(default_factory=Patience)
    trust: Trust = field(default_factory=Trust)
    limits: Limits = field(default_factory=Limits)
    signers: tuple[Signer, ...] = (PlanetaryComputer(), S3())
    cache_bytes: int = 128 << 20
    disk_bytes: int = 2 << 30
    ahead_bytes: int = 32 << 20
