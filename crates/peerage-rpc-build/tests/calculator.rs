//! From a `.proto` file to Rust: what is made, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::fs;
use std::path::Path;

use peerage_rpc_build::{BuildError, Builder, configure};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

fn as_in_the_golden_file() -> Builder {
    configure()
        .required("test.calculator.DivideRequest", ["dividend", "divisor"])
        .one_way("test.calculator.Calculator/Note")
        .nodes_only("test.calculator.Calculator/Sum")
        .accounts("test.calculator.Calculator/Reset", "super::may_reset")
}

fn compile(builder: Builder, out: &Path) -> Result<(), BuildError> {
    builder.out_dir(out).compile(&["calculator.proto"], &[PROTO])
}

/// Of a file that has this text, with all its services.
fn compile_text(builder: Builder, text: &str) -> Result<String, BuildError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.proto"), format!("syntax = \"proto3\"; package a; {text}")).unwrap();
    builder.out_dir(folder.path()).compile(&["a.proto"], &[folder.path()])?;
    Ok(fs::read_to_string(folder.path().join("a.rs")).unwrap())
}

#[test]
fn the_code_is_that_of_the_golden_files() {
    let out = tempfile::tempdir().unwrap();
    compile(as_in_the_golden_file(), out.path()).unwrap();
    for name in ["test.calculator.rs", "test.shared.rs"] {
        let (made, golden) = (out.path().join(name), Path::new(GOLDEN).join(name));
        if std::env::var_os("PEERAGE_WRITE_GOLDEN").is_some() {
            fs::copy(&made, &golden).unwrap();
        }
        let (made, golden) = (fs::read_to_string(made).unwrap(), fs::read_to_string(golden).unwrap());
        let differs = made.lines().zip(golden.lines()).position(|(made, golden)| made != golden);
        assert!(
            made == golden,
            "{name} differs from line {:?} on; if that is meant: PEERAGE_WRITE_GOLDEN=1 cargo test -p peerage-rpc-build",
            differs.map(|at| at + 1)
        );
    }
}

#[test]
fn the_same_file_gives_the_same_code() {
    let made = || {
        let out = tempfile::tempdir().unwrap();
        compile(as_in_the_golden_file(), out.path()).unwrap();
        fs::read_to_string(out.path().join("test.calculator.rs")).unwrap()
    };
    assert_eq!(made(), made());
}

#[test]
fn what_is_said_of_a_service_counts_for_all_of_its_methods() {
    let text = "message Q {} service S { rpc A(Q) returns (Q); rpc B(Q) returns (stream Q); }";
    let code = compile_text(configure().nodes_only("a.S"), text).unwrap();
    assert_eq!(code.matches(".nodes_only()").count(), 2, "{code}");
}

#[test]
fn an_option_that_fits_nothing_is_refused_by_its_name() {
    let out = tempfile::tempdir().unwrap();
    let refused = |builder: Builder| compile(builder, out.path()).unwrap_err();
    let method = "test.calculator.Calculator/Multiply";
    assert_eq!(refused(configure().one_way(method)), BuildError::UnknownMethod { name: method.to_owned() });
    assert_eq!(
        refused(configure().nodes_only(method)),
        BuildError::UnknownMethod { name: method.to_owned() }
    );
    assert_eq!(
        refused(configure().accounts(method, "f")),
        BuildError::UnknownMethod { name: method.to_owned() }
    );
    let message = "test.calculator.Product";
    assert_eq!(
        refused(configure().required(message, ["a"])),
        BuildError::UnknownMessage { name: message.to_owned() }
    );
    let error = refused(configure().required("test.calculator.DivideRequest", ["remainder"]));
    assert_eq!(error.to_string(), "`test.calculator.DivideRequest` has no field `remainder`");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "nothing is written");
}

#[test]
fn a_required_field_must_be_one_whose_absence_can_be_told() {
    let text =
        "message Q { uint64 plain = 1; optional uint64 told = 2; repeated uint64 list = 3; Q inner = 4; }
        service S { rpc A(Q) returns (Q); }";
    let error = compile_text(configure().required("a.Q", ["plain"]), text).unwrap_err();
    assert!(error.to_string().contains("declare it `optional`"), "{error}");
    let code = compile_text(configure().required("a.Q", ["inner", "told", "list"]), text).unwrap();
    assert!(code.contains(r#".required(&[(2, "told"), (3, "list"), (4, "inner")])"#), "{code}");
}

#[test]
fn only_a_method_that_takes_one_message_and_returns_none_can_be_one_way() {
    for method in ["Divide", "Tail", "Sum", "Echo"] {
        let method = format!("test.calculator.Calculator/{method}");
        let out = tempfile::tempdir().unwrap();
        let error = compile(configure().one_way(&method), out.path()).unwrap_err();
        assert_eq!(error, BuildError::NotOneWay { method });
    }
}

#[test]
fn names_that_cannot_be_are_refused_before_rust_says_so() {
    let long = "M".repeat(130);
    let text = format!("message Q {{}} service S {{ rpc {long}(Q) returns (Q); }}");
    let error = compile_text(configure(), &text).unwrap_err();
    assert_eq!(error, BuildError::NameTooLong { name: format!("a.S/{long}") });
    let text = "message SClient {} service S { rpc A(SClient) returns (SClient); }";
    let error = compile_text(configure(), text).unwrap_err();
    assert_eq!(error, BuildError::NameTaken { name: "a.SClient".to_owned(), service: "a.S".to_owned() });
}

#[test]
fn a_fault_in_a_file_is_told_with_its_place() {
    let error = compile_text(configure(), "service S { rpc A(Nothing) returns (Nothing); }").unwrap_err();
    let (shown, debug) = (error.to_string(), format!("{error:?}"));
    assert!(shown.contains("a.proto:1:") && shown.contains("Nothing"), "{shown}");
    assert_eq!(shown, debug, "cargo shows the debug form");
    let out = tempfile::tempdir().unwrap();
    let error = configure().out_dir(out.path()).compile(&["nowhere.proto"], &[PROTO]).unwrap_err();
    assert!(error.to_string().contains("nowhere.proto"), "{error}");
}

#[test]
fn the_facade_can_be_where_the_code_looks_for_rpc() {
    let text = "message Q {} service S { rpc A(Q) returns (Q); }";
    let code = compile_text(configure().rpc_path("::peerage::rpc"), text).unwrap();
    assert!(code.contains("::peerage::rpc::Target") && !code.contains("::peerage_rpc"), "{code}");
}

#[test]
fn the_generator_serves_a_configuration_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = protox::Compiler::new([PROTO]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_file("calculator.proto").unwrap();
    let generator = as_in_the_golden_file().generator(&compiler.descriptor_pool()).unwrap();
    prost_build::Config::new()
        .out_dir(folder.path())
        .service_generator(Box::new(generator))
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();
    let made = fs::read_to_string(folder.path().join("test.calculator.rs")).unwrap();
    assert!(made.contains("pub struct CalculatorClient"), "{made}");
}
