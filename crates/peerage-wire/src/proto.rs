//! The generated messages, one module per protobuf package. Made by `cargo xtask codegen`.

/// What the two ends of a link say: `proto/peerage/link/v1/link.proto`.
pub mod link {
    /// Version 1.
    #[expect(missing_docs, reason = "generated: proto/ documents the fields")]
    pub mod v1 {
        include!("generated/peerage.link.v1.rs");
    }
}

/// What the peers of a mesh say: `proto/peerage/mesh/v1/mesh.proto`.
pub mod mesh {
    /// Version 1.
    #[expect(missing_docs, reason = "generated: proto/ documents the fields")]
    pub mod v1 {
        include!("generated/peerage.mesh.v1.rs");
    }
}

/// What a broker and its parties say: `proto/peerage/rpc/v1/rpc.proto`.
pub mod rpc {
    /// Version 1.
    #[expect(missing_docs, reason = "generated: proto/ documents the fields")]
    pub mod v1 {
        include!("generated/peerage.rpc.v1.rs");
    }
}

/// How two peers compare sets: `proto/peerage/reconcile/v1/reconcile.proto`.
pub mod reconcile {
    /// Version 1.
    #[expect(missing_docs, reason = "generated: proto/ documents the fields")]
    pub mod v1 {
        include!("generated/peerage.reconcile.v1.rs");
    }
}
