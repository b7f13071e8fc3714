# For people who look after sessions with Nomad's own tools: they see everything and change nothing.

namespace "${namespace}" {
  capabilities = [
    "list-jobs", # `nomad job status`
    "read-job",  # `nomad job status session-…`, `nomad alloc status`
    "read-logs", # `nomad alloc logs`
  ]
}

# Which node runs what, and whether it is well.
node {
  policy = "read"
}

# `nomad server members`, versions, the event buffer.
agent {
  policy = "read"
}
