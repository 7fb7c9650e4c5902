"""From a finished run to a version of the model repository, through the gate.

`main` and what it imports serve HTTP and know no torch; `job` and what it imports do the work in a worker.
"""
