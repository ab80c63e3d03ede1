"""One module for each place where a method acts; a method's ``site`` names it."""

from parbench.engine.sites.base import Site, site_of

__all__ = ["Site", "site_of"]
