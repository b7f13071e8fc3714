# What the service may do in one Nomad namespace in which sessions run. One such policy for each of these namespaces.
#
# Whoever may register jobs runs what they like as whom they like: give sessions namespaces of their own, and permit
# there only the drivers that their templates need (`namespace_drivers` in the access module).

namespace "${namespace}" {
  capabilities = [
    "list-jobs",       # its picture of all sessions, after a start and every few minutes
    "read-job",        # one session's job, allocations and evaluations, and the event stream about them
    "parse-job",       # turns the templates' HCL into JSON
    "submit-job",      # starts, stops and purges sessions; Nomad before 1.11.2 knows nothing finer
    "alloc-lifecycle", # a stop without a period of grace kills the tasks at once
    "read-logs",       # `bivouac logs`, and the last lines of a backend that failed
  ]
}

# Nomad's version, at start: older servers start the sessions of a lost node a second time.
agent {
  policy = "read"
}
