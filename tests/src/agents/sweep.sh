# Cleans up after a group of agents: waits until its standard input ends, which also happens when the process that
# started the agents is killed, then kills the agents and every task of theirs, and removes their folder.
#
# Usage: sh -c "$(cat sweep.sh)" sweep DIR remove|keep. A line "keep" on standard input leaves the folder in place.
#
# A task is in a session of its own and outlives its agent by design; it is known by the mark in its environment, which
# every agent has and hands down.
dir=$1 files=$2
while read -r word; do files=$word; done

marked() {
  grep -alsF "BIVOUAC_AGENTS_DIR=$dir/" /proc/[0-9]*/environ | while IFS=/ read -r _ _ pid _; do
    [ "$pid" = $$ ] || echo "$pid"
  done
}

# Again and again: an agent that is killed after its task has started the task anew in between.
rounds=100
while pids=$(marked) && [ -n "$pids" ] && [ $rounds -gt 0 ]; do
  kill -KILL $pids 2>/dev/null
  rounds=$((rounds - 1))
  sleep 0.05
done

# What runs in a container has an environment of its own, but a control group that is named after the container.
for container in "$dir"/docker/data/containers/*; do
  for group in /sys/fs/cgroup/*/docker/"${container##*/}" /sys/fs/cgroup/docker/"${container##*/}"; do
    [ ! -d "$group" ] || kill -KILL $(cat "$group/cgroup.procs") 2>/dev/null
    # It is gone a moment later.
    [ ! -d "$group" ] || rmdir "$group" 2>/dev/null || { sleep 0.2 && rmdir "$group" 2>/dev/null; }
  done
done

# Nomad mounts a folder for secrets into each task's.
while read -r _ point _; do
  case $point in "$dir"/*) echo "$point" ;; esac
done </proc/mounts | sort -r | while read -r point; do umount -l "$point"; done

# A killed client leaves its tasks' control groups, by either version's layout.
for allocation in "$dir"/*/alloc/*; do
  id=${allocation##*/}
  rmdir /sys/fs/cgroup/*/nomad/"$id".* /sys/fs/cgroup/nomad.slice/*/"$id".* 2>/dev/null
done

[ "$files" = keep ] || rm -rf "$dir"
