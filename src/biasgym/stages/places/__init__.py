"""Where each stage's results are: its folder, named by all that decides them, and its files. One module a stage.

Whoever plans, collects or reports needs no more of a stage than this, and so no model and no torch.
"""
