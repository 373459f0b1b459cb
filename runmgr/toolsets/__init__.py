"""Toolsets: collections of tools, and what changes how they look or are called."""

from runmgr.toolsets.abstract import AbstractToolset, ToolsetFunc, ToolsetTool
from runmgr.toolsets.approval_required import ApprovalRequiredToolset
from runmgr.toolsets.combined import CombinedToolset
from runmgr.toolsets.dynamic import DynamicToolset
from runmgr.toolsets.external import DeferredToolset, ExternalToolset
from runmgr.toolsets.filtered import FilteredToolset
from runmgr.toolsets.function import FunctionToolset
from runmgr.toolsets.manager import ToolManager
from runmgr.toolsets.prefixed import PrefixedToolset
from runmgr.toolsets.prepared import PreparedToolset
from runmgr.toolsets.renamed import RenamedToolset
from runmgr.toolsets.wrapper import WrapperToolset

__all__ = (
    "AbstractToolset",
    "ApprovalRequiredToolset",
    "CombinedToolset",
    "DeferredToolset",
    "DynamicToolset",
    "ExternalToolset",
    "FilteredToolset",
    "FunctionToolset",
    "PrefixedToolset",
    "PreparedToolset",
    "RenamedToolset",
    "ToolManager",
    "ToolsetFunc",
    "ToolsetTool",
    "WrapperToolset",
)
