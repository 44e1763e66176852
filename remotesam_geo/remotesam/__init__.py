"""The class `RemoteSAM`: questions in words over scenes and pictures, answered with GeoDataFrames."""

from .verbs import RemoteSAM

__all__ = ["RemoteSAM"]
