//! Broker, node and client: RPC where everyone is named by a key.
