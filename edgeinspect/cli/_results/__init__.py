"""Types of the documents that `--json` prints, except those that another module defines.

They are a contract with programs: a key keeps its name, type and unit; keys may be added. The
`schema` of a document changes its number when that does not hold.
"""
