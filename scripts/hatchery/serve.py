"""Starts Hatchery's development server on loopback only: it listens on all addresses by default, and has no setting for it."""

import runpy

import uvicorn

config = uvicorn.Config
uvicorn.Config = lambda app, **options: config(app, **(options | {"host": "127.0.0.1", "log_level": "warning"}))
runpy.run_module("hatchery.core.local_dev", run_name="__main__")
