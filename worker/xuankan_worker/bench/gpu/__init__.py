"""`xuankan bench gpu`: our worker on a GPU beside what a user would run instead.

Each system is measured in a process of its own: `crossencoder`, `plain`, `raw` and `served` are the systems,
`peak` and `reference` what they are compared with. `models` makes what they run and `plan` starts them one
after the other; `goals` and `report` say what came of it.
"""
