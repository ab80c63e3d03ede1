"""Sites: one module for each place where a method can act, named by the method's ``site``."""

from parbench.engine.sites.base import Site, site_of

__all__ = ["Site", "site_of"]
