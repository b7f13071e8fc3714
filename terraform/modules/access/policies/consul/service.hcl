# What a replica of the service may do in Consul.

# Records, members, the leader's lock, tokens: all of it is the service's. Nobody else writes it, save the proxies their
# part of it.
key_prefix "${prefix}/" {
  policy = "write"
}

# The session that holds the leader's lock. Consul grants this by the name of the node, and a replica may run on any.
session_prefix "" {
  policy = "write"
}
