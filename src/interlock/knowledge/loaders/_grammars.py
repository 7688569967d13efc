"""Which syntax nodes are symbols, by language; facts about grammars, no behaviour."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BY_SUFFIX", "GRAMMARS", "Grammar"]


class Grammar(NamedTuple):
    """One tree-sitter grammar."""

    module: str
    """Python module of the grammar's wheel."""
    function: str
    """Its function that gives the language."""
    holders: frozenset[str]
    """Nodes whose members are symbols of their own: classes, modules, namespaces, traits."""
    leaves: frozenset[str]
    """Nodes that are kept whole: functions, methods, types, tables."""


def _grammar(module: str, holders: str, leaves: str, function: str = "language") -> Grammar:
    return Grammar(f"tree_sitter_{module}", function, frozenset(holders.split()), frozenset(leaves.split()))


_SCRIPT_HOLDERS = "class_declaration abstract_class_declaration class internal_module module"
_SCRIPT_LEAVES = """
    function_declaration generator_function_declaration method_definition interface_declaration type_alias_declaration
    enum_declaration abstract_method_signature
"""
_C_LEAVES = "function_definition struct_specifier union_specifier enum_specifier type_definition preproc_function_def"

GRAMMARS = {
    "python": _grammar("python", "class_definition", "function_definition"),
    "javascript": _grammar("javascript", _SCRIPT_HOLDERS, _SCRIPT_LEAVES),
    "typescript": _grammar("typescript", _SCRIPT_HOLDERS, _SCRIPT_LEAVES, "language_typescript"),
    "tsx": _grammar("typescript", _SCRIPT_HOLDERS, _SCRIPT_LEAVES, "language_tsx"),
    "go": _grammar("go", "", "function_declaration method_declaration type_declaration"),
    "rust": _grammar(
        "rust",
        "impl_item trait_item mod_item",
        "function_item struct_item enum_item union_item type_item macro_definition function_signature_item",
    ),
    "java": _grammar(
        "java",
        "class_declaration interface_declaration enum_declaration record_declaration annotation_type_declaration",
        "method_declaration constructor_declaration",
    ),
    "c": _grammar("c", "", _C_LEAVES),
    "cpp": _grammar(
        "cpp",
        "class_specifier namespace_definition struct_specifier",
        "function_definition union_specifier enum_specifier type_definition alias_declaration concept_definition",
    ),
    "csharp": _grammar(
        "c_sharp",
        "class_declaration interface_declaration struct_declaration record_declaration namespace_declaration",
        "method_declaration constructor_declaration property_declaration enum_declaration delegate_declaration",
    ),
    "ruby": _grammar("ruby", "class module singleton_class", "method singleton_method"),
    "php": _grammar(
        "php",
        "class_declaration interface_declaration trait_declaration enum_declaration",
        "function_definition method_declaration",
        "language_php",
    ),
    "shell": _grammar("bash", "", "function_definition"),
    "sql": _grammar(
        "sql",
        "",
        "create_table create_view create_materialized_view create_function create_index create_trigger create_type",
    ),
    "kotlin": _grammar("kotlin", "class_declaration object_declaration companion_object", "function_declaration"),
    "swift": _grammar("swift", "class_declaration protocol_declaration", "function_declaration init_declaration"),
    "scala": _grammar("scala", "class_definition object_definition trait_definition", "function_definition"),
}

BY_SUFFIX = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
    ".cts": "typescript",
    ".tsx": "tsx",
    ".go": "go",
    ".rs": "rust",
    ".java": "java",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".hh": "cpp",
    ".hpp": "cpp",
    ".hxx": "cpp",
    ".cs": "csharp",
    ".rb": "ruby",
    ".php": "php",
    ".sh": "shell",
    ".bash": "shell",
    ".sql": "sql",
    ".kt": "kotlin",
    ".kts": "kotlin",
    ".swift": "swift",
    ".scala": "scala",
}
