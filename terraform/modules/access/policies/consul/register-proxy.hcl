# What a proxy needs besides if it does not run as a Nomad job: it registers itself. In a Nomad job, Nomad does that,
# with an identity of its own.

service "${prefix}-proxy" {
  policy = "write"
}
