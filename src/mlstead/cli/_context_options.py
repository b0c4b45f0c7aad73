"""The options of `context add`: what a context can say."""

from typing import Annotated

import typer

Engine = Annotated[str, typer.Option("--engine", help="local or kubernetes")]
Project = Annotated[str, typer.Option("--project", help="The default project.")]
Records = Annotated[
    str, typer.Option("--records", help="postgresql://… ; a password goes in MLSTEAD_RECORDS.")
]
Artifacts = Annotated[str, typer.Option("--artifacts", help="s3://bucket/prefix")]
Endpoint = Annotated[str, typer.Option("--endpoint", help="The S3 server's address.")]
PodEndpoint = Annotated[
    str, typer.Option("--pod-endpoint", help="The S3 server as pods reach it, if another.")
]
Site = Annotated[
    str, typer.Option("--site", help="A site applied from here: its cluster and registry.")
]
Kubeconfig = Annotated[
    str, typer.Option("--kubeconfig", help="The file that says how a cluster is reached.")
]
KubeContext = Annotated[
    str, typer.Option("--kube-context", help="Its context; kubectl's current one if not given.")
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Where in the cluster work runs.")
]
Image = Annotated[
    str, typer.Option("--image", help="What work runs in that names no image; it needs Python.")
]
Registry = Annotated[
    str, typer.Option("--registry", help="HOST:PORT/PREFIX that images of code are pushed to.")
]
RegistryUser = Annotated[
    str, typer.Option("--registry-user", help="Its password: MLSTEAD_REGISTRY_PASSWORD.")
]
RegistryAuthority = Annotated[
    str, typer.Option("--registry-authority", help="The file of who signs its certificate.")
]
