"""A rectangle of pixels."""

from dataclasses import dataclass

__all__ = ["Box"]


@dataclass(frozen=True, kw_only=True, order=True)
class Box:
    """A half-open rectangle of pixels.

    Examples:
        >>> Box(top=0, left=2, bottom=4, right=8).shape
        (4, 6)
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def within(self, other: "Box") -> tuple[slice, slice]:
        """Where this box lies in an array that covers another."""
        return (
            slice(self.top - other.top, self.bottom - other.top),
            slice(self.left - other.left, self.right - other.left),
        )

    def common(self, other: "Box") -> "Box | None":
        """What two boxes share, or None."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        if top >= bottom or left >= right:
            return None
        return Box(top=top, left=left, bottom=bottom, right=right)

    def hull(self, other: "Box") -> "Box":
        """The smallest box around two."""
        return Box(
            top=min(self.top, other.top),
            left=min(self.left, other.left),
            bottom=max(self.bottom, other.bottom),
            right=max(self.right, other.right),
        )
