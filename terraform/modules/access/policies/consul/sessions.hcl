# What a session's own Consul token gets if its template asks for one: nothing of ours. It is attached to the tokens of
# all tasks in a namespace of sessions, so it only takes away: in Consul a denial wins over whatever else permits.

# Records decide who runs and who may enter.
key_prefix "${prefix}/" {
  policy = "deny"
}

# Consul grants sessions by the name of the node: who may write them may end the leader's lock and a proxy's sign of life.
session_prefix "" {
  policy = "deny"
}

# Where the service listens for links is not a session's business, and to register there would be to pose as the service.
service_prefix "${prefix}-" {
  policy = "deny"
}

# Only Nomad registers sessions, with an identity of its own: a task must not pose as another session, or remove it.
service_prefix "session-" {
  policy = "deny"
}
