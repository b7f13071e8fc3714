# For people who look at Consul's UI: they see everything of ours, save the tokens' hashes, and change nothing.

# Records and members.
key_prefix "${prefix}/" {
  policy = "read"
}

# Hashes of API tokens are nobody's business.
key_prefix "${prefix}/tokens/" {
  policy = "deny"
}

# Who holds the leader's lock.
session_prefix "" {
  policy = "read"
}

# The service and the proxies.
service_prefix "${prefix}-" {
  policy = "read"
}

# The sessions.
service_prefix "session-" {
  policy = "read"
}

# Consul leaves instances out of its answers if the node that they are on may not be read.
node_prefix "" {
  policy = "read"
}
