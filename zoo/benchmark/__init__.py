"""The benchmark: tasks that measure states, on people who are held out."""
