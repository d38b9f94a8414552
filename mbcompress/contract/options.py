"""Options: the frozen pydantic models that every component is. A component *is* its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from mbcompress.errors import shown


class Options(BaseModel):
    """Settings with a name, a type, a default and a description each; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    def as_written(self) -> dict[str, Any]:
        """The options as a recipe would hold them; an object that YAML cannot hold is described."""
        return self.model_dump(mode="json", fallback=shown)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            annotation = cls.model_fields[info.field_name or ""].annotation
            kinds = set(get_args(annotation)) or {annotation}
            if bool not in kinds and kinds & {int, float}:
                raise ValueError(f"must be a number, got {shown(value)}")
        return value


class Component(Options):
    """Something a recipe can name. Subclasses set `name` and declare their options as pydantic fields."""

    name: ClassVar[str]

    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Options to try the component with. `({},)`, the defaults alone, will do unless some option has no default that
    could be right for everybody; `()` says that it cannot be tried without something of the user's, such as a file."""

    @classmethod
    def summary(cls) -> str:
        """First line of the class's docstring, for listings."""
        return (cls.__doc__ or "").strip().partition("\n")[0]
