"""The pipelines: `evaluate`, which fans out over models and concepts, and `reevaluate`, which looks for new releases."""
