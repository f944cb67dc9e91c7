"""Installs the wheel on empty Debian systems, and builds and runs the image: `python -m tests.package_campaign`.

Needs root, Debian's packages `debootstrap`, `buildah` and `podman`, and 2 GB in `--folder`, which keeps the systems for
the next run. Every step prints a line.

- Debian 12 (Python 3.11) and Debian 13 (Python 3.13): a system that debootstrap makes, in a chroot. As root and as a
  user: a virtual environment, the wheel without any registry, `chatapi --version`, and a server that answers.
- The image: `buildah` builds the Dockerfile with chroot isolation. If no registry has the base image, it is made of
  Debian 13, which has the same version of Python. `podman` runs it with a read-only root; where it cannot, a chroot
  does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import requests

from chatapi.simulator import Simulator, running
from tests.databases import free_port
from tests.server_process import KEY, PROJECT
from tests.waiting import wait_for

SYSTEMS = {"bookworm": "3.11", "trixie": "3.13"}  # Debian 12 and 13, and their Python
MIRROR = "http://deb.debian.org/debian"
REQUIREMENTS = "requirements-replicas.txt"  # of the image; it contains that of the wheel
STEP_SECONDS = 900
BASE = "docker.io/library/python:3.13-slim"
IMAGE = "localhost/chatapi:test"
USER, USER_ID = "visitor", 4711
IMAGE_USER = 10001
NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


def run(*command: str | Path, **options: object) -> str:
    """Run a command to its end; return its output.

    Raises:
        SystemExit: it failed; its output is shown.
    """
    done = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command], capture_output=True, text=True, timeout=STEP_SECONDS, check=False, **options
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        )
    return str(done.stdout).strip()


def can_run(*command: str | Path) -> str | None:
    """Return None if a command succeeds, else its last words."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [""])[-1]


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def make_wheels(folder: Path) -> None:
    """Build the wheel and download the packages that it needs, for each version of Python."""
    clone = folder / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    run("git", "clone", "-q", PROJECT, clone)
    for version in SYSTEMS.values():
        wheels = folder / "wheels" / version
        shutil.rmtree(wheels, ignore_errors=True)
        options = ["--only-binary", ":all:", "--python-version", version, "--require-hashes", "-q"]
        run(sys.executable, "-m", "pip", "download", *options, "-r", clone / REQUIREMENTS, "--dest", wheels)
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", wheels, clone)


def make_system(folder: Path, suite: str) -> Path:
    """Return the folder of an empty Debian system; make it if it is not there."""
    root = folder / suite
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", suite, root, MIRROR)
        for name in ("proc", "sys"):  # which debootstrap leaves mounted where it could mount them
            can_run("umount", root / name)
        (root / "complete").touch()
    return root


@contextmanager
def answering(command: list[str], port: int, environment: Mapping[str, str] = NO_ENVIRONMENT) -> Iterator[None]:
    """Run a server that must answer: a health check, a chat and its messages; then stop it as an operator does."""
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        url = f"http://127.0.0.1:{port}"

        def is_ready() -> bool:
            if server.poll() is not None:
                log.seek(0)
                raise SystemExit(f"{' '.join(command)} ended with {server.returncode}\n{log.read()[-3000:]}")
            try:
                return requests.get(f"{url}/readyz", timeout=5).status_code == 200
            except requests.ConnectionError:
                return False

        try:
            wait_for(is_ready)
            body = {"user_message": "Count to 3", "developer_message": "Be brief.", "api_key": KEY}
            sent = requests.post(f"{url}/api/chat", json=body, timeout=30)
            assert (sent.status_code, sent.text) == (200, "1 2 3"), sent.text
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(60)
        assert status == 0, f"it ended with {status}"


def settings(port: int, upstream: str) -> dict[str, str]:
    """Return the settings of a server in a system or a container, which use the network of this machine."""
    return {"HOST": "127.0.0.1", "PORT": str(port), "OPENAI_BASE_URL": upstream, "NO_PROXY": "127.0.0.1"}


def install(root: Path, wheels: Path, upstream: str, user: str) -> str:
    """Install the wheel in a system as this user, run a server that answers, and return its version."""
    home = "/root" if user == "root" else f"/home/{USER}"
    if user != "root" and f"{USER}:" not in (root / "etc/passwd").read_text():
        run("chroot", root, "useradd", "--create-home", "--uid", str(USER_ID), USER)
    target = root / home.strip("/")
    shutil.rmtree(target / "wheels", ignore_errors=True)
    shutil.copytree(wheels, target / "wheels")
    port = free_port()
    names = {"HOME": home, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **settings(port, upstream)}
    words = [f"{name}={value}" for name, value in names.items()]
    inside = [
        "chroot",
        f"--userspec={user}",
        str(root),
        "/usr/bin/env",
        "--ignore-environment",
        f"--chdir={home}",
        *words,
    ]
    run(*inside, "python3", "-m", "venv", "--clear", "venv")
    pip = ["venv/bin/pip", "install", "-q", "--no-index", "--find-links", "wheels"]
    run(*inside, *pip, "openai-chat-api")
    version = run(*inside, "venv/bin/chatapi", "--version")
    with answering([*inside, "venv/bin/chatapi", "serve"], port):
        assert (target / "data/chatapi.db").stat().st_mode & 0o777 == 0o600
    shutil.rmtree(target / "data")
    return version


def build_image(folder: Path, root: Path) -> str:
    """Build the Dockerfile; return the origin of its base image."""
    origin = f"{BASE} of the registry"
    can_run("buildah", "--storage-driver=vfs", "rmi", "--force", IMAGE, BASE)  # of an earlier run
    if (refusal := can_run("buildah", "--storage-driver=vfs", "pull", BASE)) is not None:
        say(f"image: {BASE} cannot be pulled: {refusal}")
        origin = "Debian 13 made by debootstrap"
        make_base(root)
    wheels = folder / "wheels/3.13"
    build = ["buildah", "--storage-driver=vfs", "bud", "--isolation=chroot", "--pull-never", "--network=host"]
    run(*build, f"--volume={wheels}:/wheels:ro", "--format=docker", "-t", IMAGE, folder / "clone")
    return origin


def make_base(root: Path) -> None:
    """Make an image of a Debian system that has what the official one has: `python` and `pip`."""
    container = run("buildah", "--storage-driver=vfs", "from", "scratch")
    mount = Path(run("buildah", "--storage-driver=vfs", "mount", container))
    try:
        run("cp", "-a", f"{root}/.", mount)
        run("chroot", mount, "python3", "-m", "venv", "/opt/base")
        (mount / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        path = "PATH=/opt/base/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        run("buildah", "--storage-driver=vfs", "config", "--env", path, container)
    finally:
        run("buildah", "--storage-driver=vfs", "umount", container)
    run("buildah", "--storage-driver=vfs", "commit", "-q", container, BASE)
    run("buildah", "--storage-driver=vfs", "rm", container)


def check_image(upstream: str) -> None:
    """Run the image with a read-only root, let it answer, and print how it ran."""
    inspected = json.loads(run("buildah", "--storage-driver=vfs", "inspect", "--type=image", IMAGE))["Docker"]
    config = inspected["config"]
    assert config["User"] == str(IMAGE_USER)
    assert "/srv/data" in config["Volumes"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    port = free_port()
    words = [f"--env={name}={value}" for name, value in settings(port, upstream).items()]
    podman = [
        "podman",
        "--storage-driver=vfs",
        "--cgroup-manager=cgroupfs",
        "run",
        "--rm",
        "--network=host",
        "--read-only",
    ]
    podman += ["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]  # those of this machine may not be raised
    podman += ["--no-healthcheck"]  # it needs systemd; `exec` runs the check below
    podman += ["--cgroups=disabled", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pull=never"]
    refusal = can_run(*podman, IMAGE, "python", "-c", "pass")
    if refusal is None:
        with answering([*podman, "--name=chatapi-test", *words, IMAGE], port):
            health = config["Healthcheck"]["Test"][1:]
            run("podman", "--storage-driver=vfs", "exec", "chatapi-test", *health)
        say("image: podman ran it with a read-only root and no capabilities; it answered, its health check succeeds")
        return
    say(f"image: podman cannot run it here: {refusal}")
    container = run("buildah", "--storage-driver=vfs", "from", "--pull-never", IMAGE)
    mount = Path(run("buildah", "--storage-driver=vfs", "mount", container))
    try:
        run_in_chroot(mount, config, settings(port, upstream), port)
    finally:
        run("buildah", "--storage-driver=vfs", "umount", container)
        run("buildah", "--storage-driver=vfs", "rm", container)
    say("image: its files were read-only but for the volume, in a chroot, and it answered; its health check succeeds")


def run_in_chroot(mount: Path, config: dict[str, list[str]], environment: dict[str, str], port: int) -> None:
    """Run the image's command in a chroot whose root is read-only, in a mount namespace of its own."""
    names = [*config["Env"], *(f"{name}={value}" for name, value in environment.items())]
    inside = f"chroot --userspec={IMAGE_USER}:{IMAGE_USER} {mount} /usr/bin/env -i --chdir=/srv"
    prepare = (
        f"mount --bind {mount} {mount} && mount --bind {mount}/srv/data {mount}/srv/data && "
        f"mount -o remount,bind,ro {mount} && ! touch {mount}/srv/probe 2>/dev/null && "
    )
    quoted = " ".join(f"'{name}'" for name in names)
    server = ["unshare", "--mount", "sh", "-c", f"{prepare} exec {inside} {quoted} {' '.join(config['Cmd'])}"]
    with answering(server, port):
        health = ["chroot", f"--userspec={IMAGE_USER}", str(mount), "/usr/bin/env", "-i", *names]
        run(*health, *config["Healthcheck"]["Test"][1:])  # type: ignore[call-overload]


def check_manifests(folder: Path) -> None:
    """Validate the manifests of Kubernetes with `kubernetes-validate`, which is 100 MB large."""
    target = folder / "kubernetes"
    if not target.exists():
        run(sys.executable, "-m", "pip", "install", "-q", "--target", target, "kubernetes-validate")
    manifests = sorted((PROJECT / "deploy/kubernetes").glob("*.yaml"))
    environment = {**os.environ, "PYTHONPATH": str(target)}
    run(sys.executable, target / "bin/kubernetes-validate", "--strict", *manifests, env=environment)
    say(f"Kubernetes: {', '.join(path.name for path in manifests)} is valid")


def main() -> int:
    """Do all of it."""
    parser = argparse.ArgumentParser(description="Install the wheel on empty systems; build and run the image.")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "chatapi-packages"))
    parser.add_argument("--image-only", action="store_true", help="build and run the image, of wheels that are there")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("This needs root: it makes systems and enters them with chroot.")
    missing = [name for name in ("debootstrap", "buildah", "podman") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"Not installed: {', '.join(missing)}. On Debian: apt install {' '.join(missing)}")
    options.folder.mkdir(exist_ok=True)
    begun = time.monotonic()
    if not options.image_only:
        check_manifests(options.folder)
        make_wheels(options.folder)
    with running(Simulator()) as simulator:
        for suite, python in () if options.image_only else SYSTEMS.items():
            root = make_system(options.folder, suite)
            for user in ("root", USER):
                version = install(root, options.folder / "wheels" / python, simulator.url, user)
                say(f"Debian {suite}, Python {python}, as {user}: {version} is installed and answers")
        origin = build_image(options.folder, options.folder / "trixie")
        say(f"image: built with buildah and chroot isolation on {origin}")
        check_image(simulator.url)
    say(f"{time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
