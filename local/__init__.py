"""The one-machine stack: real servers out of wheels, and one supervisor over everything that runs."""
