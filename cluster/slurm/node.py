"""One node of a job, run by srun: python -m cluster.slurm.node HEAD:PORT [options of `ray start`]

Slurm sends SIGTERM to every step when it preempts, requeues or cancels a job. The command that drives the job hears it,
too, and needs its nodes to end in order: so a node goes when the head has gone after it. SIGINT ends a node at once.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from cluster.connect import Unreachable
from cluster.start import environment
from cluster.token import use_token

AGAIN_S = 5.0
"""A node that was cut off is declared dead, and joins again after so long."""
END_S = 10.0
"""Ray has so long to end before it is killed."""
LOOK_S = 1.0


def stay(command: list[str], address: str) -> None:
    """Run `ray start --block` again and again, until SIGINT, or until the head is gone after a SIGTERM."""
    heard: set[int] = set()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: heard.add(number))

    def over() -> bool:
        return signal.SIGINT in heard or (signal.SIGTERM in heard and not _answers(address))

    while not over():
        ray = subprocess.Popen(command, env=environment(), start_new_session=True)
        while ray.poll() is None and not over():
            time.sleep(LOOK_S)
        if ray.poll() is None:
            ray.terminate()
            try:
                ray.wait(END_S)
            except subprocess.TimeoutExpired:
                os.killpg(ray.pid, signal.SIGKILL)
        else:
            sys.stderr.write(f"Ray has ended here (code {ray.returncode}); joining again\n")
            time.sleep(AGAIN_S)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), LOOK_S).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Entry point."""
    address, *options = sys.argv[1:]
    try:
        if use_token() is None:
            raise Unreachable("the head's token is not here; is the home folder shared? else give --token")
    except Unreachable as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(3) from error
    # Its own, as the head has its own: two that start at once in one folder take the same sockets.
    scratch = f"/tmp/r{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={address}"]
    command += [f"--temp-dir={scratch}", "--dashboard-agent-listen-port=0"]
    command += [f"--num-cpus={os.environ['SLURM_CPUS_PER_TASK']}"]
    command += [f"--num-gpus={os.environ.get('SLURM_GPUS_ON_NODE', '0')}", *options]
    try:
        stay(command, address)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
