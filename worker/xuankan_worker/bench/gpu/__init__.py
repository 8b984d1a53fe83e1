"""`xuankan bench gpu`: the worker on a GPU, next to what a user would run instead.

Each system is measured in a process of its own (`child`). `crossencoder`, `plain`, `raw` and `served` are the
systems; `peak` and `reference` are what they are compared with. `models` makes what they run, `run` starts
them one after another, and `goals` and `report` present the results.
"""
