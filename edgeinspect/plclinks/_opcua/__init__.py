"""The OPC UA server behind `plclinks/opcua.py`; imported when a link is opened: it needs asyncua.

`identity` and `trust` are certificates, `access` says who may do what, `sessions` and `channel`
hold asyncua's server to that and to bounds, `inputs` is what clients write, `nodes` what they read.
"""
