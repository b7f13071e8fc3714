# What a proxy may do in Consul.

# The list of members: a proxy joins it before it serves anybody, and leaves it in the end.
key "${prefix}/members" {
  policy = "write"
}

# Its own document, and those of earlier boots on its host, which it removes.
key_prefix "${prefix}/proxies/" {
  policy = "write"
}

# Reads the record of each session that it is asked for. Writes only its revision, so that a stop cannot be committed
# whose leader this proxy has lost: Consul knows no right to do just that.
key_prefix "${prefix}/sessions/" {
  policy = "write"
}

# The public keys that users' tickets are checked with.
key_prefix "${prefix}/tickets/" {
  policy = "read"
}

# Which one-use links were used: whoever notes it first lets the user in.
key_prefix "${prefix}/tickets/used/" {
  policy = "write"
}

# Whose tickets were revoked. A proxy reads it, and revokes nothing.
key_prefix "${prefix}/revoked/" {
  policy = "read"
}

# The session that shows that it lives. Consul grants this by the name of the node, and a proxy may run on any.
session_prefix "" {
  policy = "write"
}

# Where the service listens for links.
service "${prefix}-link" {
  policy = "read"
}

# Where sessions listen.
service_prefix "session-" {
  policy = "read"
}

# Consul leaves instances out of its answers if the node that they are on may not be read.
node_prefix "" {
  policy = "read"
}
