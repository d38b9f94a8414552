"""The hooks of mbcompress. A plugin implements those it needs; each returns classes, never instances.

    import mbcompress

    @mbcompress.hookimpl
    def mbcompress_passes():
        return [MyPass]

The plugin's module is named by an entry point in the group `mbcompress`.
"""

import pluggy

from mbcompress.components import Dataset, ModelSource, Pass, Runtime

hookspec = pluggy.HookspecMarker("mbcompress")
hookimpl = pluggy.HookimplMarker("mbcompress")


@hookspec
def mbcompress_passes() -> list[type[Pass]]:  # type: ignore[empty-body]
    """Passes that recipes can list under `passes:`."""


@hookspec
def mbcompress_models() -> list[type[ModelSource]]:  # type: ignore[empty-body]
    """Model sources that recipes can name under `model: {source: …}`."""


@hookspec
def mbcompress_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Datasets that recipes can name under `data: {name: …}`."""


@hookspec
def mbcompress_runtimes() -> list[type[Runtime]]:  # type: ignore[empty-body]
    """Runtimes that recipes can list under `export:`."""
