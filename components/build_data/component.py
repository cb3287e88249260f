"""KFP component build_data; thin: what it does is in `biasgym.stages`."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("cpu"), install_kfp_package=False)
def build_data(settings: str, store: str, data: dsl.Output[dsl.Dataset]):
    """Gathers settings and concepts into one folder that all pods read: what changes in the store reaches no pod half-way.

    Args:
        settings: From plan.
        store: URL of the store.
        data: The settings, and the concepts, one file each.
    """
    from pathlib import Path

    from biasgym.stages.expand import build_data

    build_data(settings, store, Path(data.path))
    data.metadata.update(kind="biasgym.data", schema_version=1.0)
