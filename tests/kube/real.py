"""A real kube-apiserver with its etcd, on loopback, in a folder of its own."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.kube.rbac import documents

APISERVER = os.environ.get("WATTKEEPER_TEST_KUBE_APISERVER", "")
ETCD = os.environ.get("WATTKEEPER_TEST_ETCD") or shutil.which("etcd") or ""
_READY_S = 60.0


@dataclass
class RealApi:
    """The server, as its administrator."""

    url: str
    etcd: str
    folder: Path
    session: aiohttp.ClientSession
    admin: str
    """The administrator's token."""

    async def call(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        """Send a request; return what is answered. Raises where it is refused."""
        content = {
            "json": "application/json",
            "merge": "application/merge-patch+json",
        }[kind]
        async with self.session.request(
            method,
            self.url + path,
            data=body and json.dumps(body),
            headers={"Content-Type": content},
        ) as answer:
            if answer.status >= 300:
                raise OSError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def create(self, path: str, item: dict[str, Any]) -> dict[str, Any]:
        """Create an object, and its status if it has one; return it."""
        made: dict[str, Any] = await self.call("POST", path, item)
        if item.get("status"):
            status = {"status": item["status"]}
            name = item["metadata"]["name"]
            made = await self.call("PATCH", f"{path}/{name}/status", status, "merge")
        return made

    async def compact(self) -> None:
        """Let etcd forget everything but the newest state."""
        # Without the administrator's token: etcd has no users, and refuses those it does not know.
        async with aiohttp.ClientSession(self.etcd) as session:
            async with session.post("/v3/kv/range", json={"key": "eA=="}) as answer:
                revision = (await answer.json(content_type=None))["header"]["revision"]
            body = {"revision": revision, "physical": True}
            async with session.post("/v3/kv/compaction", json=body) as answer:
                answer.raise_for_status()

    async def grant(self) -> Path:
        """Apply the manifest of rights; return a file with a bound token of its account."""
        account, role, binding = documents()
        namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
        await self.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        await self.create(accounts, account)
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await self.create(f"{rbac}/clusterroles", role)
        await self.create(f"{rbac}/clusterrolebindings", binding)
        request = {"spec": {"expirationSeconds": 3600}}
        made = await self.call("POST", f"{accounts}/{name}/token", request)
        file = self.folder / "bound-token"
        file.write_text(made["status"]["token"])
        return file

    @property
    def authority(self) -> Path:
        """The certificate that the server made for itself."""
        return self.folder / "certificates/apiserver.crt"


@asynccontextmanager
async def real_api(folder: Path, *, watch_cache: bool) -> AsyncIterator[RealApi]:
    """Start etcd and kube-apiserver; stop both afterwards.

    Without its watch cache the server answers from etcd, and forgets as soon as that is compacted.
    """
    client, peer, secure = _ports(3)
    admin = "admin-of-the-test"
    etcd = f"http://127.0.0.1:{client}"
    (folder / "tokens.csv").write_text(f'{admin},admin,1,"system:masters"\n')
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)  # noqa: ASYNC221 -- before anything runs
    commands = (
        [
            ETCD, f"--data-dir={folder / 'etcd'}", "--log-level=error",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ],
        [
            APISERVER, f"--etcd-servers={etcd}", "--bind-address=127.0.0.1",
            f"--secure-port={secure}", f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24", f"--watch-cache={str(watch_cache).lower()}",
            "--disable-admission-plugins=ServiceAccount", "--profiling=false",
        ],
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {admin}"}
    connector = aiohttp.TCPConnector(ssl=False)
    with (folder / "log").open("w") as log:
        programs = [subprocess.Popen(c, stdout=log, stderr=log) for c in commands]  # noqa: ASYNC220 -- they outlive the call
        try:
            async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
                api = RealApi(f"https://127.0.0.1:{secure}", etcd, folder, session, admin)
                await _ready(api, programs)
                yield api
        finally:
            for program in reversed(programs):
                program.kill()
                program.wait()


async def _ready(api: RealApi, programs: "list[subprocess.Popen[bytes]]") -> None:
    async with asyncio.timeout(_READY_S):
        while True:
            for program in programs:
                if program.poll() is not None:
                    log = (api.folder / "log").read_text()[-2000:]
                    raise OSError(f"{program.args!r} ended: {log}")
            try:
                async with api.session.get(f"{api.url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # not listening yet
            await asyncio.sleep(0.2)


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
