# What the service's job may read in its own Nomad namespace, besides its secrets: those are under nomad/jobs/, which
# Nomad lets each job read without a policy.

namespace "${namespace}" {
  variables {
    # The session templates that the template module puts there.
    path "${prefix}/templates/*" {
      capabilities = ["read"]
    }
  }
}
