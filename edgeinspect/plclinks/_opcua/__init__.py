"""The OPC UA server of `plclinks/opcua.py`; imported when a link is opened, as it needs asyncua.

`identity` and `trust` handle certificates, `access` authenticates and authorises clients,
`listener`, `channel`, `sessions` and `attributes` enforce that and `limits` on asyncua's server,
`inputs` is what clients write, `nodes` what they read.
"""
