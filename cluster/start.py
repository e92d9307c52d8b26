"""Start Ray on a node, as every launcher template here does: with a token, the dashboard on loopback, nothing reported.

    python -m cluster.start head [--port=6379 and other options of `ray start --head`]
    python -m cluster.start join HEAD:6379 [--detach | --once] [options of `ray start`]

`head` makes the token file if there is none, and comes back when the head runs. `join` stays (cluster/stay.py), so that
a node that was cut off comes back; with --detach it does so in the background, its words in ~/.ray/join.log; with
--once it comes back as `head` does. Only one `join` runs on a machine: a new one ends the one before.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.connect import Unreachable
from cluster.stay import end_earlier, stay
from cluster.token import MODE, make_token, token_file, use_token

ROOT = Path(__file__).parent.parent
_EVERYWHERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a task that asks for no GPU must see none
}
_ADVICE = """
The dashboard and the address for jobs listen on loopback. From your laptop:

    ssh -N -L {dashboard}:127.0.0.1:{dashboard} {user}@{host}

and copy {token} to ~/.ray/auth_token there (mode 0600). A further node needs the same file, and then:

    python -m cluster.start join {host}:{port}

Firewall: port {port} and the ports that Ray picks for its nodes and workers (1024 to 65535) listen on all interfaces.
Let the cluster's own machines in, and nobody else: the token keeps strangers out, but it travels unencrypted.
"""


def head(options: Sequence[str]) -> None:
    """Start the head and say how it is reached. Raises Unreachable for what would leave it open or can't start."""
    dashboard = value_of(options, "--dashboard-host") or "127.0.0.1"
    refuse_open(os.environ.get(MODE, "token"), dashboard)
    token = make_token()
    use_token()
    words = [
        "--head",
        f"--dashboard-host={dashboard}",
        "--include-dashboard=true",
        *without(options, "--dashboard-host"),
    ]
    advice = _ADVICE.format(
        token=token,
        user=os.environ.get("USER") or "root",
        host=value_of(options, "--node-ip-address") or os.uname().nodename,
        port=value_of(options, "--port") or "6379",
        dashboard=value_of(options, "--dashboard-port") or "8265",
    )
    if "--block" in options:  # it does not come back
        sys.stdout.write(advice)
        sys.stdout.flush()
    if subprocess.run([*_ray_start(), *words], env=environment(), stdout=sys.stderr).returncode:
        raise Unreachable(
            "the head did not start, see above; is another one running here? `ray stop` ends it"
        )
    sys.stdout.write(advice)


def refuse_open(mode: str, dashboard: str) -> None:
    """Raises Unreachable when a head would listen to others without asking for the token.

    Ray's control store listens on all interfaces whatever the dashboard does, so there is no head without a token.
    """
    if mode != "token":
        raise Unreachable(
            f"{MODE}={mode}: a head listens on all interfaces, and without a token whoever reaches it runs code here; "
            f"unset {MODE} (the token is then made by itself)"
        )
    if not is_loopback(dashboard):
        sys.stderr.write(
            f"the dashboard listens on {dashboard}: with the token, but unencrypted; "
            "127.0.0.1 and an ssh tunnel is safer\n"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def join(address: str, options: Sequence[str]) -> None:
    """Make this machine a node of the cluster whose head is at host:port. Raises Unreachable without a token."""
    if use_token() is None:
        raise Unreachable(
            f"there is no token for the head {address} in {token_file()} (or {MODE} is not token); copy the head's "
            "file there, mode 0600"
        )
    end_earlier()
    if "--detach" in options:
        _detach([address, *(option for option in options if option != "--detach")])
        return
    once = "--once" in options
    command = [*_ray_start(), f"--address={address}", *(option for option in options if option != "--once")]
    if not once:
        stay(address, [*command, "--block"], environment())
    elif subprocess.run(command, env=environment()).returncode:
        raise Unreachable(
            f"this node did not join {address}, see above; is the head up, and the token its own?"
        )


def _detach(words: Sequence[str]) -> None:
    """`join` in a process that outlives this one and its terminal."""
    log = token_file().parent / "join.log"
    with log.open("wb") as out:
        subprocess.Popen(
            [sys.executable, "-m", "cluster.start", "join", *words],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    sys.stdout.write(f"joining {words[0]} in the background; {log} says how it goes\n")


def environment() -> dict[str, str]:
    """This process's, and what Ray's nodes and their workers take from here: this code, and few settings."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        **{name: os.environ.get(name, value) for name, value in _EVERYWHERE.items()},
    }


def _ray_start() -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", "start"]


def value_of(options: Sequence[str], name: str) -> str | None:
    """The value of `--name=value` or `--name value` among options."""
    for at, option in enumerate(options):
        if option == name and at + 1 < len(options):
            return options[at + 1]
        if option.startswith(f"{name}="):
            return option.partition("=")[2]
    return None


def without(options: Sequence[str], name: str) -> list[str]:
    """Options without `name` and its value."""
    value = value_of(options, name)
    gone = {f"{name}={value}"} if f"{name}={value}" in options else {name, value}
    return [option for option in options if option not in gone]


def main() -> None:
    """Entry point."""
    words = sys.argv[1:]
    try:
        if words[:1] == ["head"]:
            head(words[1:])
        elif words[:1] == ["join"] and len(words) > 1 and ":" in words[1]:
            join(words[1], words[2:])
        else:
            sys.stderr.write(f"{__doc__}\n")
            raise SystemExit(2)
    except Unreachable as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(3) from error


if __name__ == "__main__":
    main()
