"""Loads the code of an older version beside the service's own, though their modules share names.

While the version is loaded, its modules are the ones everybody finds, as in a process of its own:
whatever the model's loader does works, unpickling included. Then they leave ``sys.modules``, so
that the service's own modules can be imported under the same names. What the version's functions
import later is found by an ``__import__`` of their own. Only ``importlib.import_module`` and
unpickling while it predicts would find the service's modules.
"""

import builtins
import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, resolve_name, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


class Apart(MetaPathFinder):
    """The modules of one code folder, apart from all others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules: dict[str, ModuleType] = {}
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Let everybody find these modules, and nobody afterwards; one thread at a time."""
        sys.path.insert(0, str(self._folder))
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            sys.path.remove(str(self._folder))
            for name, module in list(sys.modules.items()):
                if self._has(module):
                    self._modules[name] = sys.modules.pop(name)
            importlib.invalidate_caches()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the folder; its imports are ours to answer."""
        places = [str(self._folder)] if path is None else list(path)
        spec = PathFinder.find_spec(fullname, places)
        if spec is None or spec.origin is None or not self._holds(spec.origin):
            return None  # a folder of data beside the code is no package before all others
        if not isinstance(spec.loader, SourceFileLoader):
            return spec
        return spec_from_file_location(
            fullname,
            spec.origin,
            loader=_Loader(fullname, spec.origin, self),
            submodule_search_locations=spec.submodule_search_locations,
        )

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what ``__import__`` does, with the modules of the folder first."""
        package = str((globals or {}).get("__package__") or "")
        whole = resolve_name("." * level + name, package) if level else name
        if self in sys.meta_path or not self._knows(whole.partition(".")[0]):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        with self._lock:
            module = self._get(whole)
            if not fromlist:
                return module if level else self._get(whole.partition(".")[0])
            for wanted in fromlist:
                if hasattr(module, "__path__") and not hasattr(module, wanted) and wanted != "*":
                    with contextlib.suppress(ModuleNotFoundError):
                        self._get(f"{whole}.{wanted}")
            return module

    def _get(self, name: str) -> ModuleType:
        """Give a module, imported now if it was not yet."""
        if name in self._modules:
            return self._modules[name]
        parent, _, own = name.rpartition(".")
        path = list(self._get(parent).__path__) if parent else None
        spec = self.find_spec(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = self._modules[name] = module_from_spec(spec)
        try:
            if spec.loader is not None:
                spec.loader.exec_module(module)
        except BaseException:
            del self._modules[name]
            raise
        if parent:
            setattr(self._modules[parent], own, module)
        return module

    def _knows(self, top: str) -> bool:
        if top in self._modules:
            return True
        spec = PathFinder.find_spec(top, [str(self._folder)])
        return spec is not None and spec.origin is not None

    def _has(self, module: ModuleType) -> bool:
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if isinstance(origin, str):
            return self._holds(origin)
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        return bool(places) and all(self._holds(place) for place in places)

    def _holds(self, origin: str) -> bool:
        return Path(origin).is_relative_to(self._folder)


class _Loader(SourceFileLoader):
    """Runs a module whose own imports are answered by its folder."""

    def __init__(self, fullname: str, path: str, apart: Apart) -> None:
        super().__init__(fullname, path)
        self._apart = apart

    def exec_module(self, module: ModuleType) -> None:
        own = {**vars(builtins), "__import__": self._apart.import_}
        module.__dict__["__builtins__"] = own
        super().exec_module(module)
