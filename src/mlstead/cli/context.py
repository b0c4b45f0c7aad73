"""The verb ``context``: the places where work goes, and the cluster that kubectl talks to."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli import _context_options as given
from mlstead.cli._asking import passphrase
from mlstead.cli._group import Group
from mlstead.cli._options import Json
from mlstead.cli._print import as_json as print_json
from mlstead.cli._print import table
from mlstead.platform import Platform, clusters
from mlstead.platform import context as contexts
from mlstead.platform.context import Context

app = typer.Typer(cls=Group, no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The context's name.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List contexts; the current one has a star."""
    home = contexts.home_folder()
    current, known = contexts.load(home)
    if as_json:
        print_json({"current": current, "home": str(home), "contexts": known})
        return
    rows = [
        ("*" if name == current else "", name, item.engine, item.project,
         item.records or "sqlite", item.artifacts or "folder")
        for name, item in sorted(known.items())
    ]  # fmt: skip
    table(("", "NAME", "ENGINE", "PROJECT", "RECORDS", "ARTIFACTS"), rows)


@app.command()
def use(name: Name) -> None:
    """Make a context the current one."""
    print(f"current context: {contexts.use(contexts.home_folder(), name).name}")


@app.command()
def add(
    name: Name,
    engine: given.Engine = "local",
    project: given.Project = "default",
    records: given.Records = "",
    artifacts: given.Artifacts = "",
    endpoint: given.Endpoint = "",
    site: given.Site = "",
    kubeconfig: given.Kubeconfig = "",
    kube_context: given.KubeContext = "",
    namespace: given.Namespace = "",
    image: given.Image = "",
    registry: given.Registry = "",
    registry_user: given.RegistryUser = "",
    registry_authority: given.RegistryAuthority = "",
    pod_endpoint: given.PodEndpoint = "",
) -> None:
    """Keep a context."""
    named = {
        "kubeconfig": _whole(kubeconfig),
        "kube_context": kube_context,
        "namespace": namespace,
        "image": image,
        "registry": registry,
        "registry_user": registry_user,
        "registry_authority": _whole(registry_authority),
        "pod_endpoint": pod_endpoint,
    }
    options = {key: value for key, value in named.items() if value}
    if site:
        engine = "kubernetes"
        options = {**Platform().images.options_of_site(site, name, passphrase()), **options}
    item = Context(name, engine, project, records, artifacts, endpoint, options)
    contexts.add(contexts.home_folder(), item)
    print(f"context {name} is kept")


def _whole(path: str) -> str:
    """Give a path that means the same wherever mlstead is called."""
    return str(Path(path).expanduser().absolute()) if path else ""


@app.command()
def remove(name: Name) -> None:
    """Forget a context; what runs there goes on."""
    contexts.remove(contexts.home_folder(), name)
    print(f"context {name} is forgotten")


@app.command()
def cluster(
    name: Annotated[str, typer.Argument(help="The context of kubectl to switch to.")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The namespace to work in.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List kubectl's contexts, switch to one, set its namespace."""
    if name or namespace:
        clusters.switch(name, namespace)
    path, known = clusters.known()
    if as_json:
        print_json({"file": str(path), "contexts": known})
    elif name or namespace:
        now = next(it for it in known if it.current)
        print(f"kubectl's context: {now.name}, namespace {now.namespace or 'default'}")
    else:
        rows = [
            ("*" if it.current else "", it.name, it.cluster, it.user, it.namespace) for it in known
        ]
        table(("", "NAME", "CLUSTER", "USER", "NAMESPACE"), rows)
