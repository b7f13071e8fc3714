#!/bin/sh
# Records the wire fixtures beside this script from a fresh `consul agent -dev` without ACLs (first argument: its
# address). The one fixture that needs ACLs, txn_denied.json, is recorded when a second argument names an agent with
# default_policy = "deny".
set -eu
consul=$1
cd "$(dirname "$0")"

call() { curl -sS -X "$1" "$consul/v1/$2" ${3+-d "$3"}; }
base64ed() { printf %s "$1" | base64 -w 0; }

call PUT session/create '{"Name":"bivouac leader a","TTL":"10s","LockDelay":"0s","Behavior":"release","NodeChecks":[]}' >session_created.json
session=$(sed -n 's/.*"ID": *"\([^"]*\)".*/\1/p' session_created.json)
call GET "session/info/$session" >session.json
call PUT kv/bivouac/empty '' >/dev/null
lock='{"KV":{"Verb":"lock","Key":"bivouac/leader","Value":"'$(base64ed '{"replica":"a"}')'","Session":"'$session'"}}'
call PUT txn "[$lock]" >/dev/null
call GET 'kv/bivouac/leader?consistent' >kv.json
held='{"KV":{"Verb":"check-session","Key":"bivouac/leader","Session":"'$session'"}}'
create='{"KV":{"Verb":"cas","Key":"bivouac/a","Value":"'$(base64ed x)'","Index":0}}'
call PUT txn "[$held,$create]" >txn_applied.json
call PUT txn "[$held,$create]" >txn_refused.json
call DELETE kv/bivouac/a >/dev/null
# The lock is given back first, so that the list shows a key without a session.
call PUT "session/destroy/$session" >/dev/null
call GET 'kv/bivouac/?recurse&consistent' >kv_list.json
call PUT agent/service/register '{"ID":"a","Name":"session-x","Port":8080,"Tags":["bivouac-session"],"Meta":{"bivouac_generation":"1"},"Check":{"Name":"alive","TTL":"10m"}}'
call PUT agent/service/register '{"ID":"b","Name":"session-x","Address":"127.0.0.2","Port":8081}'
call GET catalog/service/session-x >catalog.json
call GET health/service/session-x >health.json
call PUT agent/service/deregister/a
call PUT agent/service/deregister/b
# The rest of the answer is the agent's whole configuration.
call GET agent/self | jq '{Config: .Config}' >agent_self.json

if [ $# -gt 1 ]; then
  consul=$2
  call PUT txn "[$create]" >txn_denied.json
fi
