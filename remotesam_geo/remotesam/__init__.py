"""The class `RemoteSAM`: questions in words over scenes and pictures, answered with GeoDataFrames."""

from remotesam_geo.predictors.remotesam_network import Model

from .verbs import RemoteSAM

__all__ = ["Model", "RemoteSAM"]
