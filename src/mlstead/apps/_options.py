"""Reads the options that a site file gives to an app."""

from typing import TypeVar

from mlstead.spec.base import Model
from mlstead.spec.site import Site

M = TypeVar("M", bound=Model)


def chosen(site: Site, name: str, model: type[M]) -> M | None:
    """Give an app's options; None if the site does not have it. They are checked before."""
    if name not in site.apps:
        return None
    return model.model_validate(site.apps[name] or {}, by_alias=True, by_name=False)
