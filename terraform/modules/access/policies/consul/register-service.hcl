# What a replica of the service needs besides if it does not run as a Nomad job: it registers itself. In a Nomad job,
# Nomad does that, with an identity of its own.

# The API.
service "${prefix}-service" {
  policy = "write"
}

# The listener that proxies connect to.
service "${prefix}-link" {
  policy = "write"
}
