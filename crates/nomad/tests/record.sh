#!/bin/sh
# Records the wire fixtures of the decode tests from a real agent on loopback:
#
#     tests/record.sh path/to/nomad [first free port]
#
# Needs curl, jq and pgrep. Ids and times differ from one recording to the next; the tests do not look at them.
set -eu

nomad=$(realpath "$1")
port=${2:-24646}
out=$(dirname "$(realpath "$0")")/fixtures
dir=$(mktemp -d)
api=http://127.0.0.1:$port
agent=

start_agent() {
    "$nomad" agent -config "$dir/agent.hcl" >>"$dir/log" 2>&1 &
    agent=$!
    until curl -sf "$api/v1/nodes" | jq -se 'any(.[][]; .Status == "ready")' >/dev/null; do sleep 0.2; done
}

clean_up() {
    kill -9 "$agent" 2>/dev/null || true
    for process in $(pgrep -f "$dir" || true); do kill -9 "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    # As root Nomad keeps secrets on file systems of their own.
    awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | xargs -r umount
    rm -rf "$dir"
}
trap clean_up EXIT

# until_true DESCRIPTION COMMAND…
until_true() {
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 150 ]; then
            echo "gave up waiting: $what" >&2
            exit 1
        fi
        sleep 0.1
    done
}

cat >"$dir/agent.hcl" <<HCL
bind_addr = "127.0.0.1"
data_dir  = "$dir/data"
name      = "recorder"
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
ports {
  http = $port
  rpc  = $((port + 1))
  serf = $((port + 2))
}
server {
  enabled          = true
  bootstrap_expect = 1
}
client {
  enabled           = true
  network_interface = "lo"
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
HCL

cat >"$dir/job.hcl" <<'HCL'
variable "script" {
  type = string
}
job "recorded" {
  type = "batch"
  meta = { bivouac_cluster = "recorded", bivouac_nonce = "n-1" }
  group "session" {
    network {
      port "http" {}
    }
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    ephemeral_disk {
      size = 50
    }
    task "backend" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", var.script]
      }
      logs {
        max_files     = 1
        max_file_size = 1
      }
      resources {
        cpu    = 20
        memory = 20
      }
    }
  }
}
HCL

# tree SCRIPT: the parsed job
tree() {
    jq -n --rawfile hcl "$dir/job.hcl" --arg script "$1" '{JobHCL: $hcl, Variables: "script = \"\($script)\""}' |
        curl -sf "$api/v1/jobs/parse" -d @-
}

# register ID SCRIPT [JQ EDIT OF THE JOB]
register() {
    tree "$2" | jq --arg id "$1" "{Job: (. + {ID: \$id, Name: \$id} | ${3:-.}), EnforceIndex: true, JobModifyIndex: 0}" |
        curl -s -w '\n%{http_code}\n' "$api/v1/jobs" -d @-
}

# client_status ID STATUS
client_status() {
    curl -sf "$api/v1/job/$1/allocations" | jq -se --arg status "$2" 'any(.[][]; .ClientStatus == $status)'
}

# allocation ID: the first allocation of a job, whole
allocation() {
    curl -sf "$api/v1/allocation/$(curl -sf "$api/v1/job/$1/allocations" | jq -r '.[0].ID')" | jq -c 'del(.Job)'
}

start_agent
life=session-aaaaaaaaaaaaaaaaaaaa-1
full=session-bbbbbbbbbbbbbbbbbbbb-1
exits=session-cccccccccccccccccccc-1
fails=session-dddddddddddddddddddd-1
again=session-eeeeeeeeeeeeeeeeeeee-1

# A whole life, as the stream tells it.
curl -sN "$api/v1/event/stream?topic=Job&topic=Allocation&topic=Evaluation&namespace=*" >"$out/stream.ndjson" &
stream=$!
tree "exec sleep 60" >"$out/parsed.json"
register $life "exec sleep 60" >/dev/null
until_true "running" client_status $life running
curl -sf "$api/v1/job/$life" >"$out/job.json"
curl -sf -X DELETE "$api/v1/job/$life" >"$out/stopped.json"
until_true "complete" client_status $life complete
curl -sf "$api/v1/job/$life/allocations" >"$out/job_allocations.json"
curl -sf -X DELETE "$api/v1/job/$life?purge=true" >/dev/null
until_true "the purge is told" grep -q '"Deleted":true' "$out/stream.ndjson"
kill $stream

# What can go wrong with a job that was accepted.
register $full "exit 0" '.TaskGroups[0].Tasks[0].Resources.MemoryMB = 99999999' >/dev/null
register $exits "exit 3" >/dev/null
register $fails "exit 0" '.TaskGroups[0].Tasks[0].Config.command = "/nowhere/to/be/found"' >/dev/null
until_true "blocked" sh -c "curl -sf '$api/v1/job/$full/evaluations' | jq -se 'any(.[][]; .Status == \"blocked\")'"
until_true "exited" client_status $exits failed
until_true "failed" client_status $fails failed
curl -sf "$api/v1/job/$full/evaluations" >"$out/evaluations.json"
allocation $exits >"$out/allocation_exited.json"
allocation $fails >"$out/allocation_failed.json"

# The host reboots: agent, executor and task die, and Nomad starts the task again on the same allocation.
register $again "exec sleep 60" >/dev/null
until_true "running" client_status $again running
kill -9 "$agent"
for process in $(pgrep -f "$dir"); do kill -9 "$process" || true; done
start_agent
restored() { allocation $again | jq -se '[.[].TaskStates.backend.Events[].Type] | (index("Failed Restoring Task") and (map(select(. == "Started")) | length == 2))'; }
until_true "started again" restored
allocation $again >"$out/allocation_restarted.json"
curl -sf "$api/v1/jobs?namespace=*&prefix=session-&meta=true" >"$out/jobs.json"
curl -sf "$api/v1/allocations?namespace=*&resources=true&task_states=true&filter=JobID+matches+%22%5Esession-%22" >"$out/allocations.json"

# Refusals: the text, then the status.
{
    register $again "exit 0"
    register session-ffffffffffffffffffff-1 "exit 0" '.TaskGroups = []'
    register session-ffffffffffffffffffff-1 "exit 0" '.NodePool = "nowhere"'
    curl -s -w '\n%{http_code}\n' "$api/v1/jobs/parse" -d '{"JobHCL": "job \"x\" { bogus }"}'
    curl -s -w '\n%{http_code}\n' "$api/v1/job/session-ffffffffffffffffffff-1"
    curl -s -w '\n%{http_code}\n' "$api/v1/jobs?region=mars"
} | jq -Rs 'split("\n") | reduce .[] as $line ({done: [], text: ""};
    if ($line | test("^[0-9]{3}$"))
    then {done: (.done + [{status: ($line | tonumber), text: (.text | rtrimstr("\n"))}]), text: ""}
    else .text += $line + "\n" end) | .done' >"$out/refusals.json"
curl -s -X DELETE "$api/v1/job/$again" >/dev/null
until_true "complete" client_status $again complete
