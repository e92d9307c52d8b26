# The head of a Ray cluster in this shell, one step of the job on each node, and the command as their driver.
set -u
umask 077
cd "$code" || exit 3
export PYTHONPATH=$code PYTHONUNBUFFERED=1 RAY_AUTH_MODE=token
[ -z "$token" ] || export RAY_AUTH_TOKEN_PATH=$token
# /tmp/ray belongs to whoever was the first on a node; Ray's sockets need a short path.
scratch=/tmp/r$SLURM_JOB_ID
stopped='' driver=''

say() { printf '%(%F %T)T job %s: %s\n' -1 "$SLURM_JOB_ID" "$*"; }

stop() {
  stopped=$1
  say "SIG$1 ($2): ending in order"
  [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null
}
trap 'stop USR1 "the time limit is near"' USR1
trap 'stop TERM "preempted, requeued or cancelled"' TERM

finish() {
  scancel --signal=INT "$SLURM_JOB_ID" 2>/dev/null # its steps, which are the nodes
  kill -TERM -- "-$head" 2>/dev/null
  wait
  rm -rf "$scratch"
}

# Ports that nobody uses here: another job on this node, of whomever, has others. They are not listened on, or the wait
# for the head might find this process, which lives on for a moment.
free='import socket; all = [socket.socket() for _ in "12"]; print(*(s.bind(("", 0)) or s.getsockname()[1] for s in all))'
read -r port dashboard < <("$python" -c "$free")
read -r address _ < <(hostname -I)
say "start ${SLURM_RESTART_COUNT:-0} on $SLURM_JOB_NODELIST; Ray at $address:$port"

# The head has no cores and no GPUs of its own: its node takes part as the others do. A group of its own, to be ended whole.
setsid "$python" -m cluster.start head --block --node-ip-address="$address" --port="$port" \
  --dashboard-port="$dashboard" --dashboard-agent-listen-port=0 --temp-dir="$scratch" \
  --num-cpus=0 --num-gpus=0 --object-store-memory=500000000 &
head=$!
trap finish EXIT
until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
  kill -0 "$head" 2>/dev/null || { say "the head did not start, see above"; exit 3; }
  sleep 1
done

for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
  srun --export=ALL --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    "$python" -m cluster.slurm.node "$address:$port" --object-store-memory=1000000000 &
done

export RAY_ADDRESS=$address:$port
"$python" -m cluster.slurm.joined "$SLURM_JOB_NUM_NODES" || exit 3
[ -z "$stopped" ] || exit 0
say "orchestrator ${command[*]}"
"$python" -m orchestrator.cli "${command[@]}" &
driver=$!
# A signal ends a wait, not the driver; the last wait tells how the driver ended.
while wait "$driver"; kill -0 "$driver" 2>/dev/null; do :; done
wait "$driver"
code=$?
say "the command ended with code $code"
if [ "$stopped" = USR1 ] && [ "$code" -ne 0 ]; then
  say "another turn is asked for, in which it goes on"
  trap - EXIT
  finish
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
