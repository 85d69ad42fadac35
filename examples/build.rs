//! Makes Rust of `proto/notes.proto`: see `notes` in `lib.rs`.

fn main() -> Result<(), peerage_rpc_build::BuildError> {
    peerage_rpc_build::configure()
        .rpc_path("::peerage::rpc")
        .required("notes.Note", ["text"])
        .required("notes.DivideRequest", ["dividend", "divisor"])
        .one_way("notes.Notes/Write")
        .compile(&["proto/notes.proto"], &["proto"])
}
