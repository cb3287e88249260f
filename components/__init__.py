"""KFP components, one folder each; `docs/pipelines.md` shows how they are wired."""
