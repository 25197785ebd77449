"""A Kubernetes cluster on this machine: its API over TLS, and deployments that are real processes.

    server     the API: TLS, log-in, paths, verbs
    login      the authority that signs its certificate; tokens of EKS, really asked of STS
    objects    what is stored: versions, generations, conflicts, server-side apply
    patch      the kinds of patches, as pure functions
    control    what a cluster does by itself: deployments make pods, services find them
    pods       a pod: its containers as process groups, probed, restarted, ended
    forward    a service's one address, leading to pods that are ready

What it does not do: scheduling on nodes, volumes, liveness probes, jobs, stateful sets, RBAC beyond
namespaces. What an image is, the caller says: a command for its name.
"""

from leeward.local.kubernetes.server import LocalKubernetes

__all__ = ["LocalKubernetes"]
