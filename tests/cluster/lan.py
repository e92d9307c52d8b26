"""A local network of machines made of Linux namespaces: each has its own network, processes, /etc, /home and /tmp.

A laptop holds the bridge; hosts hang on it by a cable (veth) each, and an sshd waits in each. All of it are namespaces
and mounts that live in one process's family: when that process ends, for whatever reason, the kernel takes all away,
and nothing of it was ever seen outside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

USER, HOME = "band", Path("/home/band")
SHARED = Path("/mnt/band")
"""The folder that all machines see."""
READY = "ready"
TOOLS = {
    "ip": "iproute2",
    "/usr/sbin/sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "nft": "nftables",
}
TOOLS |= dict.fromkeys(("unshare", "nsenter", "setpriv"), "util-linux")

# A layer above each folder takes what a machine writes there; what lies below stays readable, wherever Python is.
_MACHINE = r"""
set -eu
folder=$1 shared=$2 name=$3
hostname "$name"
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs "$folder"
layer() {
  local at=$folder$1
  mkdir -p "$at/over" "$at/work"
  chmod --reference="$1" "$at/over"
  mount -t overlay -o "lowerdir=$1,upperdir=$at/over,workdir=$at/work" overlay "$1"
}
for each in /etc /home /mnt /run "${@:4}"; do layer "$each"; done
mkdir -p /mnt/band /run/sshd
mount --bind "$shared" /mnt/band
sed -i '1i band:x:0:0::/home/band:/bin/bash' /etc/passwd  # the first of a uid is its name and home
printf '127.0.0.1 localhost %s\n' "$name" > /etc/hosts
mkdir -p -m 700 /home/band/.ssh
layer /tmp
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
echo ready
"""
_PROBE = r"""
mount -t tmpfs tmpfs /mnt
mkdir /mnt/over /mnt/work
mount -t overlay -o lowerdir=/etc,upperdir=/mnt/over,workdir=/mnt/work overlay /etc
ip link add here type veth peer name there
ip link add lan type bridge
nft list ruleset
"""
_STAY = "\nwhile sleep 3600 & wait $!; do :; done"  # as process 1 it takes in whoever was left by its parent
_SSHD = r"""
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/key_of_this_host
/usr/sbin/sshd -e -o UsePAM=no -o PidFile=none -o HostKey=/etc/ssh/key_of_this_host -o PermitRootLogin=prohibit-password
"""


@dataclass(frozen=True)
class Machine:
    """One machine; commands run in it as its user, in a login's environment."""

    name: str
    address: str
    pid: int
    """Its process 1, as it is called outside."""
    environment: Mapping[str, str]
    folder: str = str(HOME)
    """Where its commands start."""

    def command(self, words: str) -> list[str]:
        """Words of a shell that run there."""
        inside = f"cd {self.folder} && {words}"
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--uts", "--net", "--pid"]
        return [*enter, "env", "-i", *settings, "bash", "-c", inside]

    def run(self, words: str, seconds: float = 60, check: bool = True) -> str:
        """What a shell command prints there, both streams; fails with it when the command fails."""
        done = subprocess.run(
            self.command(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert not (check and done.returncode), f"{self.name}: {words}\n{done.stdout}"
        return done.stdout

    def start(self, words: str, log: Path) -> subprocess.Popen[bytes]:
        """A shell command that stays; what it prints goes to a file."""
        with log.open("wb") as out:
            return subprocess.Popen(
                self.command(words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def processes(self, word: str) -> list[psutil.Process]:
        """Its running processes whose command line has the word."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found


@dataclass(frozen=True)
class Lan:
    """The laptop, and the hosts by name."""

    laptop: Machine
    hosts: dict[str, Machine]

    def plug(self, host: str, state: str) -> None:
        """Take a host's cable out ("down") or put it in again ("up")."""
        _in_network(self.laptop.pid, f"link set to-{host} {state}")


def missing() -> str | None:
    """Why there can be no such network here; None where there can."""
    if os.geteuid():
        return "namespaces need root"
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    if gone := {package for tool, package in TOOLS.items() if not shutil.which(tool, path=path)}:
        return f"needs {', '.join(sorted(gone))}"
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-euc", _PROBE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else None


@contextlib.contextmanager
def lan(folder: Path, shared: Path, addresses: Mapping[str, str], checkout: Path) -> Iterator[Lan]:
    """A laptop at .2 of the hosts' network, with a checkout that it may write into, and a host at each address.
    Ask `missing` before.
    """
    with contextlib.ExitStack() as stack:
        laptop = stack.enter_context(_machine(folder, shared, "laptop", "", [str(checkout)]))
        net = next(iter(addresses.values())).rpartition(".")[0]
        _in_network(laptop, "link add lan type bridge")
        _in_network(laptop, f"address add {net}.2/24 dev lan")
        _in_network(laptop, "link set lan up")
        hosts = {}
        for name, address in addresses.items():
            pid = stack.enter_context(_machine(folder, shared, name, _SSHD, [], inside=laptop))
            cable = f"to-{name}"
            _in_network(laptop, f"link add {cable} type veth peer name eth0 netns {pid}")
            _in_network(laptop, f"link set {cable} master lan up")
            _in_network(pid, f"address add {address}/24 dev eth0")
            _in_network(pid, "link set eth0 up")
            _in_network(pid, f"route add default via {net}.2")
            hosts[name] = Machine(name, address, pid, login())
        tools = f"{checkout / '.venv' / 'bin'}:{login()['PATH']}"
        here = Machine(
            "laptop",
            f"{net}.2",
            laptop,
            {**login(), "PATH": tools, "PYTHONPATH": str(checkout)},
            str(checkout),
        )
        yield Lan(here, hosts)


def login() -> dict[str, str]:
    """The environment of a machine's user."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"HOME": str(HOME), "USER": USER, "LOGNAME": USER, "PATH": path, "LANG": "C.UTF-8", "TERM": "dumb"}


@contextlib.contextmanager
def _machine(
    folder: Path, shared: Path, name: str, more: str, layers: list[str], inside: int | None = None
) -> Iterator[int]:
    """Process 1 of a new machine, within another's processes or in the open."""
    own, log = folder / name, folder / f"{name}.log"
    own.mkdir()
    enter = ["nsenter", "--target", str(inside), "--net", "--pid"] if inside else []
    command = [*enter, "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--net", "--pid"]
    command += ["--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    command += ["bash", "-c", _MACHINE + more + _STAY, "bash", str(own), str(shared), name, *layers]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        while READY not in log.read_text().split():
            if process.poll() is not None:
                raise RuntimeError(f"no machine of namespaces can be made here: {log.read_text().strip()}")
            time.sleep(0.02)
        yield _first(process.pid)
    finally:
        process.kill()
        process.wait()


def _first(pid: int) -> int:
    """The process that unshare started, which is process 1 inside."""
    family = psutil.Process(pid)
    while family.name() != "bash":
        (family,) = family.children()
    return family.pid


def _in_network(pid: int, words: str) -> None:
    """`ip WORDS` in a machine's network; what else it sees is outside."""
    command = ["nsenter", "--target", str(pid), "--net", "ip", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise RuntimeError(f"ip {words}: {done.stderr.strip()}")
