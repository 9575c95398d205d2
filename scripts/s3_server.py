"""S3-compatible servers on loopback, for scripts/test-remote and scripts/bench-remote: Ceph's gateway or moto.

Installs what is missing: Debian's ceph packages (as root), and from the Python registry into target/s3-venv.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "target" / "s3-venv"
CEPH = ["ceph-mon", "ceph-osd", "radosgw", "ceph-common"]
KEY, SECRET = "AKPGAN", "SKPGANSKPGANSKPGAN"


class CannotInstall(Exception):
    """What is needed is not here and cannot be had."""


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def packages(*names):
    """Installs packages of the Python registry; gives the folder of their programs."""
    wanted = VENV / ("have-" + "-".join(name.split("[")[0] for name in names))
    if not wanted.exists():
        try:
            if not (VENV / "bin" / "pip").exists():
                run([sys.executable, "-m", "venv", VENV])
            run([VENV / "bin" / "pip", "install", "--quiet", *names], timeout=600)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            raise CannotInstall(f"{', '.join(names)}: {error}") from error
        wanted.touch()
    return VENV / "bin"


def install_ceph():
    if all(map(shutil.which, ["ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool"])):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise CannotInstall(f"{', '.join(CEPH)} are not installed, and only root can, on Debian")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Its services must not start: we start our own.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    try:
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        run(["apt-get", "update"], timeout=300, env=environment)
        run(["apt-get", "install", "-y", "--no-install-recommends", *CEPH], timeout=900, env=environment)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"{', '.join(CEPH)}: {error}") from error
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process=None, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process and process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError(f"nobody listens at port {port} after {seconds} s")


@contextlib.contextmanager
def moto(folder):
    """A mock in Python: up in seconds."""
    server, port = packages("moto[server]", "boto3") / "moto_server", free_port()
    with open(folder / "moto.log", "w") as log:
        process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def ceph(folder, gibibytes=1):
    """Ceph's object gateway over one monitor and one store in memory."""
    install_ceph()
    # So that who ends this script ends its servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = folder / "ceph"
    for name in ["mon", "osd", "rgw"]:
        (folder / name).mkdir(parents=True)
    fsid, monitor, gateway = uuid.uuid4(), free_port(), free_port()
    conf = folder / "ceph.conf"
    conf.write_text(f"""\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{monitor}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {gibibytes << 30}
mon allow pool size one = true
mon max pg per osd = 1000
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw data = {folder}/rgw
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
""")
    environment = {**os.environ, "CEPH_CONF": str(conf)}
    tool = lambda *command, timeout=60: run(command, env=environment, timeout=timeout)
    processes = []

    def ask(*command, timeout=60):
        # Now and then a client asks the monitor before it knows the cluster's name, and is refused.
        for left in reversed(range(10)):
            try:
                return tool(*command, timeout=timeout)
            except RuntimeError:
                if left == 0:
                    raise
                time.sleep(0.5)

    def start(*command):
        log = open(folder / f"{command[0]}.out", "w")
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        return processes[-1]

    try:
        monmap = folder / "monmap"
        tool("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{monitor}]", "--fsid", str(fsid), str(monmap))
        tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap))
        wait_for(monitor, start("ceph-mon", "-i", "a", "-f"))
        disk = str(uuid.uuid4())
        ask("ceph", "osd", "new", disk)
        tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        ask("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=here")
        disk = start("ceph-osd", "-i", "0", "-f")
        until = time.monotonic() + 60
        while json.loads(ask("ceph", "osd", "stat", "--format", "json"))["num_up_osds"] == 0:
            if time.monotonic() > until:
                raise RuntimeError("the store does not come up")
            if disk.poll() is not None:
                # For the same reason it gives up.
                disk = start("ceph-osd", "-i", "0", "-f")
            time.sleep(0.5)
        ask("radosgw-admin", "user", "create", "--uid=pgan", "--display-name=pgan", f"--access-key={KEY}", f"--secret-key={SECRET}", timeout=120)
        for left in reversed(range(3)):
            try:
                server = start("radosgw", "-n", "client.rgw", "-f")
                wait_for(gateway, server)
                break
            except RuntimeError:
                if left == 0 or server.poll() is None:
                    raise
        yield f"http://127.0.0.1:{gateway}"
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def environment(endpoint):
    """What a client needs to know, away from the settings of whoever runs this."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PGAN_"))}
    return {
        **kept,
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
