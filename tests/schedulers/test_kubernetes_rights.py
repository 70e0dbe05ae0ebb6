"""The manifest of rights: all that is asked for, and nothing else."""

from pathlib import Path

import pytest

from tests.kube.objects import PodMaker, owner
from tests.kube.rbac import documents, rights
from tests.kube.server import CORE, PODS, ApiServer
from tests.schedulers.kubernetes_watching import watching
from wattkeeper.schedulers.kubernetes_owners import PLURALS


async def test_the_rights_are_those_that_are_used(tmp_path: Path) -> None:
    """Every request is covered, and a scheduler that meets every kind of owner uses every right."""
    groups = {group for group, _ in PLURALS}
    server = ApiServer(installed=CORE | groups)
    for group, kind in PLURALS:
        made = owner(f"{group}/v1", kind, PLURALS[group, kind], f"of-{kind.lower()}-{group}")
        server.store.put(made.kind, made.object)
        name = f"pod-{kind.lower()}-{group}"
        server.store.put(PODS, PodMaker(name, owners=[made.reference]).running())
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.caught_up()
    assert rights() == server.rights_used()


async def test_only_metadata_of_owners(tmp_path: Path) -> None:
    """Owners may hold secrets in their templates: nothing but metadata is asked for."""
    server = ApiServer()
    made = owner("apps/v1", "Deployment", "deployments", "web")
    server.store.put(made.kind, made.object)
    server.store.put(PODS, PodMaker("p", owners=[made.reference]).running())
    async with watching(server, tmp_path) as watch:
        await watch.ask()
        await watch.caught_up()
    whole = {r.right.resource for r in server.requests if "PartialObjectMetadata" not in r.accept}
    assert {"pods", "nodes"} == whole


def test_the_manifest_binds_its_role_to_its_account() -> None:
    """Names agree, no verb writes, nothing is a wildcard."""
    account, role, binding = documents()
    assert role["metadata"]["name"] == binding["roleRef"]["name"]
    (subject,) = binding["subjects"]
    for key in ("name", "namespace"):
        assert account["metadata"][key] == subject[key]
    assert {"get", "list", "watch"} == {right.verb for right in rights()}
    assert not any("*" in (right.group, right.resource) for right in rights())


@pytest.mark.parametrize("resource", ["secrets", "configmaps", "pods/exec", "pods/log"])
def test_what_it_may_not_see(resource: str) -> None:
    """None of this is needed."""
    assert resource not in {right.resource for right in rights()}
