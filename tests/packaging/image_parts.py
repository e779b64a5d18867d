"""The image, built by buildah without a daemon, and a way to run what is in it as a restricted pod does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from podsecurity import containers

ROOT = Path(__file__).parent.parent.parent
BASE = os.environ.get("VEDETTE_BASE_IMAGE", "")
"""An image to build on, where a registry can be reached; else Debian's own Python is put into one by debootstrap."""
_MISSING = [name for name in ("buildah", "debootstrap", "unshare", "setpriv", "ip") if shutil.which(name) is None]
LACKS = (
    "it takes root" if os.geteuid() else f"it takes apt-get install {' '.join(_MISSING)} (iproute2)" if _MISSING else ""
)
"""Why no image can be built here, or nothing."""
_SETTINGS = ("cert", "client-cert", "index-url", "extra-index-url", "proxy", "timeout", "trusted-host")

POD = """
set -e
root=$1 conf=$2 account=$3 readonly=$4 sockets=$5; shift 5
mount --make-rprivate /
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=2777,gid=10001 tmpfs "$root/var/lib/vedette"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$conf" "$root/etc/vedette/conf.d"
mount -o remount,ro,bind "$root/etc/vedette/conf.d"
[ -z "$account$sockets" ] || mount -t tmpfs tmpfs "$root/run"
[ -z "$sockets" ] || mkdir "$root$sockets"
if [ -n "$account" ]; then
    mkdir -p "$root/run/secrets/kubernetes.io/serviceaccount"
    mount --bind "$account" "$root/run/secrets/kubernetes.io/serviceaccount"
else
    ip link set lo up
fi
[ -z "$readonly" ] || mount -o remount,ro,bind "$root"
exec chroot "$root" setpriv "$@"
"""
"""Its namespaces are its own, but for the network if it asks an API server; state and /tmp are an emptyDir."""


class Buildah:
    """buildah with everything it keeps in one folder.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._common = ["buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run")]

    def __call__(self, *arguments: str | Path, timeout: float = 1200) -> str:
        command = [*self._common, "--storage-driver", "vfs", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()

    def base(self) -> str:
        """The name of an image with Python, and nothing else of note."""
        if BASE:
            return BASE
        tree = self._folder / "debian"
        command = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
        done = subprocess.run(
            [*command, _codename(), str(tree), _mirror()], capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stdout[-1500:]
        for leftover in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(tree / leftover)
        container = self("from", "scratch")
        self("copy", "-q", container, tree, "/")
        self("commit", "-q", container, "localhost/python")
        self("rm", container)
        shutil.rmtree(tree)
        return "localhost/python"

    def build(self, base: str) -> str:
        """Build the Dockerfile as it stands; the name of the image."""
        settings, options = _pip(), ["--isolation", "chroot"]
        (self._folder / "pip.conf").write_text("[global]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))
        if "cert" in settings:  # authorities that this machine trusts and the image knows nothing of
            options += ["-v", f"{settings['cert']}:{settings['cert']}:ro"]
        options += ["--secret", f"id=pip_conf,src={self._folder / 'pip.conf'}", "--build-arg", f"BASE_IMAGE={base}"]
        self("bud", *options, "-f", ROOT / "packaging" / "docker" / "Dockerfile", "-t", "localhost/vedette", ROOT)
        return "localhost/vedette"

    def size(self, image: str) -> str:
        """As `buildah images` says it."""
        return self("images", "--format", "{{.Size}}", image)

    def settings(self, image: str) -> dict[str, object]:
        """The image's own: user, entry point, environment, volumes."""
        found: dict[str, object] = json.loads(self("inspect", "--type", "image", image))["OCIv1"]["config"]
        return found


@contextmanager
def stored(folder: Path) -> Iterator[Buildah]:
    """A buildah whose containers and images are gone afterwards."""
    buildah = Buildah(folder)
    try:
        yield buildah
    finally:
        buildah("umount", "--all")
        buildah("rm", "--all")
        shutil.rmtree(folder, ignore_errors=True)


def confined(spec: dict[str, Any], name: str) -> tuple[bool, list[str]]:
    """What a container's security context comes to: whether its root is read-only; what `setpriv` is told."""
    (one,) = [one for one in containers(spec) if one["name"] == name]
    context = {**spec["securityContext"], **one["securityContext"]}
    known = {
        "allowPrivilegeEscalation", "capabilities", "fsGroup", "fsGroupChangePolicy", "readOnlyRootFilesystem",
        "runAsGroup", "runAsNonRoot", "runAsUser", "seccompProfile", "supplementalGroups",
    }  # fmt: skip
    assert set(context) <= known
    groups = ",".join(map(str, [context["fsGroup"], *context.get("supplementalGroups", [])]))
    told = [f"--reuid={context['runAsUser']}", f"--regid={context['runAsGroup']}", f"--groups={groups}"]
    capabilities = context.get("capabilities", {})
    if "ALL" in capabilities.get("drop", []):
        kept = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities.get("add", []))])
        told += [f"--bounding-set={kept}", "--inh-caps=-all"]
    if context.get("allowPrivilegeEscalation") is False:
        told.append("--no-new-privs")
    return bool(context.get("readOnlyRootFilesystem")), told


def in_a_pod(
    root: Path,
    conf: Path,
    spec: dict[str, Any],
    *command: str,
    container: str = "vedette",
    account: Path | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command in the image's tree as a pod does, with what its security context says.

    Args:
        root: where the image's tree is.
        conf: a folder that becomes /etc/vedette/conf.d.
        spec: the pod, as rendered.
        command: the command, variables of the environment before it.
        container: which of the pod's it is.
        account: a folder that becomes the service account's; its API server is asked over this machine's loopback.
        timeout: seconds.
    """
    readonly, told = confined(spec, container)
    sockets = "/run/vedette" if any(one["name"] == "sockets" for one in spec["volumes"]) else ""
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", *([] if account else ["--net"])]
    where = [str(root), str(conf), str(account or ""), "yes" if readonly else "", sockets]
    return subprocess.run(
        [*own, "sh", "-c", POD, "sh", *where, *told, "env", "-i", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def _codename() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else "stable"


def _mirror() -> str:
    """Where apt gets Debian from on this machine."""
    lists = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(path.read_text() for path in lists if path.is_file() and path.suffix in (".list", ".sources"))
    found = re.search(r"^(?:URIs:|deb(?: \[.*\])?) *(\S+/debian/?)(?:\s|$)", text, re.MULTILINE)
    return found[1] if found else "http://deb.debian.org/debian"


def _pip() -> dict[str, str]:
    """What pip on this machine goes by to reach its index."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", done.stdout, re.MULTILINE))
    return {key: value for key, value in found.items() if key in _SETTINGS and "file:" not in value}
