"""The cluster that kubectl talks to: contexts of the user's kubeconfig."""

from pathlib import Path

from mlstead.clients import kubeconfig
from mlstead.clients.kubeconfig import Context
from mlstead.errors import NotFoundError


def known() -> tuple[Path, list[Context]]:
    """Give the user's kubeconfig and its contexts; none if it is not there.

    Raises:
        SpecError: it is damaged, or no kubeconfig.
    """
    path = kubeconfig.find()
    return path, kubeconfig.contexts(path)


def switch(name: str = "", namespace: str = "") -> None:
    """Make a context the current one, and set its namespace, or that of the current one.

    Args:
        name: the context; "" leaves the current one.
        namespace: "" leaves it as it is.

    Raises:
        NotFoundError: there is no such context, or no current one.
        UserError: the file is damaged, or cannot be changed; no namespace has such a name.
        UnavailableError: another program is changing the file.
    """
    path, contexts = known()
    chosen = name or next((it.name for it in contexts if it.current), "")
    if not chosen:
        raise NotFoundError(f"{path} has no current context", hint="name one")
    if namespace:
        kubeconfig.set_namespace(path, chosen, namespace)
    if name:
        kubeconfig.use(path, name)
