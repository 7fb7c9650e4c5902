"""The job table, leases, events and the queue that wakes workers; free of torch.

The row of a job is the truth. A message in the queue only says that there may be something to claim, so a
lost, doubled or late message changes nothing. See docs/jobs.md.
"""
