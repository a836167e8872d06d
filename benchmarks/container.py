"""Builds the container image, starts the services of the compose file, and makes them fail.

Needs root, podman, buildah and debootstrap (Debian's packages), and a network for the build. What
is started is read from install/container/compose.yaml, so it is what a user starts; without
memory and CPU limits where the machine has no such cgroup controllers.

    python benchmarks/container.py                     debootstrap, build, start, fail: minutes
    python benchmarks/container.py --image edgeinspect an image that exists already
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "install" / "container"
BASE = "localhost/edgeinspect-test-base:latest"
IMAGE = "localhost/edgeinspect-test:latest"
OWN_MOUNTS = "EDGEINSPECT_OWN_MOUNTS"
"""Variable that is set in the mount namespace of the test."""


def main() -> int:
    """Parse the arguments and run; 0 if everything held."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--image", help="an existing image, instead of a build")
    parser.add_argument("--secret", action="append", default=[], help="as of buildah build")
    options = parser.parse_args()
    missing = [name for name in ("podman", "buildah", "crun") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        sys.exit(f"container: needs root and {', '.join(missing or ['nothing else'])}")
    enter_mounts()
    with tempfile.TemporaryDirectory(prefix="edgeinspect-container-") as folder:
        podman = Podman(Path(folder))
        image = options.image
        if image is None:
            image = IMAGE
            timed("base by debootstrap", lambda: make_base(podman, Path(folder)))
            timed("image", lambda: build(podman, options.secret))
        with services(podman, image, ("line", "hmi", "archive")):
            return try_faults(podman)


def enter_mounts() -> None:
    """Start this program again in a mount namespace with a pure tree of cgroups.

    crun refuses a tree with controllers of both versions, as some virtual machines have. One
    namespace for all: the volume in memory is mounted in it.
    """
    if OWN_MOUNTS in os.environ:
        return
    script = 'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "--"]
    os.environ[OWN_MOUNTS] = "1"
    os.execvp(command[0], [*command, sys.executable, *sys.argv])


class Podman:
    """Podman with limits that an unprivileged virtual machine allows."""

    def __init__(self, folder: Path) -> None:
        settings = folder / "containers.conf"
        settings.write_text(
            '[containers]\ncgroups = "disabled"\n'
            'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings)}

    def __call__(self, *arguments: str, check: bool = True, program: str = "podman") -> str:
        """Run a command of podman, or of buildah; return its output."""
        done = subprocess.run(
            [program, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            sys.exit(f"container: {program} {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout.strip()


def timed(what: str, work: Callable[[], object]) -> None:
    """Print how long a step takes."""
    start_s = time.monotonic()
    work()
    print(f"{what}: {time.monotonic() - start_s:.1f} s", flush=True)


def make_base(podman: Podman, folder: Path) -> None:
    """Make a Debian image without a registry of images."""
    root = folder / "base"
    command = ["debootstrap", "--variant=minbase", "bookworm", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    archive = folder / "base.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    podman("import", str(archive), BASE)
    shutil.rmtree(root)
    archive.unlink()


def build(podman: Podman, secrets: list[str]) -> None:
    """Build the image by the Containerfile."""
    options = ["--isolation=chroot", "--network=host", "--format=docker", f"--tag={IMAGE}"]
    options += [f"--build-arg=BASE={BASE}", f"--file={FOLDER / 'Containerfile'}"]
    options += [f"--ignorefile={ROOT / '.containerignore'}"]
    options += [f"--secret={secret}" for secret in secrets]
    podman("build", *options, str(ROOT), program="buildah")
    size = podman("image", "inspect", "--format", "{{.Size}}", IMAGE)
    print(f"image: {int(size) / 1e6:.0f} MB")


@contextmanager
def services(podman: Podman, image: str, names: tuple[str, ...]) -> Iterator[None]:
    """Start services of the compose file, and remove all that they leave."""
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    compose = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    volumes = [name for name in compose["volumes"] if name not in ("prometheus", "grafana")]
    try:
        for name in volumes:
            options = (compose["volumes"][name] or {}).get("driver_opts", {})
            flags = [f"--opt={key}={value}" for key, value in options.items()]
            podman("volume", "create", *flags, volume_name(name))
        for name in names:
            podman("run", *run_options(name, compose["services"][name], image))
        yield
    finally:
        for name in names:
            podman("rm", "--force", "--time=2", container_name(name), check=False)
        for name in volumes:
            podman("volume", "rm", "--force", volume_name(name), check=False)


def container_name(service: str) -> str:
    """Return the name of a service's container."""
    return f"edgeinspect-test-{service}"


def volume_name(volume: str) -> str:
    """Return the name of a volume."""
    return f"edgeinspect-test-{volume}"


def run_options(name: str, service: dict[str, Any], image: str) -> list[str]:
    """Translate a service of the compose file into options of `podman run`."""
    options = ["--detach", "--pull=never", f"--name={container_name(name)}", "--read-only"]
    options += [f"--cap-drop={each}" for each in service["cap_drop"]]
    options += [f"--security-opt={each.replace(':true', '')}" for each in service["security_opt"]]
    options += [f"--tmpfs={each}" for each in service["tmpfs"]]
    options += [f"--env={key}={value}" for key, value in service["environment"].items()]
    options += [f"--network={service['network_mode']}"]
    if "user" in service:
        options.append(f"--user={service['user']}")
    for volume in service["volumes"]:
        source, rest = volume.split(":", 1)
        where = str((FOLDER / source).resolve()) if source.startswith(".") else volume_name(source)
        options.append(f"--volume={where}:{rest}")
    return [*options, image, *service["command"]]


def try_faults(podman: Podman) -> int:
    """Make the services fail; print what held and return 0 if everything did."""
    failures = 0

    def expect(what: str, holds: Callable[[], object], timeout_s: float = 60) -> None:
        nonlocal failures
        start_s = time.monotonic()
        while not (held := bool(holds())) and time.monotonic() - start_s < timeout_s:
            time.sleep(0.5)
        failures += not held
        print(f"{'held' if held else 'FAILED'} ({time.monotonic() - start_s:.1f} s): {what}")

    def run(service: str, *command: str) -> str:
        return podman("exec", container_name(service), *command, check=False)

    def health(service: str) -> str:
        return run(service, "/usr/lib/edgeinspect/supervisor.py", "--health")

    def signal_daemon(number: int) -> None:
        script = (
            "import os\nfor p in os.listdir('/proc'):\n"
            "    if p.isdigit() and p != '1' and b'edgeinspect\\0run' in "
            "open(f'/proc/{p}/cmdline', 'rb').read():\n"
            f"        os.kill(int(p), {number})"
        )
        run("line", "/usr/bin/python3", "-c", script)

    def page() -> int:
        try:
            with urllib.request.urlopen("http://127.0.0.1:8480/api/state", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def log() -> str:
        command = ["podman", "logs", container_name("line")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    expect("the line inspects", lambda: health("line").startswith("inspecting"))
    expect("the HMI shows it", lambda: page() == 200)
    expect("verdicts", lambda: run("line", "edgeinspect", "watch", "--count", "3", "--json"))
    expect("images are archived", lambda: re.search(r"[1-9]\d* saved", health("archive")))
    root = run("line", "/usr/bin/python3", "-c", "open('/opt/x', 'w')")
    expect("the root file system is read-only", lambda: root == "")
    expect("no pip in the image", lambda: "pip" not in run("line", "ls", "/opt/edgeinspect/bin"))

    signal_daemon(9)
    expect("kill -9 is noticed", lambda: "ended by signal 9" in log())
    expect("and mended", lambda: health("line").startswith("inspecting"))
    signal_daemon(19)
    expect("a stopped daemon is noticed", lambda: "does not notify its watchdog" in log())
    expect("and mended", lambda: log().count("restarting") >= 2 and page() == 200)
    verify = ["edgeinspect", "ledger", "verify", "/etc/edgeinspect/example.yaml", "--json"]
    expect("the ledger holds", lambda: json.loads(run("line", *verify)).get("holds"))

    podman("stop", container_name("line"))
    state = podman("inspect", "--format", "{{.State.ExitCode}}", container_name("line"))
    expect("it stops in order", lambda: state == "0")
    expect("the HMI shows that nothing is inspected", lambda: page() == 503)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
