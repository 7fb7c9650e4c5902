"""What each task does before and after the graph; a manifest names the task, and no family is known here."""
