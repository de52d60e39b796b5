"""The subcommands of `purser`, one file each; `deploy/cli.py` lists them."""
